/** Endpoints about the process itself. */
import { nodeJson } from './node_json.ts';
import { VERSION } from '../version.ts';
import { type AdminEndpoint, json, text } from './state.ts';

type Answer = AdminEndpoint['answer'];

const get = (path: string, help: string, answer: Answer, parameters = {}): AdminEndpoint => ({
  path,
  help,
  parameters,
  mutates: false,
  answer,
});
const post = (path: string, help: string, answer: Answer, parameters = {}): AdminEndpoint => ({
  path,
  help,
  parameters,
  mutates: true,
  answer,
});

export const serverEndpoints: readonly AdminEndpoint[] = [
  get('/ready', 'print server state, return 200 if LIVE, otherwise return 503', (state) =>
    text(`${state.state()}\n`, state.state() === 'LIVE' ? 200 : 503),
  ),
  get('/server_info', 'print server version/status information', (state) => {
    const uptime = `${Math.floor((Date.now() - state.startedMs) / 1000)}s`;
    return json({
      version: `pillion/${VERSION}/Clean/RELEASE/OpenSSL-${process.versions.openssl}`,
      state: state.state(),
      uptime_current_epoch: uptime,
      uptime_all_epochs: uptime,
      hot_restart_version: 'disabled',
      command_line_options: state.options.commandLine,
      node: nodeJson(state.options),
    });
  }),
  get('/memory', 'print current allocation/heap usage', () => {
    const { heapUsed, heapTotal, rss, external, arrayBuffers } = process.memoryUsage();
    return json({
      allocated: String(heapUsed + external),
      heap_size: String(heapTotal + external),
      pageheap_unmapped: '0',
      pageheap_free: String(heapTotal - heapUsed),
      total_thread_cache: String(arrayBuffers),
      total_physical_bytes: String(rss),
    });
  }),
  get('/runtime', 'print runtime values', ({ runtime }) => json(runtime.dump())),
  {
    ...post(
      '/runtime_modify',
      'Adds or modifies runtime values as passed in query parameters',
      ({ runtime, runtimeChanged }, query) => {
        if (query.size === 0)
          return text(
            'usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n       or send the parameters as form values\nuse an empty value to remove a previously added override',
            400,
          );
        const refusal = runtime.modify(query);
        if (refusal === undefined) runtimeChanged();
        return refusal === undefined ? text('OK\n') : text(refusal, 503);
      },
      { 'key1=value1': 'To delete a previously added key, use an empty string as the value' },
    ),
    takesForm: true,
  },
  get(
    '/init_dump',
    'dump current Envoy init manager information (experimental)',
    (state) => {
      const names = state.unready();
      if (names.length === 0) return json({});
      return json({ unready_targets_dumps: [{ name: 'init manager Server', target_names: names }] });
    },
    { mask: 'The desired component to dump unready targets' },
  ),
  get('/hot_restart_version', 'print the hot restart compatibility version', () => text('disabled')),
  get('/contention', 'dump current Envoy mutex contention stats (if enabled)', () =>
    text('Mutex contention tracing is not enabled: no thread here waits for another.'),
  ),
  post('/healthcheck/fail', 'cause the server to fail health checks', (state) => {
    state.failHealth(true);
    return text('OK\n');
  }),
  post('/healthcheck/ok', 'cause the server to pass health checks', (state) => {
    state.failHealth(false);
    return text('OK\n');
  }),
  post(
    '/drain_listeners',
    'drain listeners',
    (state, query) => {
      const graceful = query.has('graceful');
      const skipExit = query.has('skip_exit');
      if (skipExit && !graceful) return text('skip_exit requires graceful\n', 400);
      state.drain(query.has('inboundonly') ? 'inbound' : 'all', { graceful, skipExit });
      return text('OK\n');
    },
    {
      graceful: 'enter a graceful drain period prior to closing listeners',
      inboundonly: 'drain only inbound listeners',
      skip_exit: 'with graceful: listeners go on accepting when the drain period is over',
    },
  ),
  post('/reset_counters', 'reset all counters to zero', (state) => {
    state.aggregate.resetCounters();
    return text('OK\n');
  }),
  post('/reopen_logs', 'reopen access logs', (state) => {
    state.reopenLogs();
    return text('OK\n');
  }),
  post('/quitquitquit', 'exit the server', (state) => {
    setImmediate(() => state.quit());
    return text('OK\n');
  }),
];

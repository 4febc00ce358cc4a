/** Endpoints about the process itself. */
import { parseLogLevel } from '../telemetry/logger.ts';
import { type AdminEndpoint, json, text } from './state.ts';

export const VERSION = '0.1.0';

const get = (path: string, help: string, answer: AdminEndpoint['answer']): AdminEndpoint => ({
  path,
  help,
  mutates: false,
  answer,
});
const post = (path: string, help: string, answer: AdminEndpoint['answer']): AdminEndpoint => ({
  path,
  help,
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
      version: `pillion/${VERSION}/node-${process.versions.node}`,
      state: state.state(),
      hot_restart_version: 'disabled',
      command_line_options: state.options.commandLine,
      node: { id: state.options.node.id, cluster: state.options.node.cluster },
      uptime_current_epoch: uptime,
      uptime_all_epochs: uptime,
    });
  }),
  get('/memory', 'print current allocation/heap usage', () => {
    const { heapUsed, rss, heapTotal, external } = process.memoryUsage();
    return json({
      allocated: String(heapUsed),
      heap_size: String(rss),
      total_physical_bytes: String(heapTotal),
      total_thread_cache: String(external),
    });
  }),
  get('/certs', 'print certs on machine', () => json({ certificates: [] })),
  get('/runtime', 'print runtime values', () => json({ layers: [], entries: {} })),
  get('/init_dump', 'dump current Envoy init manager information', () => json({})),
  get('/hot_restart_version', 'print the hot restart compatibility version', () => text('disabled\n')),
  post(
    '/logging',
    'query or change logging levels (?level=LEVEL, ?paths=NAME:LEVEL,…, ?NAME=LEVEL)',
    (state, query) => {
      const wanted: (readonly [component: string | undefined, level: string])[] = [];
      for (const [name, value] of query) {
        if (name === 'level') wanted.push([undefined, value]);
        else if (name !== 'paths') wanted.push([name, value]);
        else for (const pair of value.split(',')) wanted.push([pair.split(':')[0] ?? '', pair.split(':')[1] ?? '']);
      }
      const parsed = wanted.map(([component, level]) => [component, parseLogLevel(level)] as const);
      if (parsed.some(([, level]) => level === undefined)) {
        return text('error: unknown logger level; wanted are trace, debug, info, warning, error, critical, off\n', 400);
      }
      for (const [component, level] of parsed) if (level !== undefined) state.setLogLevel(level, component);
      const levels = [...(state.options.log.levels?.() ?? [])];
      return text(
        `active loggers:\n${levels.map(([name, level]) => `  ${name || 'all others'}: ${level}\n`).join('')}`,
      );
    },
  ),
  post('/healthcheck/fail', 'cause the server to fail health checks', (state) => {
    state.failHealth(true);
    return text('OK\n');
  }),
  post('/healthcheck/ok', 'cause the server to pass health checks', (state) => {
    state.failHealth(false);
    return text('OK\n');
  }),
  post('/drain_listeners', 'drain listeners (?graceful)', (state, query) => {
    state.drain(!query.has('graceful'));
    return text('OK\n');
  }),
  post('/reset_counters', 'reset all counters to zero', (state) => {
    state.aggregate.resetCounters();
    return text('OK\n');
  }),
  post('/quitquitquit', 'exit the server', (state) => {
    setImmediate(() => state.quit());
    return text('OK\n');
  }),
];

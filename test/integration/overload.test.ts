/** Too much to do: requests are answered 503 (OM), connections close or are refused, the admin goes on, and it ends by itself. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { unsupportedPart } from '../../config/bootstrap_support.ts';
import {
  createOverloadMemory,
  setLevel,
  setTimerMinimums,
  ThreadOverload,
} from '../../proxy/overload/overload_state.ts';
import type { Breaker } from '../../proxy/upstream/circuit_breakers.ts';
import { shedHeavy } from '../../proxy/overload/heavy_streams.ts';
import { parseOverload } from '../../proxy/overload/overload_config.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { Pressure } from '../support/pressure.ts';
import { answering, RawClient, RawUpstream } from '../support/raw_peers.ts';
import { LogFile, startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';

const MONITORS = 'type.googleapis.com/envoy.extensions.resource_monitors';

const action = (name: string, trigger: Json): Json => ({
  name: `envoy.overload_actions.${name}`,
  triggers: [{ name: 'pressure', ...trigger }],
});

/** A proxy whose pressure a file says. */
async function start(t: Scope, actions: readonly Json[], more: readonly Json[] = [], manager: Json = {}, route?: Json) {
  const pressure = new Pressure(t);
  const press = (value: number): void => pressure.set(value);
  const log = new LogFile(t);
  const upstream = await RawUpstream.start(t, answering());
  const silent = await RawUpstream.start(t, () => {});
  const proxy = await startTestProxy(
    t,
    [
      httpListener({
        routes: routeConfig([
          ...(route === undefined ? [] : [route]),
          { match: { prefix: '/' }, route: { cluster: 'up' } },
        ]),
        manager: { access_log: [log.config('%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n')] },
      }),
      staticCluster('up', [upstream.port]),
      staticCluster('silent', [silent.port]),
    ],
    {
      concurrency: 2,
      overloadConfig: parseOverload(
        {
          ...manager,
          refresh_interval: '0.02s',
          resource_monitors: [...pressure.monitors, ...more],
          actions,
        },
        undefined,
      ),
    },
  );
  const ask = async (): Promise<string> => {
    try {
      const response = await fetch(`http://127.0.0.1:${proxy.port()}/`);
      return `${response.status} ${await response.text()} ${response.headers.get('connection')}`;
    } catch {
      return 'refused';
    }
  };
  const until = async (wanted: RegExp): Promise<string> => {
    for (let i = 0; i < 3000; i++) {
      const answer = await ask();
      if (wanted.test(answer)) return answer;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    throw new Error(`never ${wanted}`);
  };
  return { proxy, press, ask, until, log, silent };
}

test('requests are answered 503 with OM, their connections close, the admin answers, and it ends by itself', async (t) => {
  const { proxy, press, ask, until, log } = await start(t, [
    action('stop_accepting_requests', { threshold: { value: 0.9 } }),
  ]);
  assert.match(await ask(), /^200 ok /);
  press(0.95);
  assert.equal(await until(/^503/), '503 envoy overloaded close');
  const admin = proxy.running.addresses.get('admin');
  assert.equal((await fetch(`http://127.0.0.1:${admin?.port}/ready`)).status, 200);
  assert.equal(proxy.value('overload.envoy.overload_actions.stop_accepting_requests.active'), 1);
  press(0.5);
  await until(/^200 ok/);
  const lines = await log.lines(3);
  assert.ok(lines.includes('503 OM overload'), lines.join());
});

test('a scaled trigger sheds a share', async (t) => {
  const { press, ask, until } = await start(t, [
    action('stop_accepting_requests', { scaled: { scaling_threshold: 0.5, saturation_threshold: 1 } }),
  ]);
  press(0.75);
  await until(/^503/);
  let shed = 0;
  for (let i = 0; i < 100; i++) if ((await ask()).startsWith('503')) shed++;
  assert.ok(shed > 20 && shed < 80, `${shed} of 100`);
});

test('connections close after their responses', async (t) => {
  const { press, until } = await start(t, [action('disable_http_keepalive', { threshold: { value: 0.9 } })]);
  press(1);
  assert.equal(await until(/close$/), '200 ok close');
});

test('connections are refused, and then taken again', async (t) => {
  const { proxy, press, until } = await start(t, [
    action('disable_http_keepalive', { threshold: { value: 0.5 } }),
    action('reject_incoming_connections', { threshold: { value: 0.9 } }),
  ]);
  press(1);
  await until(/^refused/);
  press(0);
  await until(/^200 ok/);
  assert.equal(proxy.errors.length, 0);
});

test('connections wait in the kernel while none are accepted, and are served afterwards, in order', async (t) => {
  const { proxy, press } = await start(t, [action('stop_accepting_connections', { threshold: { value: 0.9 } })]);
  const request = 'GET / HTTP/1.1\r\nhost: a\r\n\r\n';
  const before = new RawClient(t, proxy.port()).send(request);
  await before.until((received) => received.endsWith('ok'));
  press(1);
  const active = 'overload.envoy.overload_actions.stop_accepting_connections.active';
  await eventually('it is up', () => proxy.value(active) === 1);
  await proxy.counted();
  const waiting = Array.from({ length: 20 }, () => new RawClient(t, proxy.port()).send(request));
  // What was open goes on, and the admin answers; a thread that starts anew leaves the queue alone too.
  before.send(request);
  await before.until((received) => received.split('ok').length === 3);
  const admin = proxy.running.addresses.get('admin');
  assert.equal((await fetch(`http://127.0.0.1:${admin?.port}/ready`)).status, 200);
  await proxy.running.threads.kill(0);
  await eventually(
    'both threads are there',
    async () => ((await proxy.running.threads.describe()) as unknown[]).length === 2,
  );
  assert.deepEqual(
    waiting.map(({ received, closed }) => `${received} ${closed}`),
    waiting.map(() => ' false'),
  );
  press(0);
  for (const client of waiting) await client.until((received) => received.endsWith('ok'));
  assert.deepEqual(proxy.errors, []);
});

test('no more connections than global_downstream_max_connections, over both threads', async (t) => {
  const { proxy, ask } = await start(
    t,
    [],
    [
      {
        name: 'envoy.resource_monitors.global_downstream_max_connections',
        typed_config: {
          '@type': `${MONITORS}.downstream_connections.v3.DownstreamConnectionsConfig`,
          max_active_downstream_connections: '4',
        },
      },
    ],
  );
  const clients = Array.from({ length: 8 }, () =>
    new RawClient(t, proxy.port()).send('GET / HTTP/1.1\r\nhost: a\r\n\r\n'),
  );
  const answers = await Promise.all(
    clients.map((client) =>
      client
        .until((received) => received.endsWith('ok'))
        .then(
          () => 'served',
          () => 'refused',
        ),
    ),
  );
  assert.equal(answers.filter((answer) => answer === 'served').length, 4);
  for (const client of clients) client.socket.destroy();
  await eventually('there is room again', async () => (await ask()).startsWith('200 ok'));
});

const SCALES = 'type.googleapis.com/envoy.config.overload.v3.ScaleTimersOverloadActionConfig';

/** `factors`: timers and how short they may become. */
const reducing = (factors: readonly Json[], trigger: Json = { threshold: { value: 0.9 } }): Json => ({
  ...action('reduce_timeouts', trigger),
  typed_config: { '@type': SCALES, timer_scale_factors: factors },
});

test('timeouts become shorter, for connections that are open too, and long again', async (t) => {
  // An hour is what Envoy has by itself: half of what remains of it is more than a test may take.
  const { proxy, press } = await start(t, [
    reducing([{ timer: 'HTTP_DOWNSTREAM_CONNECTION_IDLE', min_timeout: '0.05s' }]),
  ]);
  const request = 'GET / HTTP/1.1\r\nhost: a\r\n\r\n';
  const idle = new RawClient(t, proxy.port()).send(request);
  await idle.until((received) => received.endsWith('ok'));
  assert.equal(idle.closed, false);
  press(1);
  await idle.toEnd();
  await proxy.counted();
  assert.equal(proxy.value('http.test.downstream_cx_idle_timeout'), 1);
  press(0);
  const active = 'overload.envoy.overload_actions.reduce_timeouts.active';
  await eventually('it is over', () => proxy.value(active) === 0);
  await proxy.counted();
  const later = new RawClient(t, proxy.port()).send(request);
  await later.until((received) => received.endsWith('ok'));
  later.send(request);
  await later.until((received) => received.split('ok').length === 3);
  assert.equal(proxy.value('http.test.downstream_cx_idle_timeout'), 1);
});

test('a timeout between its least and what is configured goes with the pressure', () => {
  const memory = createOverloadMemory();
  const thread = new ThreadOverload(memory, 0, {} as Breaker, Math.random, () => ({ inc() {}, add() {} }));
  const { timerMinimums } = parseOverload(
    {
      resource_monitors: new Pressure({ after: () => {} }).monitors,
      actions: [
        reducing([
          { timer: 'HTTP_DOWNSTREAM_STREAM_IDLE', min_scale: { value: 20 } },
          { timer: 'TRANSPORT_SOCKET_CONNECT', min_timeout: '2s' },
        ]),
      ],
    },
    undefined,
  );
  setTimerMinimums(memory, timerMinimums);
  const times = () =>
    (
      [
        ['http_downstream_stream_idle', 1000],
        ['transport_socket_connect', 10_000],
        // Shorter than the least already.
        ['transport_socket_connect', 1000],
        ['http_downstream_connection_max', 1000],
      ] as const
    ).map(([timer, ms]) => thread.timeoutMs(timer, ms));
  assert.deepEqual(times(), [1000, 10_000, 1000, 1000]);
  setLevel(memory, 'reduce_timeouts', 0.5);
  assert.deepEqual(times(), [600, 6000, 1000, 1000]);
  setLevel(memory, 'reduce_timeouts', 1);
  assert.deepEqual(times(), [200, 2000, 1000, 1000]);
});

for (const [says, factors, wanted] of [
  ['no timer', [], /timer_scale_factors: at least one is required/],
  ['a timer without a minimum', [{ timer: 'TRANSPORT_SOCKET_CONNECT' }], /one of min_timeout, min_scale is required/],
  ['an unknown timer', [{ timer: 'UNSPECIFIED', min_timeout: '1s' }], /the timer UNSPECIFIED is not supported/],
  [
    'a timer twice',
    [
      { timer: 'TRANSPORT_SOCKET_CONNECT', min_timeout: '1s' },
      { timer: 'TRANSPORT_SOCKET_CONNECT', min_timeout: '2s' },
    ],
    /timer: stands twice/,
  ],
] as const) {
  test(`reduce_timeouts with ${says} is refused`, () => {
    const { sentence } = unsupportedPart({ overload_manager: { actions: [reducing(factors)] } }) ?? {};
    assert.match(sentence ?? '', wanted);
  });
}

/** Streams, and which of them are shed at this pressure. */
function shedOf(bytes: readonly number[], level: number): number[] {
  const shed: number[] = [];
  const ended = shedHeavy(
    bytes.map((heldBytes) => ({ heldBytes, shed: () => void shed.push(heldBytes) })),
    10,
    level,
  );
  assert.equal(ended, shed.length);
  return shed;
}

test('the more pressure, the more classes of streams end, the heaviest first, fifty at a time', () => {
  // Classes begin at 1 KB, 2 KB, 4 KB … 128 KB.
  const bytes = [500, 1024, 5000, 200_000, 131_072, 130_000];
  assert.deepEqual(shedOf(bytes, 0.01), [200_000, 131_072]);
  assert.deepEqual(shedOf(bytes, 0.125), [200_000, 131_072, 130_000]);
  assert.deepEqual(shedOf(bytes, 0.7), [200_000, 131_072, 130_000, 5000]);
  assert.deepEqual(shedOf(bytes, 1), [200_000, 131_072, 130_000, 5000, 1024]);
  assert.equal(shedOf(new Array<number>(80).fill(4096), 1).length, 50);
});

test('under pressure the stream that holds a large body ends with 503, others go on', async (t) => {
  const { proxy, press, silent } = await start(
    t,
    [action('reset_high_memory_stream', { threshold: { value: 0.9 } })],
    [],
    { buffer_factory_config: { minimum_account_to_track_power_of_two: 15 } },
    // What may have to be sent again is kept until there is an answer.
    { match: { prefix: '/held' }, route: { cluster: 'silent', retry_policy: { retry_on: '5xx' } } },
  );
  const held = new RawClient(t, proxy.port()).send(
    `POST /held HTTP/1.1\r\nhost: a\r\ncontent-length: 60000\r\n\r\n${'x'.repeat(50_000)}`,
  );
  const light = new RawClient(t, proxy.port()).send('POST /held HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc');
  await eventually('both are sent', () => silent.received.join('').length > 50_000 && silent.received.length === 2);
  press(1);
  assert.match(await held.toEnd(), /^HTTP\/1.1 503 .*connection: close.*envoy overloaded$/s);
  await proxy.counted();
  assert.equal(proxy.value('envoy.overload_actions.reset_high_memory_stream.count'), 1);
  assert.equal(light.received, '');
  assert.equal(proxy.value('cluster.silent.upstream_rq_active'), 1);
});

test('streams are not to be reset without the size that they are tracked from', () => {
  const actions = [action('reset_high_memory_stream', { threshold: { value: 0.9 } })];
  const monitors = new Pressure({ after: () => {} }).monitors;
  assert.match(
    unsupportedPart({ overload_manager: { resource_monitors: monitors, actions } })?.sentence ?? '',
    /buffer_factory_config: minimum_account_to_track_power_of_two is required/,
  );
});

test('a listener that bypasses the overload manager takes all', async (t) => {
  const pressure = new Pressure(t);
  const upstream = await RawUpstream.start(t, answering());
  const listener = httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]) });
  const proxy = await startTestProxy(
    t,
    [{ ...listener, json: { ...listener.json, bypass_overload_manager: true } }, staticCluster('up', [upstream.port])],
    {
      overloadConfig: parseOverload(
        {
          refresh_interval: '0.02s',
          resource_monitors: pressure.monitors,
          actions: ['stop_accepting_requests', 'stop_accepting_connections', 'reject_incoming_connections'].map(
            (name) => action(name, { threshold: { value: 0.9 } }),
          ),
        },
        undefined,
      ),
    },
  );
  pressure.set(1);
  await eventually('it is up', () => proxy.value('overload.pressure.pressure') === 100);
  await proxy.counted();
  const response = await fetch(`http://127.0.0.1:${proxy.port()}/`);
  assert.equal(`${response.status} ${await response.text()} ${response.headers.get('connection')}`, '200 ok null');
});

test('what is not executed is refused by name, and a memory limit alone is enough', () => {
  const monitor = (type: string, config: Json = {}): Json => ({
    overload_manager: {
      resource_monitors: [{ name: 'm', typed_config: { '@type': `${MONITORS}.${type}`, ...config } }],
    },
  });
  assert.match(
    unsupportedPart(monitor('cpu_utilization.v3.CpuUtilizationConfig'))?.sentence ?? '',
    /cpu_utilization.*not supported/,
  );
  assert.equal(
    unsupportedPart(monitor('fixed_heap.v3.FixedHeapConfig', { max_heap_size_bytes: '1000000' })),
    undefined,
  );
  assert.match(
    unsupportedPart(monitor('fixed_heap.v3.FixedHeapConfig', { max_heap_size_bytes: '-5' }))?.sentence ?? '',
    /must be >= 1, got -5/,
  );
  assert.match(
    unsupportedPart({
      overload_manager: { actions: [{ name: 'envoy.overload_actions.mine', triggers: [] }] },
    })?.sentence ?? '',
    /overload_actions.mine" is not supported/,
  );
  assert.equal(
    unsupportedPart({ overload_manager: { loadshed_points: [{ name: 'envoy.load_shed_points.mine' }] } })?.sentence,
    'overload_manager.loadshed_points[0].name: load shed point "envoy.load_shed_points.mine" is not supported',
  );
  assert.equal(
    unsupportedPart({ overload_manager: { actions: [{ name: 'envoy.overload_actions.shrink_heap', triggers: [] }] } }),
    undefined,
  );
  assert.deepEqual(
    parseOverload(undefined, 1000).triggers.map(({ signal, from }) => [signal, from]),
    [
      ['disable_http_keepalive', 0.92],
      ['stop_accepting_requests', 0.95],
      ['reject_incoming_connections', 0.98],
    ],
  );
  assert.deepEqual(parseOverload(undefined, undefined).triggers, []);
});

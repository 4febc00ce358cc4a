/** Hosts that fail are left out, and come back: what all threads saw of them counts together. */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { test } from 'node:test';
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { RawClient } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { SwitchedUpstream } from '../support/switched_upstream.ts';
import { eventually } from '../support/eventually.ts';
import { REFUSED_PORT } from '../support/free_port.ts';

const QUICK = { interval: '0.05s', base_ejection_time: '0.2s', max_ejection_percent: 100, consecutive_5xx: 3 };

function resources(ports: readonly number[], outlier: Json, more: Json = {}): Resource[] {
  return [
    httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]) }),
    staticCluster('up', ports, {
      outlier_detection: outlier,
      common_lb_config: { healthy_panic_threshold: {} },
      ...more,
    }),
  ];
}

/** Which upstreams answered `count` requests, each on a connection of its own so that all threads serve. */
async function ask(proxy: TestProxy, count: number): Promise<string[]> {
  const answers: string[] = [];
  for (let i = 0; i < count; i++) {
    const response = await fetch(`http://127.0.0.1:${proxy.port()}/`, { headers: { connection: 'close' } });
    answers.push(`${response.status} ${await response.text()}`);
  }
  return answers;
}

const stat = (proxy: TestProxy, name: string): number => proxy.value(`cluster.up.outlier_detection.${name}`);

async function start(t: Scope, names: string, outlier: Json, options: { concurrency?: number; more?: Json } = {}) {
  const upstreams = await Promise.all([...names].map((name) => SwitchedUpstream.start(t, name)));
  const proxy = await startTestProxy(
    t,
    resources(
      upstreams.map(({ port }) => port),
      outlier,
      options.more,
    ),
    { concurrency: options.concurrency ?? 1 },
  );
  return { upstreams, proxy };
}

for (const concurrency of [1, 2]) {
  test(`a host that fails three times in a row is left out (${concurrency} threads)`, async (t) => {
    const { upstreams, proxy } = await start(t, 'abc', { ...QUICK, base_ejection_time: '30s' }, { concurrency });
    assert.equal((await ask(proxy, 6)).filter((answer) => answer.startsWith('200')).length, 6);
    const [a] = upstreams as [SwitchedUpstream];
    a.status = 500;
    await ask(proxy, 18);
    await eventually('it is ejected', () => stat(proxy, 'ejections_active') === 1);
    a.status = 200;
    const answers = await ask(proxy, 9);
    assert.deepEqual([...new Set(answers)].sort(), ['200 b', '200 c']);
    assert.equal(stat(proxy, 'ejections_enforced_consecutive_5xx'), 1);
  });

  test(`a host that was left out comes back (${concurrency} threads)`, async (t) => {
    const { upstreams, proxy } = await start(t, 'abc', QUICK, { concurrency });
    const [a] = upstreams as [SwitchedUpstream];
    a.status = 500;
    await eventually('it is ejected', async () => {
      await ask(proxy, 3);
      return stat(proxy, 'ejections_enforced_consecutive_5xx') > 0;
    });
    a.status = 200;
    await eventually('it is back', async () => (await ask(proxy, 3)).includes('200 a'));
    await eventually('nobody is out', () => stat(proxy, 'ejections_active') === 0);
  });
}

test('failures that answers come between eject nobody', async (t) => {
  const { upstreams, proxy } = await start(t, 'a', QUICK);
  const [a] = upstreams as [SwitchedUpstream];
  for (let i = 0; i < 12; i++) {
    a.status = i % 3 === 2 ? 200 : 503;
    await ask(proxy, 1);
  }
  assert.equal(stat(proxy, 'ejections_detected_consecutive_5xx'), 0);
});

test('when every host is out and panic is off, the answer is 503 UH', async (t) => {
  const { upstreams, proxy } = await start(t, 'ab', { ...QUICK, base_ejection_time: '30s' });
  for (const upstream of upstreams) upstream.status = 500;
  await ask(proxy, 12);
  await eventually('all are ejected', () => stat(proxy, 'ejections_active') === 2);
  assert.deepEqual(await ask(proxy, 1), ['503 no healthy upstream']);
});

test('the default of 10 % ejects none of three hosts, and counts that', async (t) => {
  const { upstreams, proxy } = await start(t, 'abc', { consecutive_5xx: 2 });
  (upstreams[0] as SwitchedUpstream).status = 500;
  await ask(proxy, 12);
  await eventually('it was refused', () => stat(proxy, 'ejections_overflow') > 0);
  assert.equal(stat(proxy, 'ejections_active'), 0);
});

test('always_eject_one_host ejects one whatever the share', async (t) => {
  const { upstreams, proxy } = await start(t, 'abc', { consecutive_5xx: 2, always_eject_one_host: true });
  for (const upstream of upstreams) upstream.status = 500;
  await ask(proxy, 12);
  await eventually('one is out', () => stat(proxy, 'ejections_active') === 1);
  await eventually('the others were refused', () => stat(proxy, 'ejections_overflow') > 0);
});

test('gateway failures count by themselves, and are not enforced unless asked for', async (t) => {
  const { upstreams, proxy } = await start(t, 'ab', {
    ...QUICK,
    consecutive_5xx: 0,
    consecutive_gateway_failure: 2,
    enforcing_consecutive_gateway_failure: 100,
    base_ejection_time: '30s',
  });
  const [a] = upstreams as [SwitchedUpstream];
  a.status = 500;
  await ask(proxy, 10);
  assert.equal(stat(proxy, 'ejections_active'), 0);
  a.status = 503;
  await ask(proxy, 8);
  await eventually('it is ejected', () => stat(proxy, 'ejections_enforced_consecutive_gateway_failure') === 1);
});

test('connections that are refused count as 5xx, or by themselves where they are split', async (t) => {
  const deadPort = REFUSED_PORT;
  for (const [outlier, name] of [
    [QUICK, 'consecutive_5xx'],
    [
      { ...QUICK, split_external_local_origin_errors: true, consecutive_local_origin_failure: 2 },
      'consecutive_local_origin_failure',
    ],
  ] as const) {
    const alive = await SwitchedUpstream.start(t, 'a');
    const proxy = await startTestProxy(t, resources([alive.port, deadPort], { ...outlier, base_ejection_time: '30s' }));
    await ask(proxy, 10);
    await eventually(`${name} ejected it`, () => stat(proxy, `ejections_enforced_${name}`) === 1);
    assert.deepEqual([...new Set(await ask(proxy, 6))], ['200 a']);
  }
});

test('a gRPC status in trailers-only answers counts', async (t) => {
  const { upstreams, proxy } = await start(t, 'ab', { ...QUICK, base_ejection_time: '30s' });
  (upstreams[0] as SwitchedUpstream).headers = { 'content-type': 'application/grpc', 'grpc-status': '14' };
  await ask(proxy, 12);
  await eventually('it is ejected', () => stat(proxy, 'ejections_active') === 1);
});

test('a failure percentage ejects who fails more than the others', async (t) => {
  const { upstreams, proxy } = await start(t, 'abc', {
    ...QUICK,
    consecutive_5xx: 1000,
    interval: '1s',
    base_ejection_time: '30s',
    enforcing_success_rate: 0,
    enforcing_failure_percentage: 100,
    failure_percentage_threshold: 60,
    failure_percentage_minimum_hosts: 3,
    failure_percentage_request_volume: 5,
  });
  const a = upstreams[0] as SwitchedUpstream;
  let turn = 0;
  a.next = () => (turn++ % 4 === 3 ? 200 : 500);
  await eventually('it is ejected', async () => {
    await Promise.all([1, 2, 3, 4, 5, 6].map(() => ask(proxy, 1)));
    return stat(proxy, 'ejections_enforced_failure_percentage') === 1;
  });
});

test('a thread that takes a dead one’s place knows who is out', async (t) => {
  const { upstreams, proxy } = await start(t, 'ab', { ...QUICK, base_ejection_time: '30s' });
  (upstreams[0] as SwitchedUpstream).status = 500;
  await ask(proxy, 10);
  await eventually('it is ejected', () => stat(proxy, 'ejections_active') === 1);
  await proxy.running.threads.kill(0);
  await eventually('another serves', async () => (await ask(proxy, 1).catch(() => []))[0] === '200 b');
  assert.deepEqual([...new Set(await ask(proxy, 8))], ['200 b']);
});

test('TCP connections that fail eject their host', async (t) => {
  const deadPort = REFUSED_PORT;
  const echo = createServer((socket) => socket.on('error', () => {}).end('hello')).listen(0, '127.0.0.1');
  await new Promise((resolve) => echo.once('listening', resolve));
  t.after(() => echo.close());
  const { port } = echo.address() as { port: number };
  const listener = httpListener({ routes: routeConfig([]) });
  const proxy = await startTestProxy(t, [
    {
      ...listener,
      json: {
        ...listener.json,
        filter_chains: [
          {
            filters: [
              {
                name: 'envoy.filters.network.tcp_proxy',
                typed_config: {
                  '@type': 'type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy',
                  stat_prefix: 'tcp',
                  cluster: 'up',
                  max_connect_attempts: 1,
                },
              },
            ],
          },
        ],
      },
    },
    staticCluster('up', [port, deadPort], { outlier_detection: { ...QUICK, base_ejection_time: '30s' } }),
  ]);
  const talk = (): Promise<string> => new RawClient(t, proxy.port()).toEnd();
  for (let i = 0; i < 10; i++) await talk();
  await eventually('it is ejected', () => stat(proxy, 'ejections_active') === 1);
  for (let i = 0; i < 6; i++) assert.equal(await talk(), 'hello');
});

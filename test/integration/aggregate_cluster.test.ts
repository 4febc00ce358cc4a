/** Aggregate clusters: the priorities of the members one after the other, and the member's own way to its hosts. */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { checkResource } from '../../config/build/check.ts';
import { readBootstrap } from '../../config/bootstrap.ts';
import type { Json, Resource } from '../../config/resources.ts';
import { parseDocuments } from '../../config/yaml_documents.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { startPushedProxy } from '../support/pushed_proxy.ts';
import { answering, exchange, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';
import { tcpListener } from '../support/tcp_resources.ts';
import { adsListener, get, routesTo } from '../support/xds_resources.ts';

const aggregate = (name: string, clusters: readonly string[], more: Json = {}): Json => ({
  name,
  lb_policy: 'CLUSTER_PROVIDED',
  cluster_type: {
    name: 'envoy.clusters.aggregate',
    typed_config: { '@type': 'type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig', clusters },
  },
  ...more,
});

const endpoint = (port: number, health = 'HEALTHY'): Json => ({
  endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } },
  health_status: health,
});

/** Hosts of each priority. */
const cluster = (name: string, ...priorities: readonly (readonly Json[])[]): Resource =>
  resource('cluster', {
    name,
    type: 'STATIC',
    load_assignment: {
      cluster_name: name,
      endpoints: priorities.map((lb_endpoints, priority) => ({ priority, lb_endpoints })),
    },
  });

const listener = (route: Json = {}): Resource =>
  httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'all', ...route } }]) });

async function upstreams(t: Scope, names: string): Promise<Record<string, number>> {
  const started = await Promise.all([...names].map((name) => RawUpstream.start(t, answering(name))));
  return Object.fromEntries(started.map(({ port }, index) => [[...names][index], port]));
}

/** How often each upstream answered, and each failure by status. */
async function ask(proxy: TestProxy, count: number): Promise<Record<string, number>> {
  const answers: Record<string, number> = {};
  for (let i = 0; i < count; i++) {
    const { status, body } = await get(proxy.port());
    const who = status === 200 ? body : String(status);
    answers[who] = (answers[who] ?? 0) + 1;
  }
  return answers;
}

test('all goes to the first member while it is healthy, to the next one as far as it is not', async (t) => {
  const { a, b, c } = (await upstreams(t, 'abc')) as { a: number; b: number; c: number };
  const members = (first: string, second: string): Resource[] => [
    listener(),
    resource('cluster', aggregate('all', ['one', 'missing', 'empty', 'two'])),
    staticCluster('empty', []),
    cluster('one', [endpoint(a, first)], [endpoint(b, second)]),
    cluster('two', [endpoint(c)]),
  ];
  const proxy = await startTestProxy(t, members('HEALTHY', 'HEALTHY'));
  assert.deepEqual(await ask(proxy, 10), { a: 10 });
  let settled = proxy.settled();
  proxy.set(members('UNHEALTHY', 'HEALTHY'));
  await settled;
  assert.deepEqual(await ask(proxy, 10), { b: 10 }, 'the next priority of the same member');
  settled = proxy.settled();
  proxy.set(members('UNHEALTHY', 'UNHEALTHY'));
  await settled;
  assert.deepEqual(await ask(proxy, 10), { c: 10 }, 'the next member');
  assert.equal(proxy.value('cluster.all.upstream_rq_200'), 30, 'answers are those of the cluster of the route');
  assert.equal(proxy.value('cluster.two.upstream_cx_total') > 0, true, 'connections are those of the member');
  assert.equal(proxy.value('cluster.all.upstream_cx_total'), 0);
});

test('load spills over by health', async (t) => {
  const { a, b } = (await upstreams(t, 'ab')) as { a: number; b: number };
  const half = [endpoint(a), ...[1, 2, 3].map((n) => endpoint(n, 'UNHEALTHY'))];
  const proxy = await startTestProxy(t, [
    listener(),
    resource('cluster', aggregate('all', ['one', 'two'])),
    resource('cluster', { ...cluster('one', half).json, common_lb_config: { healthy_panic_threshold: {} } }),
    cluster('two', [endpoint(b)]),
  ]);
  // One of four healthy, times 1.4: 35 % stay.
  const { a: stayed = 0, b: spilled = 0 } = await ask(proxy, 200);
  assert.equal(stayed + spilled, 200);
  assert.ok(stayed > 35 && stayed < 110, `${stayed} of 200 stayed`);
});

test('a retry that avoids priorities goes to another member', async (t) => {
  const { b } = (await upstreams(t, 'b')) as { b: number };
  const dead = createServer();
  const port = await new Promise<number>((resolve) => {
    dead.listen(0, '127.0.0.1', () => resolve((dead.address() as { port: number }).port));
  });
  await new Promise((resolve) => dead.close(resolve));
  const retry_policy = {
    retry_on: 'connect-failure',
    num_retries: 1,
    retry_priority: {
      name: 'envoy.retry_priorities.previous_priorities',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig',
        update_frequency: 1,
      },
    },
  };
  const proxy = await startTestProxy(t, [
    listener({ retry_policy }),
    resource('cluster', aggregate('all', ['one', 'two'])),
    cluster('one', [endpoint(port)]),
    cluster('two', [endpoint(b)]),
  ]);
  assert.deepEqual(await ask(proxy, 3), { b: 3 });
  assert.equal(proxy.value('cluster.all.upstream_rq_retry'), 3);
});

test('a member that ejects its hosts is left, and an aggregate may hold aggregates', async (t) => {
  const failing = await RawUpstream.start(t, (received, socket) => {
    if (received.endsWith('\r\n\r\n')) socket.end('HTTP/1.1 500 no\r\ncontent-length: 0\r\n\r\n');
  });
  const { b } = (await upstreams(t, 'b')) as { b: number };
  const proxy = await startTestProxy(t, [
    listener(),
    resource('cluster', aggregate('all', ['inner', 'two'])),
    resource('cluster', aggregate('inner', ['one'])),
    staticCluster('one', [failing.port], {
      outlier_detection: { consecutive_5xx: 2, interval: '0.05s', max_ejection_percent: 100 },
    }),
    cluster('two', [endpoint(b)]),
  ]);
  for (let i = 0; i < 200 && (await ask(proxy, 1))['b'] === undefined; i++);
  assert.deepEqual(await ask(proxy, 5), { b: 5 });
  assert.equal(proxy.value('cluster.one.outlier_detection.ejections_active'), 1);
});

test('TCP goes the same way', async (t) => {
  const echo = await RawUpstream.start(t, (_, socket) => void socket.end('tcp'));
  const proxy = await startTestProxy(t, [
    tcpListener('all'),
    resource('cluster', aggregate('all', ['one', 'two'])),
    cluster('one', [endpoint(1, 'UNHEALTHY')]),
    cluster('two', [endpoint(echo.port)]),
  ]);
  assert.equal(await exchange(t, proxy.port(), 'x'), 'tcp');
  await proxy.counted();
  assert.equal(proxy.value('cluster.two.upstream_cx_total'), 1);
});

test('nobody answers for members that are not there', async (t) => {
  const proxy = await startTestProxy(t, [listener(), resource('cluster', aggregate('all', ['nowhere']))]);
  assert.deepEqual(await ask(proxy, 1), { 503: 1 });
});

test('an aggregate without members, with itself or with a balancer of its own is refused by field', () => {
  const complaint = (json: Json): string => checkResource(resource('cluster', json))?.message ?? '';
  assert.match(complaint(aggregate('a', [])), /clusters: at least one is required/);
  assert.match(complaint(aggregate('a', ['b', 'a'])), /clusters: the cluster "a" cannot be a member of itself/);
  assert.match(complaint(aggregate('a', ['b'], { lb_policy: 'RANDOM' })), /lb_policy: must be CLUSTER_PROVIDED/);
});

test('a circle that pushes would close is refused, and what is served goes on', async (t) => {
  const { a } = (await upstreams(t, 'a')) as { a: number };
  const pushed = await startPushedProxy(t, {
    first: {
      clusters: [aggregate('x', ['y', 'web']), aggregate('y', ['z', 'web']), staticCluster('web', [a]).json],
      listeners: [adsListener('l', 'r')],
      routes: [routesTo('r', 'x')],
    },
  });
  const { ads, proxy } = pushed;
  await pushed.ready;
  await ads.until('the listener is there', () => proxy.running.addresses.has('l'));
  const [answer] = await ads.push({ clusters: [aggregate('z', ['x'])] });
  assert.match(answer?.error ?? '', /Cannot use cluster "z" .*: it would contain itself: z → x → y → z/);
  const [both] = await ads.push({ clusters: [aggregate('p', ['q']), aggregate('q', ['p'])] });
  assert.match(both?.error ?? '', /cluster "q".*q → p → q/);
  const [turned] = await ads.push({ clusters: [aggregate('y', ['web']), aggregate('z', ['x'])] });
  assert.equal(turned?.error, undefined, 'the other way round there is none');
  assert.equal((await get(proxy.port('l'))).body, 'a');
  assert.deepEqual(proxy.errors, []);
});

test('a circle in a bootstrap is refused with its place', async () => {
  const yaml = `static_resources:
  clusters:
  - ${JSON.stringify(aggregate('a', ['b']))}
  - ${JSON.stringify(aggregate('b', ['a']))}
`;
  const [document] = parseDocuments(yaml, 'boot.yaml');
  if (document === undefined) throw new Error('no document');
  await assert.rejects(readBootstrap(document), /boot\.yaml:3:.*the cluster "a" contains itself: a → b → a/);
});

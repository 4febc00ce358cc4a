/** Clients that vanish while their request waits for something: nothing is sent later, every place is free again. */
import assert from 'node:assert/strict';
import { connect as connectHttp2 } from 'node:http2';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { test } from 'node:test';
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { upstreamTls } from '../support/mesh_ca.ts';
import { MisbehavingUpstream } from '../support/misbehaving_upstream.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';

/** One request that the client never hears the end of. @returns what makes it go. */
type Start = (t: Scope, port: number, path: string) => () => void;

const CLIENTS: Readonly<Record<string, Start>> = {
  'HTTP/1.1': (t, port, path) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.on('error', () => {});
    t.after(() => socket.destroy());
    socket.write(`GET ${path} HTTP/1.1\r\nhost: a\r\n\r\n`);
    return () => socket.resetAndDestroy();
  },
  'HTTP/2, which resets its stream': (t, port, path) => {
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    session.on('error', () => {});
    t.after(() => session.destroy());
    const stream = session.request({ ':path': path });
    stream.on('error', () => {});
    return () => stream.close(8);
  },
  'HTTP/2, which goes': (_t, port, path) => {
    const session = connectHttp2(`http://127.0.0.1:${port}`);
    session.on('error', () => {});
    session.request({ ':path': path }).on('error', () => {});
    return () => session.destroy();
  },
};

/** One retry at a time: a place that is not given back is found out. */
const ONE_RETRY = { circuit_breakers: { thresholds: [{ max_retries: 1, max_pending_requests: 1, max_requests: 1 }] } };
const BACK_OFF_MS = 300;
const POLICY: Json = {
  retry_on: '5xx',
  // Back-offs are drawn at random, and any may be over before the client goes: then it waits in the next one.
  num_retries: 30,
  retry_back_off: { base_interval: '0.3s', max_interval: '0.3s' },
  rate_limited_retry_back_off: { reset_headers: [{ name: 'retry-after', format: 'SECONDS' }], max_interval: '10s' },
};

interface Wait {
  readonly path: string;
  /** Of the upstream or of a listener where connections wait. */
  readonly resources: (port: number) => Resource[];
  readonly waits: (proxy: TestProxy) => boolean;
  /** How often the upstream was asked at the least when the client went. */
  readonly asked: number;
}

const routed = (route: Json = {}): Resource =>
  httpListener({
    routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up', timeout: '0s', ...route } }]),
  });
const value = (name: string, wanted: number) => (proxy: TestProxy) => proxy.value(`cluster.up.${name}`) === wanted;

const WAITS: Readonly<Record<string, Wait>> = {
  'the back-off': {
    path: '/do/status:503',
    resources: (port) => [routed({ retry_policy: POLICY }), staticCluster('up', [port], ONE_RETRY)],
    waits: (proxy) => proxy.value('cluster.up.upstream_rq_retry') >= 1,
    asked: 1,
  },
  'the time that Retry-After asks for': {
    path: '/do/answer:503,retry-after=1',
    resources: (port) => [routed({ retry_policy: POLICY }), staticCluster('up', [port], ONE_RETRY)],
    waits: (proxy) => proxy.value('cluster.up.upstream_rq_retry_backoff_ratelimited') >= 1,
    asked: 1,
  },
  'an answer': {
    path: '/do/stall',
    resources: (port) => [
      routed({ retry_policy: { ...POLICY, per_try_timeout: '5s' } }),
      staticCluster('up', [port], ONE_RETRY),
    ],
    waits: value('upstream_rq_active', 1),
    asked: 1,
  },
  'the second answer': {
    path: '/do/status:503/stall',
    resources: (port) => [
      routed({ retry_policy: { ...POLICY, retry_back_off: { base_interval: '0.001s' } } }),
      staticCluster('up', [port], ONE_RETRY),
    ],
    waits: (proxy) => value('upstream_rq_total', 2)(proxy) && value('upstream_rq_active', 1)(proxy),
    asked: 2,
  },
};

for (const [who, start] of Object.entries(CLIENTS)) {
  test(`a client of ${who} may vanish at any time`, async (t) => {
    await Promise.all(Object.entries(WAITS).map(([what, wait]) => vanish(t, start, what, wait)));
  });
}

async function vanish(t: Scope, start: Start, what: string, { path, resources, waits, asked }: Wait): Promise<void> {
  const upstream = await MisbehavingUpstream.start(t);
  const proxy = await startTestProxy(t, resources(upstream.port));
  const go = start(t, proxy.port(), path);
  await eventually(`it waits for ${what}`, () => waits(proxy));
  await eventually('the upstream has seen it', () => upstream.seen(path).length >= asked);
  go();
  await eventually(`it is over, in ${what}`, () => proxy.value('http.test.downstream_rq_active') === 0);
  const sent = proxy.value('cluster.up.upstream_rq_total');
  for (const gauge of ['upstream_rq_active', 'upstream_rq_pending_active']) {
    await eventually(`${gauge} is 0`, () => proxy.value(`cluster.up.${gauge}`) === 0);
  }
  // Whoever comes next finds the one place for a retry free. Longer than any back-off: nothing more was sent for the first.
  const response = await fetch(`http://127.0.0.1:${proxy.port()}/do/status:503/status:503/ok`);
  assert.equal(response.status, 200, `${what}: ${await response.text()}`);
  await new Promise((resolve) => setTimeout(resolve, BACK_OFF_MS));
  // What was cut off on its way may never have been read.
  assert.equal(proxy.value('cluster.up.upstream_rq_total'), sent + 3, what);
  assert.ok(upstream.seen(path).length <= sent, what);
  assert.deepEqual(proxy.errors, []);
}

test('a client that vanishes while its connection to the upstream is on its way is not waited for, and nothing is sent later', async (t) => {
  const port = await startDeaf(t);
  const proxy = await startTestProxy(t, [
    routed(),
    staticCluster('up', [port], { ...ONE_RETRY, connect_timeout: '60s', transport_socket: upstreamTls({}) }),
  ]);
  const pending = value('upstream_rq_pending_active', 1);
  let gone = 0;
  for (const start of Object.values(CLIENTS)) {
    const go = start(t, proxy.port(), '/never');
    await eventually('it waits', () => pending(proxy));
    go();
    gone++;
    // The one place of those who wait is free for the next.
    await eventually('nothing waits', () => value('upstream_rq_pending_active', 0)(proxy));
    await eventually('it is over', () => proxy.value('http.test.downstream_rq_active') === 0);
    await eventually('it is counted', () => value('upstream_rq_cancelled', gone)(proxy));
  }
  assert.equal(proxy.value('cluster.up.upstream_rq_pending_overflow'), 0);
  assert.equal(proxy.value('cluster.up.upstream_rq_total'), 0);
  assert.deepEqual(proxy.errors, []);
});

test('a mirror whose time is over while its connection is on its way is not waited for', async (t) => {
  const upstream = await MisbehavingUpstream.start(t);
  const port = await startDeaf(t);
  const proxy = await startTestProxy(t, [
    routed({ timeout: '0.2s', request_mirror_policies: [{ cluster: 'deaf' }] }),
    staticCluster('up', [upstream.port]),
    staticCluster('deaf', [port], { connect_timeout: '60s', transport_socket: upstreamTls({}) }),
  ]);
  const pending = (): number => proxy.value('cluster.deaf.upstream_rq_pending_active');
  assert.equal((await fetch(`http://127.0.0.1:${proxy.port()}/do/ok`)).status, 200);
  await eventually('it waits', () => proxy.value('cluster.deaf.upstream_rq_pending_total') === 1);
  await eventually('it waits no longer', () => pending() === 0);
});

/** For TLS towards it: it takes connections and says nothing, so that handshakes last for as long as one likes. */
async function startDeaf(t: Scope): Promise<number> {
  const deaf = createServer((socket) => void socket.on('error', () => {}).resume());
  deaf.listen(0, '127.0.0.1');
  await once(deaf, 'listening');
  t.after(() => deaf.close());
  return (deaf.address() as AddressInfo).port;
}

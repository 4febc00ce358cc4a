/** A cluster that speaks HTTP/2 before servers that do not: every request is answered, however connecting goes. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttp1 } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { test } from 'node:test';
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { MeshCa, upstreamTls } from '../support/mesh_ca.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { HTTP2, ISTIO_RETRIES } from './nothing_falls_over.ts';

const ROUNDS = 4;
const REQUESTS = 6;
const RETRIES: Json = { ...ISTIO_RETRIES, retry_back_off: { base_interval: '0.005s', max_interval: '0.010s' } };

async function listen(t: Scope, server: Server): Promise<number> {
  server.on('tlsClientError', () => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

const ca = new MeshCa();
const own = ca.issue('spiffe://cluster.local/ns/default/sa/web');

/** By what they do with an HTTP/2 preface; with what the cluster needs to reach them. */
const SERVERS: Readonly<Record<string, (t: Scope) => Promise<readonly [port: number, cluster: Json, answer: RegExp]>>> =
  {
    'says 400 over HTTP/1.1': async (t) => [
      await listen(
        t,
        createHttp1((_, response) => response.end('ok')),
      ),
      {},
      /^50[23]$/,
    ],
    'says 400 over HTTP/1.1 and TLS': async (t) => [
      await listen(
        t,
        createHttps({ cert: own.chain, key: own.key }, (_, response) => response.end('ok')),
      ),
      { transport_socket: upstreamTls({ roots: ca.pem }) },
      /^50[23]$/,
    ],
    'closes at once': async (t) => [
      await listen(
        t,
        createServer((socket) => void socket.on('error', () => {}).end()),
      ),
      {},
      /^503$/,
    ],
    resets: async (t) => [
      await listen(
        t,
        createServer((socket) => void socket.on('error', () => {}).resetAndDestroy()),
      ),
      {},
      /^503$/,
    ],
    // Nothing but the route's time ends that, in Envoy neither: the connection stands, and SETTINGS may be late.
    'never says a word': async (t) => [
      await listen(
        t,
        createServer((socket) => void socket.on('error', () => {}).resume()),
      ),
      {},
      /^50[34]$/,
    ],
  };

for (const [says, start] of Object.entries(SERVERS)) {
  test(`requests over HTTP/2 to a server that ${says} are all answered, with a connect_timeout of 30 ms`, async (t) => {
    const [port, more, wanted] = await start(t);
    const isSilent = says === 'never says a word';
    const timeout = isSilent ? '0.5s' : '15s';
    const resources = (round: number): Resource[] => [
      httpListener({
        routes: routeConfig([
          { match: { prefix: '/again' }, route: { cluster: 'up', timeout, retry_policy: RETRIES } },
          { match: { prefix: '/' }, route: { cluster: 'up', timeout } },
        ]),
      }),
      // Another cluster each time: connections, and what was learnt of the peer, begin anew.
      staticCluster('up', [port], { ...HTTP2, ...more, connect_timeout: `0.0${30 + (round % 2)}s` }),
    ];
    const proxy = await startTestProxy(t, resources(0), { concurrency: 2 });
    const statuses: number[] = [];
    const rounds = isSilent ? 2 : ROUNDS;
    for (let round = 1; round <= rounds; round++) {
      assert.deepEqual(proxy.set(resources(round)).rejected, []);
      await Promise.all(
        Array.from({ length: REQUESTS }, async (_, number) => {
          const path = number % 2 === 0 ? '/again' : '/';
          const response = await fetch(`http://127.0.0.1:${proxy.port()}${path}`, {
            headers: { connection: 'close' },
            signal: AbortSignal.timeout(20_000),
          });
          await response.arrayBuffer();
          statuses.push(response.status);
        }),
      );
    }
    assert.deepEqual(
      statuses.filter((status) => !wanted.test(String(status))),
      [],
    );
    assert.equal(statuses.length, rounds * REQUESTS);
    for (const gauge of ['upstream_rq_active', 'upstream_rq_pending_active']) {
      await eventually(`${gauge} is 0`, () => proxy.value(`cluster.up.${gauge}`) === 0);
    }
    assert.deepEqual(proxy.errors, []);
  });
}

/** SETTINGS with SETTINGS_MAX_CONCURRENT_STREAMS (RFC 9113 §6.5.2). */
function settings(streams: number): Buffer {
  const frame = Buffer.from([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0]);
  frame.writeUInt32BE(streams, 11);
  return frame;
}

test('a server that allows no stream gets one connection for each request at the most, not all that may be', async (t) => {
  const sockets: Socket[] = [];
  const server = createServer((socket) => {
    sockets.push(socket.on('error', () => {}).resume());
    socket.write(settings(0));
  });
  const port = await listen(t, server);
  t.after(() => {
    for (const socket of sockets) socket.destroy();
  });
  const proxy = await startTestProxy(t, [
    httpListener({
      routes: routeConfig([
        { match: { prefix: '/patient' }, route: { cluster: 'up', timeout: '3s' } },
        { match: { prefix: '/' }, route: { cluster: 'up', timeout: '0.3s' } },
      ]),
    }),
    staticCluster('up', [port], HTTP2),
  ]);
  for (let asked = 1; asked <= 4; asked++) {
    assert.equal((await fetch(`http://127.0.0.1:${proxy.port()}/`)).status, 504);
    assert.ok(sockets.length <= asked, `${sockets.length} connections for ${asked} requests`);
  }
  // Whoever waits is served as soon as it allows one.
  const waiting = fetch(`http://127.0.0.1:${proxy.port()}/patient`);
  await eventually('it waits', () => proxy.value('cluster.up.upstream_rq_pending_active') === 1);
  for (const socket of sockets) socket.write(settings(1));
  await eventually('it is sent', () => proxy.value('cluster.up.upstream_rq_pending_active') === 0);
  assert.equal((await waiting).status, 504);
});

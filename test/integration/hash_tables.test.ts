/** Consistent hashing over 10,000 hosts and two threads: one table for both, and the same host for the same key. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { buildHashTable, firstAtOrAfter, remainder } from '../../proxy/load_balancers/hash_table.ts';
import { hash, xxHash64OfText } from '../../proxy/load_balancers/xx_hash64.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';

const HOSTS = 10_000;
const ipOf = (index: number): string => `127.1.${index >> 8}.${index & 255}`;

/** Answers with the address that it was called at. */
async function everywhere(t: Scope): Promise<number> {
  const server = createServer((request, response) => {
    response.setHeader('connection', 'close');
    response.end(request.socket.localAddress);
  });
  server.listen(0, '0.0.0.0');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return (server.address() as AddressInfo).port;
}

for (const [says, cluster, place] of [
  [
    'a ring of 100,000 points',
    { lb_policy: 'RING_HASH', ring_hash_lb_config: { minimum_ring_size: 100_000 } },
    (keys: readonly string[]) => {
      const ring = buildHashTable({
        kind: 'ring',
        size: 100_000,
        maximum: 8_388_608,
        keys,
        weights: keys.map(() => 1),
      });
      return () => ring[(2 * ring.length) / 3 + firstAtOrAfter(ring, hash.high, hash.low)] as number;
    },
  ],
  [
    'a Maglev table',
    { lb_policy: 'MAGLEV' },
    (keys: readonly string[]) => {
      const table = buildHashTable({ kind: 'maglev', size: 65_537, maximum: 0, keys, weights: keys.map(() => 1) });
      return () => table[remainder(hash.high, hash.low, 65_537)] as number;
    },
  ],
] as const satisfies readonly (readonly [string, Json, (keys: readonly string[]) => () => number])[]) {
  test(`${says}: both threads use one, and a thread that starts anew too`, async (t) => {
    const port = await everywhere(t);
    const indices = Array.from({ length: HOSTS }, (_, index) => index);
    const proxy = await startTestProxy(
      t,
      [
        httpListener({
          routes: routeConfig([
            { match: { prefix: '/' }, route: { cluster: 'up', hash_policy: [{ header: { header_name: 'x-key' } }] } },
          ]),
        }),
        staticCluster('up', [], {
          ...cluster,
          load_assignment: {
            cluster_name: 'up',
            endpoints: [
              {
                lb_endpoints: indices.map((index) => ({
                  endpoint: { address: { socket_address: { address: ipOf(index), port_value: port } } },
                })),
              },
            ],
          },
        }),
      ],
      { concurrency: 2 },
    );
    const owner = place(indices.map((index) => `${ipOf(index)}:${port}`));
    const ask = async (): Promise<void> => {
      // A connection each: the kernel spreads them over the threads.
      const answers = await Promise.all(
        Array.from({ length: 40 }, async (_, index) => {
          const response = await fetch(`http://127.0.0.1:${proxy.port()}/`, {
            headers: { 'x-key': `key ${index % 20}`, connection: 'close' },
          });
          return response.text();
        }),
      );
      answers.forEach((answer, index) => {
        xxHash64OfText(`key ${index % 20}`);
        assert.equal(answer, ipOf(owner()));
      });
    };
    await ask();
    assert.equal(proxy.value('server.hash_tables'), 1);
    await proxy.running.threads.kill(0);
    await eventually('another takes its place', () => proxy.value('server.worker_restarts') === 1);
    await ask();
    assert.equal(proxy.value('server.hash_tables'), 1);
    assert.deepEqual(proxy.errors, []);
  });
}

test("the proxy's own calls wait for a table too", async (t) => {
  const main = await RawUpstream.start(t, answering());
  const mirrored = await RawUpstream.start(t, answering());
  const proxy = await startTestProxy(t, [
    httpListener({
      routes: routeConfig([
        { match: { prefix: '/' }, route: { cluster: 'up', request_mirror_policies: [{ cluster: 'ring' }] } },
      ]),
    }),
    staticCluster('up', [main.port]),
    staticCluster('ring', [mirrored.port], {
      lb_policy: 'RING_HASH',
      ring_hash_lb_config: { minimum_ring_size: 100_000 },
    }),
  ]);
  const response = await fetch(`http://127.0.0.1:${proxy.port()}/copied`);
  assert.equal(await response.text(), 'ok');
  await eventually('the copy is there', () => mirrored.received.join('').includes('GET /copied '));
  assert.equal(proxy.value('server.hash_tables'), 1);
  assert.deepEqual(proxy.errors, []);
});

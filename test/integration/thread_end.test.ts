/** Threads that end while certificates are judged in OpenSSL's calls: the process goes on, and ends as it should. */
import assert from 'node:assert/strict';
import { connect } from 'node:tls';
import { test } from 'node:test';
import { httpListener, routeConfig } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { downstreamTls, MeshCa } from '../support/mesh_ca.ts';
import { startTestProxy } from '../support/running_proxy.ts';

const CLIENTS = 12;
const DEATHS = 6;

test('data threads that are killed in the middle of handshakes take nobody else along', async (t) => {
  const ca = new MeshCa();
  const own = ca.issue('spiffe://cluster.local/ns/default/sa/web');
  const shown = ca.issue('spiffe://cluster.local/ns/default/sa/client');
  const answer = [{ match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'ok' } } }];
  const plain = httpListener({ routes: routeConfig(answer) });
  const [chain] = plain.json['filter_chains'] as Record<string, unknown>[];
  const transport_socket = downstreamTls({ own, roots: ca.pem, prefix: 'spiffe://' });
  const proxy = await startTestProxy(
    t,
    [{ ...plain, json: { ...plain.json, filter_chains: [{ ...chain, transport_socket }] } }],
    { concurrency: 2 },
  );
  let isOver = false;
  let shaken = 0;
  /** A full handshake each time: no session is kept. */
  const client = async (): Promise<void> => {
    while (!isOver) {
      const socket = connect({
        port: proxy.port(),
        host: '127.0.0.1',
        cert: shown.chain,
        key: shown.key,
        rejectUnauthorized: false,
      });
      await new Promise<void>((resolve) => {
        socket.once('secureConnect', () => {
          shaken++;
          socket.destroy();
        });
        socket.on('error', () => {});
        socket.once('close', () => resolve());
      });
    }
  };
  const clients = Array.from({ length: CLIENTS }, client);
  for (let death = 0; death < DEATHS; death++) {
    const before = shaken;
    await eventually('handshakes go on', () => shaken >= before + 2 * CLIENTS);
    await proxy.running.threads.kill(death % 2);
  }
  isOver = true;
  await Promise.all(clients);
  await eventually('each has come back once', () => proxy.value('server.worker_restarts') === DEATHS);
  assert.deepEqual(proxy.errors, []);
});

/** A request that outlives the cluster it began with: it is sent again to that cluster's hosts, and leaves nothing behind. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test } from 'node:test';

import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';

test('a request that is moved off a dead connection after its cluster was replaced leaves nothing of it', async (t) => {
  const asked: Socket[] = [];
  const upstream = await RawUpstream.start(t, (_received, socket) => {
    // The second one waits for its answer.
    if (asked.push(socket) !== 2) socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
  });
  const routes = routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]);
  const state = (seconds: number) => [
    httpListener({ routes }),
    staticCluster('up', [upstream.port], { connect_timeout: `${seconds}s` }),
  ];
  const proxy = await startTestProxy(t, state(1), { concurrency: 1 });
  const ask = async (): Promise<string> => (await fetch(`http://127.0.0.1:${proxy.port()}/`)).text();
  assert.equal(await ask(), 'ok');
  const moved = ask();
  await eventually('the upstream is asked', () => asked.length === 2);
  assert.equal(asked[1], asked[0], 'on a connection that had served before');
  proxy.set(state(2));
  await proxy.settled();
  // The next version takes over when somebody asks for it.
  assert.equal(await ask(), 'ok');
  asked[1]?.destroy();
  assert.equal(await moved, 'ok');
  assert.equal(asked.length, 4);
  proxy.set([]);
  await eventually('every slot is free', () => proxy.running.threads.usedSlots().clusters === 0);
  await eventually('every connection is closed', () => upstream.sockets.every((socket) => socket.closed));
});

/** A data thread that dies takes its own streams with it and nothing else; it comes back on the same sockets. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { answering, RawClient, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { eventually } from '../support/eventually.ts';

const ask = async (port: number): Promise<number> => {
  const response = await fetch(`http://127.0.0.1:${port}/x`, { headers: { connection: 'close' } });
  await response.text();
  return response.status;
};

async function twoThreads(t: Parameters<typeof startTestProxy>[0]): Promise<TestProxy> {
  const upstream = await RawUpstream.start(t, answering());
  return startTestProxy(
    t,
    [
      httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]) }),
      staticCluster('up', [upstream.port]),
    ],
    { concurrency: 2 },
  );
}

test('the other thread goes on and the dead one comes back when a data thread dies', async (t) => {
  const proxy = await twoThreads(t);
  const port = proxy.port();
  // Kept-alive connections on both threads: the kernel spreads them.
  const clients = Array.from({ length: 16 }, () => new RawClient(t, port));
  for (const client of clients) client.send('GET /x HTTP/1.1\r\nhost: a\r\n\r\n');
  for (const client of clients) await client.until((text) => text.endsWith('ok'));
  const before = proxy.value('http.test.downstream_rq_total');
  assert.equal(before, 16);
  assert.equal(proxy.value('http.test.downstream_cx_active'), 16);
  await proxy.running.threads.kill(0);
  await eventually('the dead thread has lost its connections', () => {
    const open = clients.filter(({ closed }) => !closed).length;
    return open < 16 && open === proxy.value('http.test.downstream_cx_active');
  });
  const survivors = clients.filter(({ closed }) => !closed);
  assert.ok(survivors.length > 0 && survivors.length < 16, `${survivors.length} of 16 survive`);
  for (const client of survivors) {
    client.received = '';
    client.send('GET /x HTTP/1.1\r\nhost: a\r\n\r\n');
    await client.until((text) => text.endsWith('ok'));
  }
  // Counters never go back; gauges are of those that live.
  assert.equal(proxy.value('http.test.downstream_rq_total'), before + survivors.length);
  assert.equal(proxy.value('http.test.downstream_cx_active'), survivors.length);
  await eventually('the thread is back', async () => {
    const answer = await fetch(`http://127.0.0.1:${proxy.port('admin')}/stats?filter=concurrency`);
    await answer.text();
    return proxy.value('server.worker_restarts') > 0 || proxy.errors.length > 0;
  });
  // New connections reach both threads again: of 32, none is refused.
  for (let i = 0; i < 32; i++) assert.equal(await ask(port), 200);
});

test('connections that wait in a dead thread’s socket are served by the one that takes its place', async (t) => {
  const proxy = await twoThreads(t);
  const port = proxy.port();
  // Dead before anybody asks: what a dying thread has accepted dies with it.
  await Promise.all([proxy.running.threads.kill(0), proxy.running.threads.kill(1)]);
  const answers = await Promise.all(Array.from({ length: 20 }, () => ask(port)));
  assert.deepEqual(new Set(answers), new Set([200]));
});

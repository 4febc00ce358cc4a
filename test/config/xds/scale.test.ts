/** The short form of bench/push.ts: a large push applies, and endpoint updates in a row lose no request. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Json } from '../../../config/resources.ts';
import { answering, RawUpstream } from '../../support/raw_peers.ts';
import { startPushedProxy } from '../../support/pushed_proxy.ts';
import { adsListener, assignment, edsCluster, get, routesTo } from '../../support/xds_resources.ts';

const namesIn = (request: Json): number => (request['resource_names_subscribe'] as string[] | undefined)?.length ?? 0;

test('1,000 clusters apply while a request waits for none of them', async (t) => {
  const upstream = await RawUpstream.start(t, answering());
  const names = Array.from({ length: 1000 }, (_, index) => `c${index}`);
  const { ads, proxy, ready } = await startPushedProxy(t, {
    first: {
      clusters: [edsCluster('c0')],
      endpoints: names.map((name) => assignment(name, upstream.port)),
      listeners: [adsListener('l', 'r')],
      routes: [routesTo('r', 'c0')],
    },
  });
  await ready;
  const port = proxy.port('l');
  const pushed = ads.push({ clusters: names.map((name) => edsCluster(name)) });
  assert.equal((await get(port)).status, 200);
  await pushed;
  await ads.until('all are active', () => proxy.value('cluster_manager.active_clusters') === 1000);
  assert.equal(proxy.value('cluster_manager.warming_clusters'), 0);
  // However many slices they were taken over in, the new names went in one request.
  const named = ads.asked.flatMap(({ list, request }) => (list === 'endpoints' ? [namesIn(request)] : []));
  assert.deepEqual(
    named.filter((count) => count > 0),
    [1, 999],
  );
});

test('no request is lost while endpoints change a thousand times', async (t) => {
  const [one, two] = [await RawUpstream.start(t, answering('one')), await RawUpstream.start(t, answering('two'))];
  const { ads, proxy, ready } = await startPushedProxy(t, {
    concurrency: 2,
    first: {
      clusters: [edsCluster('c')],
      endpoints: [assignment('c', one.port)],
      listeners: [adsListener('l', 'r')],
      routes: [routesTo('r', 'c')],
    },
  });
  await ready;
  const port = proxy.port('l');
  let isOver = false;
  const bodies = new Map<string, number>();
  const clients = Array.from({ length: 4 }, async () => {
    while (!isOver) {
      const response = await fetch(`http://127.0.0.1:${port}/`);
      const body = `${response.status} ${await response.text()}`;
      bodies.set(body, (bodies.get(body) ?? 0) + 1);
    }
  });
  const turns: Promise<unknown>[] = [];
  for (let round = 0; round < 1000; round++) {
    turns.push(ads.push({ endpoints: [assignment('c', round % 2 === 0 ? two.port : one.port)] }));
    if (round % 10 === 9) await Promise.all(turns.splice(0));
  }
  isOver = true;
  await Promise.all(clients);
  assert.deepEqual([...bodies.keys()].sort(), ['200 one', '200 two']);
  assert.deepEqual(proxy.errors, []);
});

test('a push of 10,000 clusters in one message leaves the event loop its turns', async (t) => {
  const upstream = await RawUpstream.start(t, answering());
  const names = Array.from({ length: 10_000 }, (_, index) => `c${index}`);
  const { ads, proxy, ready } = await startPushedProxy(t, {
    first: {
      clusters: [edsCluster('c0')],
      endpoints: names.map((name) => assignment(name, upstream.port)),
      listeners: [adsListener('l', 'r')],
      routes: [routesTo('r', 'c0')],
    },
  });
  await ready;
  // How many are taken over between two turns of the event loop: a few milliseconds' worth.
  let most = 0;
  let before = 0;
  let isOver = false;
  const look = (): void => {
    const now = proxy.value('cluster_manager.cluster_added');
    most = Math.max(most, now - before);
    before = now;
    if (!isOver) setImmediate(look);
  };
  const pushed = ads.push({ clusters: names.map((name) => edsCluster(name)) });
  setImmediate(look);
  assert.equal((await get(proxy.port('l'))).status, 200);
  await pushed;
  await ads.until('all are active', () => proxy.value('cluster_manager.active_clusters') === 10_000, 90_000);
  isOver = true;
  assert.equal(proxy.value('cluster_manager.cluster_added'), 10_000);
  assert.ok(most < 2000, `${most} clusters in one turn`);
});

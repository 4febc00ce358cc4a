/** Configuration pushed by a control plane, over real gRPC, into a proxy that carries requests. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { AdsServer, encode, TYPES } from '../../support/ads_server.ts';
import { staticCluster } from '../../support/envoy_resources.ts';
import { answering, RawUpstream } from '../../support/raw_peers.ts';
import { startPushedProxy } from '../../support/pushed_proxy.ts';
import { ADS, adsListener, assignment, edsCluster, get, routesTo } from '../../support/xds_resources.ts';

for (const protocol of ['delta', 'sotw'] as const) {
  describe(`ADS, ${protocol}`, () => {
    test('traffic flows when clusters, endpoints, listeners and routes were pushed, each ACKed', async (t) => {
      const upstream = await RawUpstream.start(t, answering());
      const { ads, proxy, ready } = await startPushedProxy(t, {
        protocol,
        first: {
          clusters: [edsCluster('c')],
          endpoints: [assignment('c', upstream.port)],
          listeners: [adsListener('l', 'r')],
          routes: [routesTo('r', 'c')],
        },
      });
      await ready;
      assert.equal((await get(proxy.port('l'))).body, 'ok');
      await ads.until('four types are answered', () => ads.answers.length >= 4);
      assert.deepEqual(
        ads.answers.map(({ list, error }) => [list, error]),
        [
          ['clusters', undefined],
          ['endpoints', undefined],
          ['listeners', undefined],
          ['routes', undefined],
        ],
      );
      assert.equal(ads.nodes.length, 1, 'the node is sent once a stream');
      assert.deepEqual(
        { id: ads.nodes[0]?.['id'], cluster: ads.nodes[0]?.['cluster'], agent: ads.nodes[0]?.['user_agent_name'] },
        { id: 'test-node', cluster: 'test-cluster', agent: 'pillion' },
      );
      assert.equal(proxy.value('control_plane.connected_state'), 1);
      assert.equal(proxy.value('cluster_manager.cds.update_success'), 1);
      assert.equal(proxy.value('listener_manager.lds.update_success'), 1);
      assert.equal(proxy.value('http.test.rds.r.update_success'), 1);
      const stats = await (await fetch(`http://127.0.0.1:${proxy.port('admin')}/stats?type=TextReadouts`)).text();
      assert.match(stats, /^cluster_manager\.cds\.version_text: "1"$/m);
      assert.match(stats, /^control_plane\.identifier: "test-control-plane"$/m);
    });

    test('a cluster and a listener wait until what they name is there', async (t) => {
      const upstream = await RawUpstream.start(t, answering());
      const { ads, proxy, ready } = await startPushedProxy(t, {
        protocol,
        first: { clusters: [edsCluster('c')], listeners: [adsListener('l', 'r')] },
      });
      let isReady = false;
      void ready.then(() => {
        isReady = true;
      });
      await ads.until('endpoints are asked for', () => ads.names.get('endpoints')?.has('c') === true);
      // The listener is not even asked for while the cluster warms.
      assert.equal(ads.names.has('listeners'), false);
      await ads.push({ endpoints: [assignment('c', upstream.port)] });
      await ads.until('routes are asked for', () => ads.names.get('routes')?.has('r') === true);
      assert.equal(isReady, false);
      assert.equal(proxy.running.addresses.has('l'), false);
      await ads.push({ routes: [routesTo('r', 'c')] });
      await ready;
      assert.equal((await get(proxy.port('l'))).status, 200);
    });

    test('the good resources of a push apply and the bad one keeps its last good version, named in the NACK', async (t) => {
      const [one, two] = [await RawUpstream.start(t, answering()), await RawUpstream.start(t, answering())];
      const { ads, proxy, ready } = await startPushedProxy(t, {
        protocol,
        first: {
          clusters: [staticCluster('a', [one.port]).json, staticCluster('b', [one.port]).json],
          listeners: [adsListener('la', 'ra'), adsListener('lb', 'rb')],
          routes: [routesTo('ra', 'a'), routesTo('rb', 'b')],
        },
      });
      await ready;
      const [answer] = await ads.push({
        clusters: [
          staticCluster('a', [two.port]).json,
          { ...staticCluster('b', [two.port]).json, lb_policy: 'MAGLEV', maglev_lb_config: { table_size: '10' } },
        ],
      });
      assert.match(answer?.error ?? '', /cluster "b".*table_size: must be a prime number, got 10/);
      assert.doesNotMatch(answer?.error ?? '', /cluster "a"/);
      assert.equal((await get(proxy.port('la'))).status, 200);
      assert.equal((await get(proxy.port('lb'))).status, 200);
      assert.equal(two.sockets.length, 1, 'a is served in its new version');
      assert.equal(one.sockets.length, 1, 'b is served in its old one');
      assert.equal(proxy.value('cluster_manager.cds.update_rejected'), 1);
    });

    test('what is removed drains: a request under way ends, a new one finds nothing', async (t) => {
      const asked = Promise.withResolvers<() => void>();
      const upstream = await RawUpstream.start(t, (_received, socket) =>
        asked.resolve(() => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok')),
      );
      const { ads, proxy, ready } = await startPushedProxy(t, {
        protocol,
        first: {
          clusters: [staticCluster('a', [upstream.port]).json],
          listeners: [adsListener('l', 'r')],
          routes: [routesTo('r', 'a')],
        },
      });
      await ready;
      const port = proxy.port('l');
      const under = get(port);
      const release = await asked.promise;
      await ads.push({}, { listeners: ['l'], clusters: ['a'] });
      await ads.until('routes are let go', () => (ads.names.get('routes')?.size ?? 0) === 0);
      release();
      assert.equal((await under).body, 'ok');
      await assert.rejects(get(port), 'nobody listens there any more');
    });

    test('a lost control plane changes nothing for traffic, and gets what it missed told when it is back', async (t) => {
      const upstream = await RawUpstream.start(t, answering());
      const first = {
        clusters: [edsCluster('c')],
        endpoints: [assignment('c', upstream.port)],
        listeners: [adsListener('l', 'r')],
        routes: [routesTo('r', 'c')],
      };
      const { ads, proxy, logs, ready } = await startPushedProxy(t, { protocol, first });
      await ready;
      ads.close();
      await ads.until('the proxy knows', () => proxy.value('control_plane.connected_state') === 0);
      assert.equal((await get(proxy.port('l'))).status, 200);
      assert.ok(logs.some((line) => /is lost: .*what is served stays/.test(line)));
      const again = new AdsServer();
      t.after(() => again.close());
      again.set(first);
      await again.listen(`127.0.0.1:${ads.port}`);
      await again.until('it is back', () => again.names.has('listeners') && again.names.has('endpoints'));
      const clusters = again.asked.find(({ list }) => list === 'clusters')?.request;
      if (protocol === 'delta') assert.deepEqual(clusters?.['initial_resource_versions'], { c: '1' });
      else assert.equal(clusters?.['version_info'], '1');
      assert.equal(again.nodes.length, 1);
      assert.equal((await get(proxy.port('l'))).status, 200);
      const warmings = proxy.reports.map(({ summary }) => summary).join();
      assert.doesNotMatch(warmings, /removed/);
    });
  });
}

test('a start goes on without what does not come in time', async (t) => {
  const { ads, proxy, logs, ready } = await startPushedProxy(t, {
    initialFetchTimeout: '0.2s',
    first: {
      clusters: [
        edsCluster('c', {
          eds_cluster_config: { eds_config: { ...ADS, initial_fetch_timeout: '0.1s' }, service_name: 'never' },
        }),
      ],
    },
  });
  ads.answersByItself = false;
  await ready;
  assert.ok(logs.length > 0);
  assert.match(proxy.warnings.join('\n'), /The endpoint "never" did not come in time/);
});

test('a field that nobody knows is accepted, warned about once and counted', async (t) => {
  const { ads, proxy, logs, ready } = await startPushedProxy(t, { first: { clusters: [] } });
  await ready;
  const strange = Buffer.from([0xb8, 0x3e, 0x05]);
  for (const name of ['a', 'b']) {
    const bytes = Buffer.concat([encode(TYPES.clusters, staticCluster(name, [1]).json), strange]);
    const { error } = await ads.pushRaw('clusters', [
      { name, typeUrl: `type.googleapis.com/${TYPES.clusters}`, bytes },
    ]);
    assert.equal(error, undefined);
  }
  assert.equal(logs.filter((line) => /sends field 999 of envoy\.config\.cluster\.v3\.Cluster/.test(line)).length, 1);
  assert.equal(proxy.value('server.dynamic_unknown_fields'), 2);
  await ads.until('both are served', () => proxy.value('cluster_manager.active_clusters') === 2);
});

test('an unknown extension and an unset oneof are refused by name', async (t) => {
  const { ads, ready } = await startPushedProxy(t, { first: { clusters: [] } });
  await ready;
  const [answer] = await ads.push({
    clusters: [
      {
        name: 'strange',
        transport_socket: {
          name: 'x',
          typed_config: { '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tap.v3.Tap' },
        },
      },
      { name: 'fine', type: 'STATIC' },
    ],
    routes: [],
  });
  assert.match(answer?.error ?? '', /cluster "strange".*transport_socket/s);
  assert.doesNotMatch(answer?.error ?? '', /"fine"/);
});

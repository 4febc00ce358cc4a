/** The on_demand filter: a request waits for its virtual host (VHDS) or its cluster (CDS by name), and for nothing else. */
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { describe, test } from 'node:test';
import type { Demand, Json } from '../../config/resources.ts';
import onDemandFilter from '../../filters/on_demand.ts';
import { MAX_WAITING, OnDemand } from '../../proxy/on_demand.ts';
import { staticCluster } from '../support/envoy_resources.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { type PushedProxy, startPushedProxy } from '../support/pushed_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { ADS, adsListener } from '../support/xds_resources.ts';

const PACKAGE = 'type.googleapis.com/envoy.extensions.filters.http.on_demand.v3';
const filter = (odcds?: Json): Json => ({
  name: 'envoy.filters.http.on_demand',
  typed_config: { '@type': `${PACKAGE}.OnDemand`, ...(odcds !== undefined && { odcds }) },
});
const host = (name: string, domain: string, status: number): Json => ({
  name,
  domains: [domain],
  routes: [{ match: { prefix: '/' }, direct_response: { status } }],
});
const own = host('own', 'own.test', 201);

interface Started extends PushedProxy {
  status(domain: string): Promise<number>;
}

async function start(t: Scope, routes: Json, odcds?: Json, concurrency = 1): Promise<Started> {
  const pushed = await startPushedProxy(t, {
    concurrency,
    first: { listeners: [adsListener('l', 'r', [filter(odcds)])], routes: [{ name: 'r', ...routes }] },
  });
  await pushed.ready;
  await pushed.ads.until('the listener is there', () => pushed.proxy.running.addresses.has('l'));
  const status = (domain: string): Promise<number> =>
    new Promise((resolve, reject) => {
      const headers = { host: domain, connection: 'close' };
      request({ port: pushed.proxy.port('l'), host: '127.0.0.1', headers }, (response) => {
        response.resume();
        response.once('end', () => resolve(response.statusCode ?? 0));
      })
        .once('error', reject)
        .end();
    });
  return { ...pushed, status };
}

const VHDS = { virtual_hosts: [own], vhds: { config_source: ADS } };

describe('on_demand, virtual hosts', () => {
  test('a request waits for the host that it names, and finds it there the next time', async (t) => {
    const { ads, proxy, status } = await start(t, VHDS);
    assert.equal(await status('own.test'), 201);
    ads.set({ virtualHosts: [host('r/a.test', 'a.test', 202)] });
    assert.equal(await status('A.test'), 202);
    assert.equal(await status('a.test'), 202);
    assert.equal(proxy.value('http.test.on_demand.found'), 1);
    assert.deepEqual(
      ads.asked.filter(({ list }) => list === 'virtualHosts').map(({ request }) => request['resource_names_subscribe']),
      [undefined, ['r/a.test']],
    );
  });

  test('many requests for one host are one question, whatever thread they came to', async (t) => {
    const { ads, status } = await start(t, VHDS, undefined, 2);
    ads.answersByItself = false;
    const waiting = Array.from({ length: 12 }, () => status('a.test'));
    await ads.until('it is asked for', () => ads.names.get('virtualHosts')?.has('r/a.test') === true);
    await ads.push({ virtualHosts: [host('r/a.test', 'a.test', 203)] });
    assert.deepEqual([...new Set(await Promise.all(waiting))], [203]);
    const asked = ads.asked.filter(({ request }) => JSON.stringify(request).includes('r/a.test'));
    assert.equal(asked.length, 1);
  });

  test('a host that the server does not have is a 404 at once, and is asked for again', async (t) => {
    const { ads, proxy, status } = await start(t, VHDS);
    assert.equal(await status('no.test'), 404);
    assert.equal(proxy.value('http.test.on_demand.absent'), 1);
    await ads.until('it is let go', () => ads.names.get('virtualHosts')?.has('r/no.test') === false);
    ads.set({ virtualHosts: [host('r/no.test', 'no.test', 204)] });
    assert.equal(await status('no.test'), 204);
  });

  test('other hosts that come in between let it go on waiting', async (t) => {
    const { ads, status } = await start(t, VHDS);
    ads.answersByItself = false;
    const waiting = status('a.test');
    await ads.until('it is asked for', () => ads.names.get('virtualHosts')?.has('r/a.test') === true);
    ads.answersByItself = true;
    const other = status('b.test');
    assert.equal(await other, 404);
    await ads.push({ virtualHosts: [host('r/a.test', 'a.test', 205)] });
    assert.equal(await waiting, 205);
  });

  test('after a lost stream everything is asked for again, by itself and by name', async (t) => {
    const { ads, status } = await start(t, VHDS);
    ads.set({ virtualHosts: [host('r/a.test', 'a.test', 202)] });
    assert.equal(await status('a.test'), 202);
    const { port } = ads;
    ads.close();
    await ads.listen(`127.0.0.1:${port}`);
    await ads.until('it is asked for', () => ads.names.get('virtualHosts')?.has('*') === true);
    assert.equal(ads.names.get('virtualHosts')?.has('r/a.test'), true);
    assert.equal(await status('a.test'), 202);
  });

  test('nobody waits where routes have no hosts by VHDS', async (t) => {
    const { ads, proxy, status } = await start(t, { virtual_hosts: [own] });
    assert.equal(await status('no.test'), 404);
    assert.equal(ads.names.get('virtualHosts'), undefined);
    assert.equal(proxy.value('http.test.on_demand.absent'), 0);
  });
});

const toCluster = (cluster: string): Json => ({
  virtual_hosts: [{ name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, route: { cluster } }] }],
});

describe('on_demand, clusters', () => {
  test('a request waits for the cluster of its route', async (t) => {
    const upstream = await RawUpstream.start(t, answering());
    const { ads, proxy, status } = await start(t, toCluster('c'), { source: ADS });
    ads.set({ clusters: [staticCluster('c', [upstream.port]).json] });
    assert.equal(await status('any'), 200);
    assert.equal(await status('any'), 200);
    assert.equal(proxy.value('http.test.on_demand.found'), 1);
  });

  test('a cluster that the server does not have is a 503', async (t) => {
    const { proxy, status } = await start(t, toCluster('c'), { source: ADS });
    assert.equal(await status('any'), 503);
    assert.equal(proxy.value('http.test.on_demand.absent'), 1);
  });

  test('a cluster that nobody talks of is a 503 when the wait is over', async (t) => {
    const { ads, proxy, status } = await start(t, toCluster('c'), { source: ADS, timeout: '0.2s' });
    ads.mute.add('clusters');
    assert.equal(await status('any'), 503);
    assert.equal(proxy.value('http.test.on_demand.timeout'), 1);
  });

  test('without odcds nobody waits for a cluster', async (t) => {
    const { proxy, status } = await start(t, toCluster('c'));
    assert.equal(await status('any'), 503);
    assert.equal(proxy.value('http.test.on_demand.absent'), 0);
  });
});

describe('on_demand, what is asked and what is refused', () => {
  for (const [odcds, message] of [
    [{}, /odcds\.source: is required/],
    [{ source: { path: '/x' } }, /odcds\.source\.ads: is required/],
    [{ source: ADS, resources_locator: 'xdstp://x' }, /odcds\.resources_locator: xdstp names are not supported/],
    [{ source: ADS, timeout: '0s' }, /odcds\.timeout: must be greater than 0s/],
  ] as const) {
    test(`odcds ${JSON.stringify(odcds)} is refused`, () => {
      assert.throws(() => onDemandFilter.parse({ odcds }), { name: 'ConfigError', message });
    });
  }

  test('a thread lets so many requests wait, and forgets those that go', async () => {
    const asked: Demand[] = [];
    const demands = new OnDemand({ send: (demand) => asked.push(demand), setTimer: () => () => {} });
    const demand: Demand = { kind: 'host', routes: 'r', host: 'a' };
    const client = new AbortController();
    const waiting = Array.from({ length: MAX_WAITING }, () => demands.wait(demand, 1, client.signal));
    assert.equal(await demands.wait(demand, 1, client.signal), 'full');
    assert.equal(asked.length, 1);
    client.abort();
    assert.deepEqual([...new Set(await Promise.all(waiting))], ['late']);
    const next = demands.wait(demand, 1, new AbortController().signal);
    demands.absent({ ...demand, host: 'b' });
    demands.changed('route', 'r');
    assert.equal(await next, 'there');
    assert.equal(asked.length, 2);
  });
});

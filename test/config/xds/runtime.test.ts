/** RTDS: layers of runtime values that a control plane pushes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Json } from '../../../config/resources.ts';
import { ask } from '../../support/admin_client.ts';
import { eventually } from '../../support/eventually.ts';
import { routeConfig } from '../../support/envoy_resources.ts';
import { AdsServer } from '../../support/ads_server.ts';
import { grpcCluster, type PushedProxy, startPushedProxy } from '../../support/pushed_proxy.ts';
import { ADS, adsListener, get } from '../../support/xds_resources.ts';

const layer = (name: string, source: Json = ADS): Json => ({ name, rtds_layer: { name, rtds_config: source } });
const half = { default_value: { numerator: 0 }, runtime_key: 'routing.new' };
/** 201 for the share that the runtime says, else 200. */
const routes = routeConfig(
  [
    { match: { prefix: '/', runtime_fraction: half }, direct_response: { status: 201 } },
    { match: { prefix: '/' }, direct_response: { status: 200 } },
  ],
  'r',
);
const everything = { routing: { new: { numerator: 100 } } };

const status = async ({ proxy }: PushedProxy): Promise<number> => (await get(proxy.port('l'))).status;

for (const protocol of ['delta', 'sotw'] as const) {
  test(`a layer by ADS holds from the first request on, changes and goes (${protocol})`, async (t) => {
    const pushed = await startPushedProxy(t, {
      protocol,
      layers: [{ name: 'base', static_layer: { other: 1 } }, layer('a'), layer('b')],
      first: {
        listeners: [adsListener('l', 'r')],
        routes: [routes],
        runtimes: [
          { name: 'a', layer: everything },
          { name: 'b', layer: { 'x.y': 'text' } },
        ],
      },
    });
    const { ads, proxy } = pushed;
    await pushed.ready;
    const order = ads.asked.map(({ list }) => list);
    assert.ok(order.indexOf('runtimes') < order.indexOf('clusters'), 'values come before clusters');
    await ads.until('the listener is there', () => proxy.running.addresses.has('l'));
    assert.equal(await status(pushed), 201);
    const { body } = await ask(proxy.port('admin'), '/runtime');
    assert.deepEqual(JSON.parse(body), {
      layers: ['base', 'a', 'b'],
      entries: {
        other: { final_value: '1', layer_values: ['1', '', ''] },
        'routing.new': { final_value: '{"numerator":100}', layer_values: ['', '{"numerator":100}', ''] },
        'x.y': { final_value: 'text', layer_values: ['', '', 'text'] },
      },
    });
    const [answer] = await ads.push({ runtimes: [{ name: 'a', layer: {} }] });
    assert.equal(answer?.error, undefined);
    await eventually('the default holds', async () => (await status(pushed)) === 200);
    assert.equal(proxy.value('runtime.update_success'), 3);
    if (protocol === 'sotw') return;
    await ads.push({ runtimes: [{ name: 'a', layer: everything }] });
    await eventually('the layer holds', async () => (await status(pushed)) === 201);
    await ads.push({}, { runtimes: ['a'] });
    await eventually('it is gone', async () => (await status(pushed)) === 200);
  });
}

test('values that are none are refused by layer and key, and the last good ones hold', async (t) => {
  const pushed = await startPushedProxy(t, {
    layers: [layer('a')],
    first: { listeners: [adsListener('l', 'r')], routes: [routes], runtimes: [{ name: 'a', layer: everything }] },
  });
  await pushed.ready;
  const [answer] = await pushed.ads.push({ runtimes: [{ name: 'a', layer: { routing: { new: [1] } } }] });
  assert.match(answer?.error ?? '', /Cannot use runtime layer "a" .*: routing\.new: a list is no runtime value/);
  await pushed.ads.until('the listener is there', () => pushed.proxy.running.addresses.has('l'));
  assert.equal(await status(pushed), 201);
  assert.equal(pushed.proxy.value('runtime.update_rejected'), 1);
});

test('a layer comes from a server of its own, and a start does not wait for ever for it', async (t) => {
  const runtime = await AdsServer.start(t);
  runtime.answersByItself = false;
  const api_config_source = {
    api_type: 'DELTA_GRPC',
    transport_api_version: 'V3',
    grpc_services: [{ envoy_grpc: { cluster_name: 'runtime' } }],
  };
  const pushed = await startPushedProxy(t, {
    layers: [layer('a', { api_config_source, resource_api_version: 'V3', initial_fetch_timeout: '0.2s' })],
    statics: [grpcCluster('runtime', runtime.port)],
    first: { listeners: [adsListener('l', 'r')], routes: [routes] },
  });
  await pushed.ready;
  assert.ok(pushed.logs.some((line) => line.includes('The runtime layer "a" was not pushed within 0.2 s')));
  await pushed.ads.until('the listener is there', () => pushed.proxy.running.addresses.has('l'));
  assert.equal(await status(pushed), 200);
  await runtime.push({ runtimes: [{ name: 'a', layer: everything }] });
  await eventually('the layer holds', async () => (await status(pushed)) === 201);
});

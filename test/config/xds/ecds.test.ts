/** Filters whose configuration comes by ECDS. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Json } from '../../../config/resources.ts';
import { staticCluster } from '../../support/envoy_resources.ts';
import { answering, RawClient, RawUpstream } from '../../support/raw_peers.ts';
import { startPushedProxy } from '../../support/pushed_proxy.ts';
import type { Scope } from '../../support/scope.ts';
import { ADS, adsListener, assignment, edsCluster, get, routesTo } from '../../support/xds_resources.ts';

const MUTATION = 'envoy.extensions.filters.http.header_mutation.v3.HeaderMutation';
const WASM = 'envoy.extensions.filters.http.wasm.v3.Wasm';
const url = (type: string): string => `type.googleapis.com/${type}`;

const marks = (value: string): Json => ({
  '@type': url(MUTATION),
  mutations: { response_mutations: [{ append: { header: { key: 'x-mark', value } } }] },
});

const discovered = (more: Json = {}, type = MUTATION): Json => ({
  name: 'marker',
  config_discovery: { config_source: ADS, type_urls: [url(type)], ...more },
});

async function pushed(t: Scope, filter: Json, extensions: readonly Json[] = []) {
  const upstream = await RawUpstream.start(t, answering());
  return startPushedProxy(t, {
    first: {
      clusters: [staticCluster('a', [upstream.port]).json],
      listeners: [adsListener('l', 'r', [filter])],
      routes: [routesTo('r', 'a')],
      extensions,
    },
  });
}

const mark = async (port: number): Promise<string | null> => (await get(port)).headers.get('x-mark');

test('a listener waits for its filter’s configuration, and an open connection follows when that changes', async (t) => {
  const { ads, proxy, ready } = await pushed(t, discovered());
  await ads.until('it is asked for', () => ads.names.get('extensions')?.has('marker') === true);
  assert.equal(proxy.running.addresses.has('l'), false);
  const [answer] = await ads.push({ extensions: [{ name: 'marker', typed_config: marks('one') }] });
  assert.equal(answer?.error, undefined);
  await ready;
  const client = new RawClient(t, proxy.port('l'));
  client.send('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
  assert.match(await client.until((text) => text.endsWith('ok')), /x-mark: one/);
  const before = proxy.reports.length;
  await ads.push({ extensions: [{ name: 'marker', typed_config: marks('two') }] });
  await ads.until('it is served', () => proxy.reports.length > before);
  client.received = '';
  client.send('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
  assert.match(await client.until((text) => text.endsWith('ok')), /x-mark: two/);
  assert.equal(proxy.value('extension_config_discovery.http_filter.marker.update_success'), 2);
});

test('the default serves at once when it need not warm', async (t) => {
  const filter = discovered({ default_config: marks('default'), apply_default_config_without_warming: true });
  const { ads, proxy, ready } = await pushed(t, filter);
  await ready;
  assert.equal(await mark(proxy.port('l')), 'default');
  const before = proxy.reports.length;
  await ads.push({ extensions: [{ name: 'marker', typed_config: marks('pushed') }] });
  await ads.until('it is served', () => proxy.reports.length > before);
  assert.equal(await mark(proxy.port('l')), 'pushed');
});

test('every request is answered 500 when no configuration came and there is no default', async (t) => {
  const filter = discovered({ config_source: { ...ADS, initial_fetch_timeout: '0.1s' } });
  const { ads, proxy, ready } = await pushed(t, filter);
  await ads.until('it is asked for', () => ads.names.get('extensions')?.has('marker') === true);
  await ready;
  assert.equal((await get(proxy.port('l'))).status, 500);
});

test('a bad configuration is refused and the last good one goes on', async (t) => {
  const { ads, proxy, ready } = await pushed(t, discovered(), [{ name: 'marker', typed_config: marks('good') }]);
  await ready;
  const [answer] = await ads.push({ extensions: [{ name: 'marker', typed_config: { '@type': url(WASM) } }] });
  assert.match(answer?.error ?? '', /extension "marker".*has type .*Wasm, which this version does not execute/);
  assert.equal(await mark(proxy.port('l')), 'good');
});

test('a listener with Wasm is refused alone when 50 endpoint updates come with it', async (t) => {
  const upstream = await RawUpstream.start(t, answering());
  const names = Array.from({ length: 50 }, (_, index) => `c${index}`);
  const { ads, proxy, ready } = await startPushedProxy(t, {
    first: {
      clusters: names.map((name) => edsCluster(name)),
      endpoints: names.map((name) => assignment(name, 1)),
      listeners: [adsListener('l', 'r')],
      routes: [routesTo('r', 'c17')],
    },
  });
  await ready;
  assert.equal((await get(proxy.port('l'))).status, 503);
  const before = proxy.reports.length;
  const answers = await ads.push({
    listeners: [
      adsListener('wasm by ECDS', 'r', [discovered({}, WASM)]),
      adsListener('wasm', 'r', [{ name: 'w', typed_config: { '@type': url(WASM), config: { name: 'w' } } }]),
    ],
    endpoints: names.map((name) => assignment(name, upstream.port)),
  });
  assert.deepEqual(
    answers.map(({ list, error }) => [list, error === undefined]),
    [
      ['listeners', false],
      ['endpoints', true],
    ],
  );
  assert.match(answers[0]?.error ?? '', /listener "wasm by ECDS".*type_urls: filter "marker" may have type .*Wasm/);
  assert.match(answers[0]?.error ?? '', /listener "wasm".*filter "w" has type .*Wasm/);
  await ads.until('it is served', () => proxy.reports.length > before);
  assert.equal((await get(proxy.port('l'))).status, 200);
});

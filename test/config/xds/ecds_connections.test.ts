/** Network and listener filters whose configuration comes by ECDS, as HTTP filters' does (ecds.test.ts). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Json } from '../../../config/resources.ts';
import { staticCluster } from '../../support/envoy_resources.ts';
import { answering, RawClient, RawUpstream } from '../../support/raw_peers.ts';
import { type PushedProxy, startPushedProxy } from '../../support/pushed_proxy.ts';
import type { Scope } from '../../support/scope.ts';
import { ADS, adsListener, get, routesTo } from '../../support/xds_resources.ts';

const TYPE = 'type.googleapis.com/';
const RBAC = `${TYPE}envoy.extensions.filters.network.rbac.v3.RBAC`;
const HCM = `${TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`;
const PROXY = `${TYPE}envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol`;
const INSPECTOR = `${TYPE}envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector`;
const WASM = `${TYPE}envoy.extensions.filters.network.wasm.v3.Wasm`;

const rbac = (action: 'ALLOW' | 'DENY'): Json => ({
  '@type': RBAC,
  stat_prefix: 'x',
  rules: { action, policies: { all: { permissions: [{ any: true }], principals: [{ any: true }] } } },
});

const discovered = (name: string, types: readonly string[], more: Json = {}): Json => ({
  name,
  config_discovery: { config_source: ADS, type_urls: types, ...more },
});

interface Filters {
  readonly network?: readonly Json[];
  readonly listener?: readonly Json[];
}

function listener({ network = [], listener: first = [] }: Filters): Json {
  const json = adsListener('l', 'r') as { readonly filter_chains: readonly { readonly filters: readonly Json[] }[] };
  return {
    ...json,
    listener_filters: first,
    filter_chains: json.filter_chains.map((chain) => ({ ...chain, filters: [...network, ...chain.filters] })),
  };
}

async function pushed(t: Scope, listeners: readonly Json[], extensions: readonly Json[] = []): Promise<PushedProxy> {
  const upstream = await RawUpstream.start(t, answering());
  const first = {
    clusters: [staticCluster('a', [upstream.port]).json],
    listeners,
    routes: [routesTo('r', 'a')],
    extensions,
  };
  return startPushedProxy(t, { first });
}

const asked = ({ ads }: PushedProxy, name: string): Promise<void> =>
  ads.until(`${name} is asked for`, () => ads.names.get('extensions')?.has(name) === true);

/** Pushed and served. */
async function give({ ads, proxy }: PushedProxy, name: string, config: Json): Promise<void> {
  const before = proxy.reports.length;
  const [answer] = await ads.push({ extensions: [{ name, typed_config: config }] });
  assert.equal(answer?.error, undefined);
  await ads.until('it is served', () => proxy.reports.length > before);
}

/** A request on a connection of its own; '' where that is closed without an answer. */
async function answerTo(t: Scope, port: number, head = ''): Promise<string> {
  const client = new RawClient(t, port);
  client.send(`${head}GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n`);
  await new Promise<void>((resolve) => (client.closed ? resolve() : client.socket.on('close', () => resolve())));
  return client.received.split('\r\n', 1)[0] ?? '';
}

test('a listener waits for a network filter, each new version holds for new connections, a bad one for none', async (t) => {
  const proxy = await pushed(t, [listener({ network: [discovered('guard', [RBAC])] })]);
  await asked(proxy, 'guard');
  assert.equal(proxy.proxy.running.addresses.has('l'), false);
  await give(proxy, 'guard', rbac('ALLOW'));
  await proxy.ready;
  const port = proxy.proxy.port('l');
  assert.equal(await answerTo(t, port), 'HTTP/1.1 200 OK');
  await give(proxy, 'guard', rbac('DENY'));
  assert.equal(await answerTo(t, port), '');
  const [answer] = await proxy.ads.push({ extensions: [{ name: 'guard', typed_config: { '@type': WASM } }] });
  assert.match(answer?.error ?? '', /extension "guard".*has type .*Wasm, which this version does not execute/);
  assert.equal(await answerTo(t, port), '', 'the last good one holds');
  const statistics = 'extension_config_discovery.network_filter.guard';
  assert.equal(proxy.proxy.value(`${statistics}.update_success`), 2);
  assert.equal(proxy.proxy.value(`${statistics}.update_rejected`), 1);
});

test('the default of a network filter serves until something comes', async (t) => {
  const more = { default_config: rbac('DENY'), apply_default_config_without_warming: true };
  const proxy = await pushed(t, [listener({ network: [discovered('guard', [RBAC], more)] })]);
  await proxy.ready;
  assert.equal(await answerTo(t, proxy.proxy.port('l')), '');
  await give(proxy, 'guard', rbac('ALLOW'));
  assert.equal(await answerTo(t, proxy.proxy.port('l')), 'HTTP/1.1 200 OK');
});

const SOON = { config_source: { ...ADS, initial_fetch_timeout: '0.1s' } };
for (const [kind, filters, counter] of [
  ['network', { network: [discovered('guard', [RBAC], SOON)] }, 'network_extension_config_missing'],
  ['listener', { listener: [discovered('guard', [INSPECTOR], SOON)] }, 'extension_config_missing'],
] as const) {
  test(`connections are closed when the configuration of a ${kind} filter did not come`, async (t) => {
    const proxy = await pushed(t, [listener(filters)]);
    await proxy.ready;
    const port = proxy.proxy.port('l');
    assert.equal(await answerTo(t, port), '');
    assert.equal(proxy.proxy.value(`listener.127.0.0.1_0.${counter}`), 1);
  });
}

test('a listener filter comes by ECDS, and takes the place of its default', async (t) => {
  const more = { default_config: { '@type': INSPECTOR }, apply_default_config_without_warming: true };
  const proxy = await pushed(t, [listener({ listener: [discovered('first', [PROXY, INSPECTOR], more)] })]);
  await proxy.ready;
  const port = proxy.proxy.port('l');
  const header = 'PROXY TCP4 192.0.2.1 192.0.2.2 1234 80\r\n';
  assert.equal(await answerTo(t, port), 'HTTP/1.1 200 OK');
  assert.equal(await answerTo(t, port, header), 'HTTP/1.1 400 Bad Request');
  await give(proxy, 'first', { '@type': PROXY });
  assert.equal(await answerTo(t, port, header), 'HTTP/1.1 200 OK');
  assert.equal(proxy.proxy.value('extension_config_discovery.tcp_listener_filter.first.update_success'), 1);
});

test('a connection manager comes by ECDS, with routes that come by RDS', async (t) => {
  const json = adsListener('l', 'r') as { filter_chains: { filters: { typed_config: Json }[] }[] };
  const [chain] = json.filter_chains;
  const manager = chain?.filters[0]?.typed_config as Json;
  const proxy = await pushed(
    t,
    [{ ...json, filter_chains: [{ filters: [discovered('manager', [HCM])] }] }],
    [{ name: 'manager', typed_config: manager }],
  );
  await proxy.ready;
  assert.deepEqual([...(proxy.ads.names.get('routes') ?? [])], ['r']);
  assert.equal((await get(proxy.proxy.port('l'))).status, 200);
});

test('a filter may not ask for a type that is none of its kind', async (t) => {
  const proxy = await pushed(t, [listener({})]);
  await proxy.ready;
  const [answer] = await proxy.ads.push({ listeners: [listener({ network: [discovered('guard', [INSPECTOR])] })] });
  assert.match(answer?.error ?? '', /type_urls: filter "guard" may have type .*TlsInspector, which this version/);
});

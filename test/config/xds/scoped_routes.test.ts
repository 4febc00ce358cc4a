/** Scoped routes: listed in the connection manager, or pushed (SRDS); the request's headers choose the table. */
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { describe, test } from 'node:test';
import { checkResource } from '../../../config/build/check.ts';
import type { Json } from '../../../config/resources.ts';
import { ask } from '../../support/admin_client.ts';
import { httpListener, routeConfig } from '../../support/envoy_resources.ts';
import { eventually } from '../../support/eventually.ts';
import { type PushedProxy, startPushedProxy } from '../../support/pushed_proxy.ts';
import { startTestProxy } from '../../support/running_proxy.ts';
import { resource } from '../../support/static_source.ts';
import { ADS } from '../../support/xds_resources.ts';

const answers = (name: string, status: number): Json =>
  routeConfig([{ match: { prefix: '/' }, direct_response: { status } }], name);
const header = (name: string, more: Json = { index: 0 }): Json => ({ header_value_extractor: { name, ...more } });
const scope = (name: string, routes: string, ...keys: readonly string[]): Json => ({
  name,
  route_configuration_name: routes,
  key: { fragments: keys.map((string_key) => ({ string_key })) },
});

function scopedListener(fragments: readonly Json[], more: Json, name = 'test'): Json {
  const scoped_routes = { name: 'set', scope_key_builder: { fragments }, rds_config_source: ADS, ...more };
  const json = structuredClone(httpListener({ name, routes: 'none' }).json) as {
    filter_chains: { filters: { typed_config: Record<string, unknown> }[] }[];
  };
  const config = json.filter_chains[0]?.filters[0]?.typed_config ?? {};
  delete config['rds'];
  config['scoped_routes'] = scoped_routes;
  return json as unknown as Json;
}

const pushedScopes = { scoped_rds: { scoped_rds_config_source: ADS } };

function status(port: number, headers: Record<string, string> = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    request({ port, host: '127.0.0.1', headers: { connection: 'close', ...headers } }, (response) => {
      response.resume();
      response.once('end', () => resolve(response.statusCode ?? 0));
    })
      .once('error', reject)
      .end();
  });
}

test('listed scopes: the key of a request is made of its headers, and without one there is no route', async (t) => {
  const fragments = [
    header('X-Tenant'),
    header('x-parts', { element_separator: ';', element: { key: 'zone', separator: '=' } }),
    header('x-list', { element_separator: ',', index: 1 }),
    header('Host'),
  ];
  const list = {
    scoped_route_configurations_list: {
      scoped_route_configurations: [
        { ...scope('inline', '', 'a', 'z1', 'two', 'shop.test'), route_configuration: answers('i', 201) },
        scope('named', 'r', 'b', 'z1', 'two', 'shop.test'),
        scope('missing', 'nowhere', 'c', 'z1', 'two', 'shop.test'),
      ],
    },
  };
  const proxy = await startTestProxy(t, [
    resource('listener', scopedListener(fragments, list)),
    resource('route', answers('r', 202)),
  ]);
  const all = { 'x-tenant': 'a', 'x-parts': 'x=1;zone=z1', 'x-list': 'one,two', host: 'shop.test' };
  const ask = (more: Record<string, string>): Promise<number> => status(proxy.port(), { ...all, ...more });
  assert.equal(await ask({}), 201);
  assert.equal(await ask({ 'x-tenant': 'b' }), 202);
  assert.equal(await ask({ 'x-tenant': 'c' }), 404, 'its routes are not there');
  assert.equal(await ask({ 'x-tenant': 'd' }), 404, 'no scope has this key');
  assert.equal(await ask({ 'x-parts': 'zone' }), 404, 'the element has no value');
  assert.equal(await ask({ 'x-list': 'one' }), 404, 'there is no second element');
  assert.equal(await ask({ host: 'other.test' }), 404);
  assert.equal(await ask({ 'x-tenant': '' }), 404, 'an empty header is no fragment');
});

const REFUSED: readonly (readonly [what: string, fragments: readonly Json[], more: Json, says: RegExp])[] = [
  ['no fragment', [], pushedScopes, /scope_key_builder\.fragments/],
  ['an index beyond the only element', [header('x', { index: 1 })], pushedScopes, /index: must be 0 without/],
  ['neither index nor element', [header('x', {})], pushedScopes, /index or element is required/],
  ['no scopes', [header('x')], {}, /scoped_rds/],
  [
    'one key twice',
    [header('x')],
    { scoped_route_configurations_list: { scoped_route_configurations: [scope('a', 'r', 'k'), scope('b', 'r', 'k')] } },
    /key: another scope has the same key/,
  ],
];
describe('scoped routes are refused by field', () => {
  for (const [what, fragments, more, says] of REFUSED) {
    test(`with ${what}`, () => {
      assert.match(checkResource(resource('listener', scopedListener(fragments, more)))?.message ?? '', says);
    });
  }
});

async function serving(t: Parameters<typeof startPushedProxy>[0], protocol: 'delta' | 'sotw'): Promise<PushedProxy> {
  const pushed = await startPushedProxy(t, {
    protocol,
    first: {
      listeners: [scopedListener([header('x-tenant')], pushedScopes, 'l')],
      scopes: [scope('s1', 'r1', 'one'), scope('s2', 'r2', 'two')],
      routes: [answers('r1', 201), answers('r2', 202)],
    },
  });
  await pushed.ready;
  await pushed.ads.until('the listener is there', () => pushed.proxy.running.addresses.has('l'));
  return pushed;
}

for (const protocol of ['delta', 'sotw'] as const) {
  describe(`SRDS, ${protocol}`, () => {
    test('listeners wait for scopes and their routes; scopes come, change keys and go', async (t) => {
      const { ads, proxy } = await serving(t, protocol);
      const of = (tenant: string): Promise<number> => status(proxy.port('l'), { 'x-tenant': tenant });
      assert.equal(await of('one'), 201, 'with the first request');
      assert.equal(await of('two'), 202);
      assert.equal(await of('three'), 404);
      // Keys change places, and one scope is new; its routes come later.
      const [answer] = await ads.push({
        scopes: [scope('s1', 'r1', 'two'), scope('s2', 'r2', 'one'), scope('s3', 'r3', 'three')],
      });
      assert.equal(answer?.error, undefined);
      await eventually('keys have changed places', async () => (await of('one')) === 202 && (await of('two')) === 201);
      assert.equal(await of('three'), 404);
      await ads.push({ routes: [answers('r1', 201), answers('r2', 202), answers('r3', 203)] });
      await eventually('the new one is there', async () => (await of('three')) === 203);
      await ads.push({}, { scopes: ['s1'] });
      await eventually('it is gone', async () => (await of('two')) === 404);
      assert.equal(await of('one'), 202);
      assert.ok(proxy.value('http.test.scoped_rds.set.update_success') >= 3);
      const { body } = await ask(proxy.port('admin'), '/config_dump');
      assert.match(body, /dynamic_scoped_route_configs/);
      assert.match(body, /"name": "s3"/);
      assert.doesNotMatch(body, /"name": "\*"/);
    });

    test('a scope with the key of another, or without one, is refused by name', async (t) => {
      const { ads, proxy } = await serving(t, protocol);
      const [answer] = await ads.push({
        scopes: [scope('s1', 'r1', 'one'), scope('s2', 'r2', 'two'), scope('bad', 'r2', 'one'), scope('none', 'r1')],
      });
      assert.match(answer?.error ?? '', /Cannot use scope "bad" .*: scope "s1" has its key/);
      assert.match(answer?.error ?? '', /Cannot use scope "none" .*key/);
      assert.equal(await status(proxy.port('l'), { 'x-tenant': 'one' }), 201);
    });
  });
}

test('a listener that comes back finds the scopes that were pushed before', async (t) => {
  const { ads, proxy } = await serving(t, 'delta');
  await ads.push({}, { listeners: ['l'] });
  await ads.until('it is gone', () => !proxy.running.addresses.has('l'));
  await ads.push({ listeners: [scopedListener([header('x-tenant')], pushedScopes, 'l')] });
  await ads.until('it is back', () => proxy.running.addresses.has('l'));
  assert.equal(await status(proxy.port('l'), { 'x-tenant': 'one' }), 201);
});

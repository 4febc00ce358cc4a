/** VHDS: virtual hosts that a control plane pushes apart from their route configurations. */
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { test } from 'node:test';
import { checkResource } from '../../../config/build/check.ts';
import type { Json } from '../../../config/resources.ts';
import { httpListener, routeConfig } from '../../support/envoy_resources.ts';
import { eventually } from '../../support/eventually.ts';
import { type PushedProxy, startPushedProxy } from '../../support/pushed_proxy.ts';
import { ADS, adsListener } from '../../support/xds_resources.ts';

const host = (name: string, domain: string, status: number): Json => ({
  name,
  domains: [domain],
  routes: [{ match: { prefix: '/' }, direct_response: { status } }],
});
const routes = (name: string, source: Json = ADS, own: readonly Json[] = []): Json => ({
  name,
  virtual_hosts: own,
  vhds: { config_source: source },
});

async function status({ proxy }: PushedProxy, listener: string, domain: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const headers = { host: domain, connection: 'close' };
    request({ port: proxy.port(listener), host: '127.0.0.1', headers }, (response) => {
      response.resume();
      response.once('end', () => resolve(response.statusCode ?? 0));
    })
      .once('error', reject)
      .end();
  });
}

test('hosts come with the first push, change, are refused by name and go', async (t) => {
  const pushed = await startPushedProxy(t, {
    first: {
      listeners: [adsListener('l', 'r'), adsListener('m', 'r/x')],
      routes: [routes('r', ADS, [host('own', 'own.test', 201)]), routes('r/x')],
      virtualHosts: [host('r/a', 'a.test', 202), host('r/x/a', 'a.test', 203)],
    },
  });
  const { ads, proxy } = pushed;
  await pushed.ready;
  await ads.until('listeners are there', () => proxy.running.addresses.has('l') && proxy.running.addresses.has('m'));
  assert.equal(await status(pushed, 'l', 'own.test'), 201);
  assert.equal(await status(pushed, 'l', 'a.test'), 202);
  assert.equal(await status(pushed, 'm', 'a.test'), 203, 'of the longest name that fits');
  await ads.push({ virtualHosts: [host('r/a', 'a.test', 204), host('r/b', 'b.test', 205)] });
  await eventually('the new one is there', async () => (await status(pushed, 'l', 'b.test')) === 205);
  assert.equal(await status(pushed, 'l', 'a.test'), 204);
  const [taken] = await ads.push({ virtualHosts: [host('r/c', 'own.test', 206), host('r/d', 'd.test', 207)] });
  assert.match(taken?.error ?? '', /"own\.test" is taken by another virtual host/);
  await eventually('the good one of the push is there', async () => (await status(pushed, 'l', 'd.test')) === 207);
  const [bad] = await ads.push({ virtualHosts: [{ name: 'r/e', domains: ['e.test'], routes: [{ match: {} }] }] });
  assert.match(bad?.error ?? '', /r\/e/);
  await ads.push({}, { virtualHosts: ['r/a'] });
  await eventually('it is gone', async () => (await status(pushed, 'l', 'a.test')) === 404);
  assert.equal(await status(pushed, 'm', 'a.test'), 203);
});

test('a route configuration waits for its first hosts, so that no request finds none', async (t) => {
  const pushed = await startPushedProxy(t, {
    first: { listeners: [adsListener('l', 'r')], routes: [routes('r')], virtualHosts: [host('r/a', 'a.test', 202)] },
  });
  const { ads, proxy } = pushed;
  await pushed.ready;
  await ads.until('the listener is there', () => proxy.running.addresses.has('l'));
  await ads.push({ listeners: [adsListener('l', 's')], routes: [routes('s')] });
  assert.equal(await status(pushed, 'l', 'a.test'), 202, 'the version before serves');
  await ads.push({ virtualHosts: [host('s/a', 'a.test', 203)] });
  await eventually('the new one serves', async () => (await status(pushed, 'l', 'a.test')) === 203);
});

test('hosts that do not come are waited for as long as the source says', async (t) => {
  const source = { ...ADS, initial_fetch_timeout: '0.1s' };
  const pushed = await startPushedProxy(t, {
    first: { listeners: [adsListener('l', 'r')], routes: [routes('r', source, [host('own', 'own.test', 201)])] },
  });
  await pushed.ready;
  await pushed.ads.until('the listener is there', () => pushed.proxy.running.addresses.has('l'));
  assert.equal(await status(pushed, 'l', 'own.test'), 201);
});

test('VHDS is refused where it cannot be: state of the world, and configuration that is not pushed', async (t) => {
  const pushed = await startPushedProxy(t, { protocol: 'sotw' });
  await pushed.ready;
  await pushed.ads.push({ listeners: [adsListener('l', 'r')] });
  await pushed.ads.until('routes are asked for', () => pushed.ads.names.get('routes')?.has('r') === true);
  const [answer] = await pushed.ads.push({ routes: [routes('r')] });
  assert.match(answer?.error ?? '', /route "r".*vhds: only delta servers/);
  const listener = httpListener({ routes: { ...routeConfig([]), vhds: { config_source: ADS } } });
  assert.match(checkResource(listener)?.message ?? '', /vhds: only a route configuration that is pushed/);
});

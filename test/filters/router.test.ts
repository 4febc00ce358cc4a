/** The router filter's configuration; what routing does is tested in test/proxy/router and test/integration. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';

const ROUTER = 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router';

test('the router adds x-envoy-upstream-service-time unless suppress_envoy_headers is set', async (t) => {
  const upstream = await RawUpstream.start(t, answering());
  const listener = (name: string, suppress: boolean) =>
    httpListener({
      name,
      routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]),
      manager: {
        http_filters: [
          { name: 'envoy.filters.http.router', typed_config: { '@type': ROUTER, suppress_envoy_headers: suppress } },
        ],
      },
    });
  const proxy = await startTestProxy(t, [
    listener('plain', false),
    listener('quiet', true),
    staticCluster('up', [upstream.port]),
  ]);
  const header = async (name: string): Promise<string | null> => {
    const response = await fetch(`http://127.0.0.1:${proxy.port(name)}/`);
    await response.text();
    return response.headers.get('x-envoy-upstream-service-time');
  };
  assert.match((await header('plain')) ?? '', /^\d+$/);
  assert.equal(await header('quiet'), null);
});

/** The network rbac filter through a running proxy: a denied connection is closed, and nothing of it goes anywhere. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import filter from '../../../filters/network/rbac.ts';
import type { Json, Resource } from '../../../config/resources.ts';
import { ConfigError } from '../../../proxy/config_error.ts';
import { httpListener, routeConfig, staticCluster } from '../../support/envoy_resources.ts';
import { action, extension, list, MATCHERS, on } from '../../support/matcher_cases.ts';
import { RawClient, RawUpstream } from '../../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../../support/running_proxy.ts';
import { fileScope } from '../../support/scope.ts';

const TYPE = 'type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC';
const scope = fileScope();
let proxy: TestProxy;
let upstream: RawUpstream;

const peers = (address_prefix: string) => ({
  p: { permissions: [{ any: true }], principals: [{ direct_remote_ip: { address_prefix, prefix_len: 32 } }] },
});

/** A listener with a network rbac filter before its connection manager. */
function guarded(name: string, config: Json): Resource {
  const listener = httpListener({ name, routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]) });
  const [chain] = listener.json['filter_chains'] as { filters: Json[] }[];
  chain?.filters.unshift({
    name: 'envoy.filters.network.rbac',
    typed_config: { '@type': TYPE, stat_prefix: `${name}.`, ...config },
  });
  return listener;
}

before(async () => {
  upstream = await RawUpstream.start(scope, (received, socket) => {
    if (received.endsWith('\r\n\r\n')) socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
  });
  proxy = await startTestProxy(scope, [
    guarded('denied', { rules: { action: 'DENY', policies: peers('127.0.0.1') } }),
    guarded('allowed', { rules: { policies: peers('127.0.0.1') }, enforcement_type: 'CONTINUOUS' }),
    guarded('later', { rules: {}, delay_deny: '0.05s' }),
    guarded('much later', { rules: {}, delay_deny: '3600s' }),
    guarded('nobody', { rules: {} }),
    guarded('unmatched', { matcher: {} }),
    guarded('matched', {
      matcher: list([
        on(extension('envoy.extensions.matching.common_inputs.network.v3.SourceIPInput'), { exact: '127.0.0.1' }),
        action('here'),
      ]),
    }),
    guarded('shadow', {
      shadow_rules: { action: 'DENY', policies: peers('127.0.0.1') },
      shadow_rules_stat_prefix: 'istio_dry_run_deny_',
    }),
    staticCluster('up', [upstream.port]),
  ]);
});

test('a denied connection is closed without a byte', async (t) => {
  for (const name of ['denied', 'nobody', 'unmatched']) {
    const before = upstream.all.length;
    const client = new RawClient(t, proxy.port(name));
    client.send('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
    assert.equal(await client.toEnd(), '');
    assert.equal(upstream.all.length, before);
    assert.equal(proxy.value(`${name}.rbac.denied`), 1);
  }
});

test('a denial is delayed, and nothing of the client goes anywhere meanwhile', async (t) => {
  const before = upstream.all.length;
  const startMs = performance.now();
  const client = new RawClient(t, proxy.port('later'));
  client.send('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
  assert.equal(await client.toEnd(), '');
  // Timers count whole milliseconds.
  assert.ok(performance.now() - startMs >= 49);
  assert.equal(upstream.all.length, before);
  assert.equal(proxy.value('later.rbac.denied'), 1);
});

test('a delayed denial holds nothing up', async (t) => {
  const denied = new RawClient(t, proxy.port('much later'));
  denied.send('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
  assert.equal((await fetch(`http://127.0.0.1:${proxy.port('allowed')}/`)).status, 200);
  assert.equal(denied.received, '');
});

test('an allowed connection is served, a shadow rule only counts', async () => {
  for (const name of ['allowed', 'shadow', 'matched']) {
    assert.equal((await fetch(`http://127.0.0.1:${proxy.port(name)}/`)).status, 200);
  }
  assert.ok(proxy.value('allowed.rbac.allowed') >= 1);
  assert.equal(proxy.value('allowed.rbac.denied'), 0);
  assert.ok(proxy.value('shadow.rbac.istio_dry_run_deny_shadow_denied') >= 1);
});

test('network rbac refuses what it would have to skip', () => {
  const parse = (config: Json) => () => filter.parse(config);
  assert.throws(parse({}), /stat_prefix/);
  assert.throws(parse({ stat_prefix: 'a', matcher: MATCHERS['list'] as Json }), /cannot look at .*HttpRequestHeader/);
  assert.throws(parse({ stat_prefix: 'a', enforcement_type: 'NEVER' }), ConfigError);
});

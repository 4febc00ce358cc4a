/** The rbac filter through a running proxy: what is denied, what is only marked, what the numbers and the log say. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import filter from '../../filters/rbac.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { RawClient, RawUpstream } from '../support/raw_peers.ts';
import { LogFile, startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';

const TYPE = 'type.googleapis.com/envoy.extensions.filters.http.rbac.v3.';
const NAME = 'envoy.filters.http.rbac';
const ANY = { any: true };
const scope = fileScope();
const log = new LogFile(scope);
let proxy: TestProxy;
let upstream: RawUpstream;

const paths = (...list: string[]) => ({
  permissions: list.map((exact) => ({ url_path: { path: { exact } } })),
  principals: [ANY],
});
const rbac = (config: Readonly<Record<string, unknown>>) => ({
  name: NAME,
  typed_config: { '@type': `${TYPE}RBAC`, ...config },
});

before(async () => {
  upstream = await RawUpstream.start(scope, (received, socket) => {
    if (received.endsWith('\r\n\r\n')) socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
  });
  proxy = await startTestProxy(scope, [
    httpListener({
      filters: [
        rbac({
          shadow_rules: { action: 'DENY', policies: { dry: paths('/dry') } },
          shadow_rules_stat_prefix: 'istio_dry_run_deny_',
          rules: { action: 'DENY', policies: { 'ns[a]-policy[b]-rule[0]': paths('/admin'), other: paths('/other') } },
          track_per_rule_stats: true,
        }),
      ],
      routes: routeConfig([
        {
          match: { prefix: '/free' },
          route: { cluster: 'up' },
          typed_per_filter_config: { [NAME]: { '@type': `${TYPE}RBACPerRoute` } },
        },
        {
          match: { prefix: '/own' },
          route: { cluster: 'up' },
          typed_per_filter_config: {
            [NAME]: { '@type': `${TYPE}RBACPerRoute`, rbac: { rules: { policies: { own: paths('/own/yes') } } } },
          },
        },
        { match: { prefix: '/' }, route: { cluster: 'up' } },
      ]),
      manager: {
        access_log: [
          log.config(
            '%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_CODE_DETAILS% ' +
              '%DYNAMIC_METADATA(envoy.filters.http.rbac:istio_dry_run_deny_shadow_effective_policy_id)% ' +
              '%DYNAMIC_METADATA(envoy.filters.http.rbac:istio_dry_run_deny_shadow_engine_result)% ' +
              '%DYNAMIC_METADATA(envoy.filters.http.rbac:enforced_engine_result)%\n',
          ),
        ],
      },
    }),
    staticCluster('up', [upstream.port]),
  ]);
});

async function status(path: string): Promise<[number, string]> {
  const answer = await fetch(`http://127.0.0.1:${proxy.port()}${path}`);
  return [answer.status, await answer.text()];
}

test('rbac denies with 403, names the policy in the log, and forwards nothing', async () => {
  const before = upstream.all.length;
  assert.deepEqual(await status('/admin'), [403, 'RBAC: access denied']);
  assert.equal(upstream.all.length, before);
  assert.deepEqual(await status('/x'), [200, 'ok']);
  assert.deepEqual(await status('/dry'), [200, 'ok']);
  assert.deepEqual(await log.lines(3), [
    '/admin 403 rbac_access_denied_matched_policy[ns[a]-policy[b]-rule[0]] - allowed denied',
    '/x 200 via_upstream - allowed allowed',
    '/dry 200 via_upstream dry denied allowed',
  ]);
  assert.equal(proxy.value('http.test.rbac.denied'), 1);
  assert.equal(proxy.value('http.test.rbac.allowed'), 2);
  assert.equal(proxy.value('http.test.rbac.istio_dry_run_deny_shadow_denied'), 1);
  assert.equal(proxy.value('http.test.rbac.istio_dry_run_deny_shadow_allowed'), 2);
  assert.equal(proxy.value('http.test.rbac.policy.ns[a]-policy[b]-rule[0].denied'), 1);
  assert.equal(proxy.value('http.test.rbac.policy.other.denied'), 0);
});

test('a route has rules of its own, or none', async () => {
  assert.equal((await status('/free'))[0], 200);
  assert.equal((await status('/own/yes'))[0], 200);
  assert.equal((await status('/own/no'))[0], 403);
});

test('a denied gRPC request gets status 7', async (t) => {
  const client = new RawClient(t, proxy.port());
  client.send('POST /admin HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n');
  const answer = await client.until((text) => text.includes('\r\n\r\n'));
  assert.match(answer, /^HTTP\/1.1 200 /);
  assert.match(answer, /grpc-status: 7\r\n/);
  assert.match(answer, /grpc-message: RBAC: access denied\r\n/);
});

test('rbac refuses what it would have to skip', () => {
  const unknown = {
    on_no_match: { action: { name: 'a', typed_config: { '@type': 'type.googleapis.com/x.Unknown' } } },
  };
  assert.throws(() => filter.parse({ matcher: unknown }), ConfigError);
  assert.throws(
    () => filter.parse({ rules: { policies: { p: { permissions: [{}], principals: [ANY] } } } }),
    ConfigError,
  );
  assert.throws(() => filter.parseRoute({ rbac: { rules: { policies: { p: {} } } } }), ConfigError);
});

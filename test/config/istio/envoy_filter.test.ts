import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ConfigError } from '../../../proxy/config_error.ts';
import { Compiled, dig, digList, EXPLICIT, istio, service } from './compiled.ts';

const PROXY = { name: 'web-0', namespace: 'default', labels: { app: 'web' }, serviceAccount: 'web', ips: ['10.0.0.1'] };
const INBOUND = { ip: '127.0.0.1', port: 15006, workloadPort: 8080, app: { ip: '127.0.0.1', port: 8080 } };
const MODE = { ...EXPLICIT, inbound: [INBOUND] };

const LIMIT = `
        name: envoy.filters.http.local_ratelimit
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
          stat_prefix: limiter`;

function compiled(spec: string, namespace = 'default', workloadKnown = true): Compiled {
  return new Compiled(service('web', 80, ['10.0.0.1']) + istio('EnvoyFilter', 'patch', spec, namespace), {
    mode: MODE,
    proxy: workloadKnown ? PROXY : undefined,
  });
}

function patch(applyTo: string, match: string, operation: string, value = ''): string {
  return `
configPatches:
  - applyTo: ${applyTo}
    match: ${match}
    patch:
      operation: ${operation}
${value === '' ? '' : `      value: ${value}`}`;
}

const filterNames = (result: Compiled, listener: string): unknown[] =>
  digList(result.json('listener', listener), 'filter_chains', 0, 'filters', 0, 'typed_config', 'http_filters').map(
    (filter) => dig(filter, 'name'),
  );

describe('EnvoyFilter', () => {
  it('puts a local rate limit before the router of inbound listeners when it says so', () => {
    const spec = patch(
      'HTTP_FILTER',
      '{ context: SIDECAR_INBOUND, listener: { filterChain: { filter: { name: envoy.filters.network.http_connection_manager, subFilter: { name: envoy.filters.http.router } } } } }',
      'INSERT_BEFORE',
      LIMIT,
    );
    const result = compiled(spec);
    assert.deepEqual(filterNames(result, 'inbound_8080').slice(-2), [
      'envoy.filters.http.local_ratelimit',
      'envoy.filters.http.router',
    ]);
    assert.ok(!filterNames(result, 'outbound').includes('envoy.filters.http.local_ratelimit'));
  });

  it('puts it first when no neighbour is named', () => {
    const result = compiled(patch('HTTP_FILTER', '{ context: ANY }', 'INSERT_BEFORE', LIMIT));
    assert.equal(filterNames(result, 'outbound')[0], 'envoy.filters.http.local_ratelimit');
  });

  it('merges into the routes of one virtual host when it names it', () => {
    const spec = patch(
      'HTTP_ROUTE',
      '{ context: SIDECAR_OUTBOUND, routeConfiguration: { vhost: { name: "web.default.svc.cluster.local:80" } } }',
      'MERGE',
      '{ route: { timeout: 7s, rate_limits: [{ actions: [{ remote_address: {} }] }] } }',
    );
    const [host, ...others] = digList(compiled(spec).json('route', 'http_proxy'), 'virtual_hosts');
    assert.equal(dig(host, 'routes', 0, 'route', 'timeout'), '7s');
    assert.equal(dig(host, 'routes', 0, 'route', 'cluster'), 'outbound|80||web.default.svc.cluster.local');
    for (const other of others) assert.notEqual(dig(other, 'routes', 0, 'route', 'timeout'), '7s');
  });

  it('merges into routes that stand within a connection manager', () => {
    const result = compiled(
      patch('VIRTUAL_HOST', '{ context: SIDECAR_INBOUND }', 'MERGE', '{ include_request_attempt_count: true }'),
    );
    const host = dig(
      result.json('listener', 'inbound_8080'),
      'filter_chains',
      0,
      'filters',
      0,
      'typed_config',
      'route_config',
      'virtual_hosts',
      0,
    );
    assert.equal(dig(host, 'include_request_attempt_count'), true);
  });

  it('merges into, adds and removes clusters', () => {
    const name = 'outbound|80||web.default.svc.cluster.local';
    const merged = compiled(
      patch('CLUSTER', '{ cluster: { service: web.default.svc.cluster.local } }', 'MERGE', '{ connect_timeout: 3s }'),
    );
    assert.equal(dig(merged.json('cluster', name), 'connect_timeout'), '3s');
    const added = compiled(
      patch('CLUSTER', '{ context: ANY }', 'ADD', '{ name: extra, type: STATIC, connect_timeout: 1s }'),
    );
    assert.ok(added.names('cluster').includes('extra'));
    const removed = compiled(patch('CLUSTER', `{ cluster: { name: "${name}" } }`, 'REMOVE'));
    assert.ok(!removed.names('cluster').includes(name));
  });

  it('holds for the workloads of its namespace, those it selects, or all when it is of the root namespace', () => {
    const spec = patch('HTTP_FILTER', '{ context: ANY }', 'INSERT_FIRST', LIMIT);
    const has = (result: Compiled) => filterNames(result, 'outbound').includes('envoy.filters.http.local_ratelimit');
    assert.equal(has(compiled(spec, 'elsewhere')), false);
    assert.equal(has(compiled(spec, 'istio-system')), true);
    assert.equal(has(compiled(`workloadSelector: { labels: { app: other } }${spec}`)), false);
    assert.equal(has(compiled(`workloadSelector: { labels: { app: web } }${spec}`)), true);
  });

  it('is refused by name and place when it asks for a patch that is not executed', () => {
    const spec = patch('NETWORK_FILTER', '{ context: ANY }', 'INSERT_FIRST', '{ name: x }');
    assert.throws(
      () => compiled(spec),
      (error: unknown) =>
        error instanceof ConfigError &&
        /does not execute EnvoyFilter patches that INSERT_FIRST to NETWORK_FILTER; it executes HTTP_FILTER/.test(
          error.message,
        ) &&
        // The object is in the sentence that a person reads, the place is the patch's own.
        /^test\.yaml:\d+:\d+$/.test(error.origin ?? ''),
    );
  });

  it('is passed over when it is for gateways, and named in a warning when no workload is known', () => {
    const gateway = compiled(patch('NETWORK_FILTER', '{ context: GATEWAY }', 'INSERT_FIRST', '{ name: x }'));
    assert.ok(!gateway.result.warnings.some((warning) => warning.includes('EnvoyFilter')));
    const nobody = compiled(patch('HTTP_FILTER', '{ context: ANY }', 'INSERT_FIRST', LIMIT), 'default', false);
    assert.match(
      nobody.result.warnings.join('\n'),
      /EnvoyFilter "patch" applies to workloads; name one with --workload/,
    );
  });
});

describe('WasmPlugin', () => {
  const yaml = (selector: string) => `${service('web', 80, ['10.0.0.1'])}
---
apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: { name: auth, namespace: default }
spec: { url: oci://x/y, phase: AUTHN, selector: { matchLabels: { app: ${selector} } } }
`;

  it('is refused when it would hold for the workload: a check in it is never skipped in silence', () => {
    assert.throws(
      () => new Compiled(yaml('web'), { mode: MODE, proxy: PROXY }),
      /WasmPlugin "auth" asks for Wasm or Lua, which Pillion does not run/,
    );
    new Compiled(yaml('other'), { mode: MODE, proxy: PROXY });
  });
});

describe('ProxyConfig', () => {
  const config = (name: string, namespace: string, spec: string) => istio('ProxyConfig', name, spec, namespace);

  it('gives the concurrency of the narrowest object that has one', () => {
    const of = (yaml: string) => new Compiled(service('web', 80) + yaml, { proxy: PROXY }).result.proxyConfig;
    const wide = config('mesh', 'istio-system', 'concurrency: 4\nenvironmentVariables: { A: x }');
    assert.equal(of('').concurrency, undefined);
    assert.equal(of(wide).concurrency, 4);
    const narrow = of(wide + config('web', 'default', 'selector: { matchLabels: { app: web } }\nconcurrency: 1'));
    assert.equal(narrow.concurrency, 1);
    assert.deepEqual([...narrow.environment], [['A', 'x']]);
  });
});

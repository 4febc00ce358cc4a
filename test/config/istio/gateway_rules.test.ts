import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ConfigError } from '../../../proxy/config_error.ts';
import { Compiled, dig, digList, service, SIDECAR } from './compiled.ts';

const MESH =
  service('web', 80, ['10.0.0.1'], 'shop') +
  service('cart', 8000, ['10.0.0.2'], 'shop') +
  service('pay', 8000, ['10.0.0.3'], 'ops');

function proxy(namespace: string) {
  return { name: 'web-0', namespace, labels: { app: 'web' }, serviceAccount: 'web', ips: ['10.0.0.1'] };
}

function route(rules: string, { kind = 'HTTPRoute', namespace = 'shop', parent = 'cart', of = 'shop' } = {}): string {
  return `
---
apiVersion: gateway.networking.k8s.io/v1
kind: ${kind}
metadata: { name: r, namespace: ${namespace} }
spec:
  parentRefs: [{ group: '', kind: Service, name: ${parent}, namespace: ${of}, port: 8000 }]
  rules:
${rules.trim().replaceAll(/^/gm, '  ')}
`;
}

function compiled(yaml: string, namespace = 'shop'): Compiled {
  return new Compiled(MESH + yaml, { mode: SIDECAR, proxy: proxy(namespace) });
}

/** The routes of cart:8000 as a client of a namespace sees them. */
function routes(yaml: string, namespace = 'shop'): readonly unknown[] {
  const hosts = digList(compiled(yaml, namespace).json('route', '8000'), 'virtual_hosts');
  const cart = hosts.find((host) => dig(host, 'name') === 'cart.shop.svc.cluster.local:8000');
  return digList(cart, 'routes');
}

const grant = (kind: string, namespace: string) => `
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: { name: g, namespace: ops }
spec:
  from: [{ group: gateway.networking.k8s.io, kind: ${kind}, namespace: ${namespace} }]
  to: [{ group: '', kind: Service }]
`;

describe('HTTPRoute of a service', () => {
  it('matches whole path segments when the type is PathPrefix', () => {
    const [first] = routes(
      route('- matches: [{ path: { type: PathPrefix, value: /a/ } }]\n  backendRefs: [{ name: cart, port: 8000 }]'),
    );
    assert.equal(dig(first, 'match', 'path_separated_prefix'), '/a');
  });

  it('is ordered by specificity, whatever the order of its rules', () => {
    const all = routes(
      route(`
- { name: all, backendRefs: [{ name: cart, port: 8000 }] }
- { name: regex, matches: [{ path: { type: RegularExpression, value: '/r.*' } }], backendRefs: [{ name: cart, port: 8000 }] }
- { name: short, matches: [{ path: { value: /a } }], backendRefs: [{ name: cart, port: 8000 }] }
- { name: long, matches: [{ path: { value: /abc } }], backendRefs: [{ name: cart, port: 8000 }] }
- { name: post, matches: [{ path: { value: /a }, method: POST }], backendRefs: [{ name: cart, port: 8000 }] }
- { name: exact, matches: [{ path: { type: Exact, value: /x } }], backendRefs: [{ name: cart, port: 8000 }] }
`),
    );
    assert.deepEqual(
      all.map((item) => dig(item, 'name')),
      ['exact', 'long', 'post', 'short', 'regex', 'all'],
    );
  });

  it('holds for the clients of its own namespace only when the service is in another', () => {
    const consumer = route('- backendRefs: [{ name: cart, namespace: shop, port: 8000 }]', { namespace: 'ops' });
    assert.equal(dig(routes(consumer, 'shop')[0], 'name'), 'default');
    assert.equal(dig(routes(consumer, 'ops')[0], 'name'), 'ops.r.0');
  });

  it('reaches a service of another namespace only when a ReferenceGrant allows it', () => {
    const rule = '- backendRefs: [{ name: pay, namespace: ops, port: 8000 }]';
    const refused = routes(route(rule))[0];
    assert.match(String(dig(refused, 'route', 'cluster')), /UnknownService/);
    assert.equal(dig(refused, 'route', 'cluster_not_found_response_code'), 'INTERNAL_SERVER_ERROR');
    const allowed = routes(route(rule) + grant('HTTPRoute', 'shop'))[0];
    assert.equal(dig(allowed, 'route', 'cluster'), 'outbound|8000||pay.ops.svc.cluster.local');
    const other = routes(route(rule) + grant('HTTPRoute', 'elsewhere'))[0];
    assert.match(String(dig(other, 'route', 'cluster')), /UnknownService/);
    const warnings = compiled(route(rule)).result.warnings.join('\n');
    assert.match(warnings, /:\d+:\d+: backend "ops\/pay" cannot be used; its share answers 500/);
  });

  it('answers 500 when the weights add up to nothing, or there is no backend', () => {
    for (const rule of [
      '- backendRefs: [{ name: cart, port: 8000, weight: 0 }]',
      '- matches: [{ path: { value: / } }]',
    ]) {
      assert.equal(dig(routes(route(rule))[0], 'direct_response', 'status'), 500);
    }
  });

  it('answers 500 and says so when a filter is of a type that is not supported', () => {
    const yaml = route(
      '- filters: [{ type: ExtensionRef, extensionRef: { name: x } }]\n  backendRefs: [{ name: cart, port: 8000 }]',
    );
    assert.equal(dig(routes(yaml)[0], 'direct_response', 'status'), 500);
    assert.match(compiled(yaml).result.warnings.join('\n'), /filter type "ExtensionRef" is not supported/);
  });

  it('takes the prefix away when it is replaced by /', () => {
    const [first] = routes(
      route(`
- matches: [{ path: { value: /v1.0 } }]
  filters: [{ type: URLRewrite, urlRewrite: { path: { type: ReplacePrefixMatch, replacePrefixMatch: / } } }]
  backendRefs: [{ name: cart, port: 8000 }]`),
    );
    assert.equal(dig(first, 'route', 'prefix_rewrite'), undefined);
    assert.deepEqual(dig(first, 'route', 'regex_rewrite'), {
      pattern: { regex: String.raw`^/v1\.0(/?)(.*)` },
      substitution: String.raw`/\2`,
    });
  });

  it('makes the time for one try the time for all when there is no retry', () => {
    const rule = (retry: string) =>
      `- timeouts: { request: 10s, backendRequest: 2s }\n  ${retry}\n  backendRefs: [{ name: cart, port: 8000 }]`;
    assert.equal(dig(routes(route(rule('name: x')))[0], 'route', 'timeout'), '2s');
    const retried = routes(route(rule('retry: { attempts: 1, codes: [503] }')))[0];
    assert.equal(dig(retried, 'route', 'timeout'), '10s');
    assert.equal(dig(retried, 'route', 'retry_policy', 'per_try_timeout'), '2s');
    assert.deepEqual(dig(retried, 'route', 'retry_policy', 'retriable_status_codes'), [503]);
  });

  it('redirects with 302 when no status is given', () => {
    const [first] = routes(
      route('- filters: [{ type: RequestRedirect, requestRedirect: { hostname: other.example } }]'),
    );
    assert.equal(dig(first, 'redirect', 'host_redirect'), 'other.example');
    assert.equal(dig(first, 'redirect', 'response_code'), 'FOUND');
  });

  it('warns when its parent service does not exist', () => {
    const { warnings } = compiled(route('- {}', { parent: 'nothing' })).result;
    assert.match(warnings.join('\n'), /no Service "shop\/nothing" exists/);
  });

  for (const [rules, complaint] of [
    ['- matches: [{ path: { type: RegularExpression, value: "(" } }]', /RE2 regular expression/],
    ['- matches: [{ path: { type: Glob, value: / } }]', /one of Exact, PathPrefix, RegularExpression/],
    ['- backendRef: []', /did you mean "backendRefs"/],
  ] as const) {
    it(`is refused with its place when it says ${rules}`, () => {
      assert.throws(
        () => compiled(route(rules)),
        (error: unknown) =>
          error instanceof ConfigError && complaint.test(error.message) && /:\d+:\d+$/.test(error.origin ?? ''),
      );
    });
  }
});

describe('GRPCRoute of a service', () => {
  for (const [method, match] of [
    ['{ service: a.B, method: Get }', { path: '/a.B/Get' }],
    ['{ service: a.B }', { path_separated_prefix: '/a.B' }],
    ['{ method: Get }', { safe_regex: { regex: '/[^/]+/Get' } }],
    ['{ type: RegularExpression, service: "a[.]B" }', { safe_regex: { regex: '/a[.]B/[^/]+' } }],
  ] as const) {
    it(`matches the path of calls when the method is ${method}`, () => {
      const rule = `- matches: [{ method: ${method} }]\n  backendRefs: [{ name: cart, port: 8000 }]`;
      const [first] = routes(route(rule, { kind: 'GRPCRoute' }));
      const { case_sensitive: _case, ...path } = dig(first, 'match') as Record<string, unknown>;
      assert.deepEqual(path, match);
    });
  }
});

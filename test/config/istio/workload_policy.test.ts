/** Which security policies hold for a workload, and what becomes of them on its inbound listeners. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parsePeerAuthentication, MutualTlsModes } from '../../../config/istio/peer_authentication.ts';
import { ConfigError } from '../../../proxy/config_error.ts';
import { kubeObjects } from '../../support/kube_objects.ts';
import { Compiled, dig, digList, service } from './compiled.ts';

const CART = {
  name: 'cart-0',
  namespace: 'default',
  labels: { app: 'cart' },
  serviceAccount: 'cart',
  ips: ['10.0.0.1'],
};
const INBOUND = {
  kind: 'explicit',
  outbound: undefined,
  inbound: [{ ip: '127.0.0.1', port: 0, workloadPort: 8080, app: { ip: '127.0.0.1', port: 8081 } }],
  accessLog: undefined,
} as const;

function security(kind: string, name: string, spec: string, namespace = 'default'): string {
  return `\n---\napiVersion: security.istio.io/v1\nkind: ${kind}\nmetadata: { name: ${name}, namespace: ${namespace} }\nspec: ${spec}\n`;
}

function inboundFilters(yaml: string, mesh: Record<string, unknown> = {}): unknown[] {
  const compiled = new Compiled(service('cart', 80, ['10.0.0.1']) + yaml, { proxy: CART, mode: INBOUND, mesh });
  const filters = digList(compiled.json('listener', 'inbound_8080'), 'filter_chains', 0, 'filters');
  return digList(filters.at(-1), 'typed_config', 'http_filters').filter((filter) =>
    /rbac|jwt_authn|ext_authz/.test(String(dig(filter, 'name'))),
  );
}

const SERVICE_WITH_TCP =
  '\n---\napiVersion: v1\nkind: Service\nmetadata: { name: raw }\nspec: { selector: { app: cart }, ports: [{ name: tcp, port: 7000 }] }\n';

const policies = (filter: unknown) => Object.keys((dig(filter, 'typed_config', 'rules', 'policies') ?? {}) as object);

describe('an AuthorizationPolicy', () => {
  it('holds for its namespace, for the labels it selects, and from the root namespace for all', () => {
    const yaml =
      security('AuthorizationPolicy', 'all', '{}') +
      security('AuthorizationPolicy', 'cart', '{ selector: { matchLabels: { app: cart } } }') +
      security('AuthorizationPolicy', 'web', '{ selector: { matchLabels: { app: web } } }') +
      security('AuthorizationPolicy', 'other', '{}', 'other') +
      security('AuthorizationPolicy', 'mesh', '{}', 'istio-system') +
      security('AuthorizationPolicy', 'gateway', '{ targetRefs: [{ kind: Gateway, name: g }] }');
    assert.deepEqual(policies(inboundFilters(yaml)[0]), [
      'ns[default]-policy[all]-rule[0]',
      'ns[default]-policy[cart]-rule[0]',
      'ns[istio-system]-policy[mesh]-rule[0]',
    ]);
  });

  it('comes as AUDIT, DENY, ALLOW, whatever the order of the file', () => {
    const yaml = ['ALLOW', 'DENY', 'AUDIT'].map((action) =>
      security('AuthorizationPolicy', action.toLowerCase(), `{ action: ${action}, rules: [{}] }`),
    );
    assert.deepEqual(
      inboundFilters(yaml.join('')).map((filter) => dig(filter, 'typed_config', 'rules', 'action')),
      ['LOG', 'DENY', undefined],
    );
  });

  it('means the workload by ports and addresses where the listener has others', () => {
    const rule = (operation: string, when: string) =>
      security('AuthorizationPolicy', 'a', `{ rules: [{ to: [{ operation: ${operation} }], when: [${when}] }] }`);
    const [filter] = inboundFilters(
      rule('{ ports: ["8080", "9090"] }', '{ key: destination.ip, values: [10.0.0.0/24] }'),
    );
    const permission = dig(
      filter,
      'typed_config',
      'rules',
      'policies',
      'ns[default]-policy[a]-rule[0]',
      'permissions',
      0,
    );
    assert.deepEqual(permission, {
      and_rules: {
        rules: [
          { or_rules: { rules: [{ any: true }, { not_rule: { any: true } }] } },
          { or_rules: { rules: [{ any: true }] } },
        ],
      },
    });
  });

  it('of action CUSTOM denies when its provider is unknown, is no service, or is not the only one', () => {
    const custom = (provider: string) =>
      security(
        'AuthorizationPolicy',
        `p-${provider}`,
        `{ action: CUSTOM, provider: { name: ${provider} }, rules: [{}] }`,
      );
    const provider = (name: string, host: string) => ({ name, envoyExtAuthzHttp: { service: host, port: 80 } });
    const good = provider('good', 'cart.default.svc.cluster.local');
    const denies = (yaml: string, extensionProviders: unknown[]) =>
      inboundFilters(yaml, { extensionProviders }).map((filter) => [
        dig(filter, 'typed_config', 'rules', 'action'),
        ...policies(filter),
      ]);
    const bad = (name: string) => [
      'DENY',
      `istio-ext-authz-${name}-ns[default]-policy[p-${name}]-rule[0]-deny-due-to-bad-CUSTOM-action`,
    ];
    assert.deepEqual(denies(custom('none'), [good]), [bad('none')]);
    assert.deepEqual(denies(custom('far'), [provider('far', 'nowhere.example')]), [bad('far')]);
    assert.deepEqual(denies(custom('good') + custom('other'), [good, { ...good, name: 'other' }]), [
      bad('good'),
      bad('other'),
    ]);
    assert.deepEqual(denies(custom('good'), [{ name: 'good', zipkin: {} }]), [bad('good')]);
  });

  it('is refused with its place when it cannot be meant', () => {
    const wrong: readonly (readonly [string, RegExp])[] = [
      ['{ action: ALOW }', /did you mean ALLOW/],
      ['{ action: CUSTOM, rules: [{}] }', /needs provider\.name/],
      ['{ action: CUSTOM, provider: { name: a } }', /needs rules/],
      ['{ provider: { name: a } }', /for action CUSTOM only/],
      ['{ rules: [{ from: [{}] }] }', /spec\.rules\[0\]\.from\[0\]: source is required/],
      ['{ rules: [{ to: [{ operation: { paths: [] } }] }] }', /at least one entry/],
      ['{ rules: [{ to: [{ operation: { paths: [""] } }] }] }', /an empty entry/],
      ['{ rules: [{ to: [{ operation: { path: [a] } }] }] }', /did you mean "paths"/],
      ['{ rules: [{ to: [{ operation: { ports: ["0"] } }] }] }', /a port from 1 to 65535/],
      ['{ rules: [{ to: [{ operation: { paths: ["/a/{*}b"] } }] }] }', /each as a whole segment/],
      ['{ rules: [{ to: [{ operation: { paths: ["/{**}/{*}"] } }] }] }', /no other wildcard/],
      ['{ rules: [{ from: [{ source: { ipBlocks: ["10.0.0.0/33"] } }] }] }', /an IP address or a CIDR range/],
      ['{ rules: [{ from: [{ source: { serviceAccounts: ["a/*"] } }] }] }', /namespace\/name/],
      ['{ rules: [{ when: [{ key: "request.header[a]", values: [b] }] }] }', /no attribute that Istio knows/],
      ['{ rules: [{ when: [{ key: "source.ip" }] }] }', /values or notValues/],
      ['{ selector: { matchLabels: { a: b } }, targetRefs: [{ kind: Service, name: a }] }', /only one of selector/],
    ];
    for (const [spec, message] of wrong) {
      assert.throws(
        () => inboundFilters(security('AuthorizationPolicy', 'a', spec)),
        (error: unknown) => {
          assert.ok(error instanceof ConfigError);
          assert.match(error.message, message);
          assert.match(error.origin ?? '', /^test\.yaml:\d+:\d+$/);
          return true;
        },
        spec,
      );
    }
  });
});

describe('advice', () => {
  const TCP = SERVICE_WITH_TCP;
  const advice = (yaml: string) =>
    new Compiled(service('cart', 80, ['10.0.0.1']) + TCP + yaml, { proxy: CART, mode: INBOUND }).result.warnings;

  it('says what a rule about HTTP does on a TCP port', () => {
    const rules = 'rules: [{ to: [{ operation: { paths: [/a] } }] }]';
    assert.match(
      advice(security('AuthorizationPolicy', 'a', `{ ${rules} }`))[0] ?? '',
      /TCP port 7000 a rule .* never allows/,
    );
    assert.match(
      advice(security('AuthorizationPolicy', 'a', `{ action: DENY, ${rules} }`))[0] ?? '',
      /TCP port 7000 what a rule asks of HTTP is passed over/,
    );
    assert.deepEqual(
      advice(security('AuthorizationPolicy', 'a', '{ rules: [{ to: [{ operation: { ports: ["7000"] } }] }] }')),
      [],
    );
  });

  it('says that an authorizer that speaks HTTP is not asked on a TCP port', () => {
    const custom = security('AuthorizationPolicy', 'a', '{ action: CUSTOM, provider: { name: p }, rules: [{}] }');
    const mesh = {
      extensionProviders: [{ name: 'p', envoyExtAuthzHttp: { service: 'cart.default.svc.cluster.local', port: 80 } }],
    };
    const { warnings } = new Compiled(service('cart', 80, ['10.0.0.1']) + TCP + custom, {
      proxy: CART,
      mode: INBOUND,
      mesh,
    }).result;
    assert.match(warnings[0] ?? '', /"a" is not asked about on TCP port 7000: its provider "p" speaks HTTP/);
  });

  it('says that a token is not required until a policy asks for one', () => {
    const tokens = security('RequestAuthentication', 'jwt', `{ jwtRules: [{ issuer: a, jwks: '{"keys":[]}' }] }`);
    assert.match(advice(tokens)[0] ?? '', /"jwt" lets requests without a token pass/);
    const asks = security(
      'AuthorizationPolicy',
      'a',
      '{ rules: [{ from: [{ source: { requestPrincipals: ["*"] } }] }] }',
    );
    assert.doesNotMatch(advice(tokens + asks).join(), /without a token/);
  });
});

describe('PeerAuthentication', () => {
  const modes = (yaml: string) => {
    const all = kubeObjects(yaml).map((object) =>
      parsePeerAuthentication(object, { object, path: [], allowUnknown: false }),
    );
    return new MutualTlsModes(all, CART, 'istio-system');
  };
  const policy = (name: string, spec: string, namespace?: string) =>
    security('PeerAuthentication', name, spec, namespace);
  const mtls = (mode: string) => `mtls: { mode: ${mode} }`;
  const cart = 'selector: { matchLabels: { app: cart } }';

  it('is PERMISSIVE when nothing is said', () => {
    assert.equal(modes('').of(80), 'PERMISSIVE');
    assert.equal(modes(policy('a', '{}')).of(80), 'PERMISSIVE');
  });

  it('is decided by the port, then the selector, the namespace, the mesh', () => {
    const mesh = policy('mesh', `{ ${mtls('STRICT')} }`, 'istio-system');
    const namespace = policy('ns', `{ ${mtls('DISABLE')} }`);
    const workload = policy('w', `{ ${cart}, ${mtls('PERMISSIVE')}, portLevelMtls: { 80: { mode: STRICT }, 81: {} } }`);
    assert.equal(modes(mesh).of(80), 'STRICT');
    assert.equal(modes(mesh + namespace).of(80), 'DISABLE');
    const all = modes(mesh + namespace + workload);
    assert.deepEqual([all.of(80), all.of(81), all.of(82)], ['STRICT', 'PERMISSIVE', 'PERMISSIVE']);
    assert.equal(all.objectOf(80)?.name, 'w');
  });

  it('leaves an unset mode to the wider level', () => {
    const mesh = policy('mesh', `{ ${mtls('STRICT')} }`, 'istio-system');
    assert.equal(modes(mesh + policy('ns', `{ ${mtls('UNSET')} }`) + policy('w', `{ ${cart} }`)).of(80), 'STRICT');
  });

  it('with a selector in the root namespace, or of other labels, does not hold', () => {
    assert.equal(modes(policy('a', `{ ${cart}, ${mtls('STRICT')} }`, 'istio-system')).of(80), 'PERMISSIVE');
    const other = 'selector: { matchLabels: { app: web } }';
    assert.equal(modes(policy('a', `{ ${other}, ${mtls('STRICT')} }`)).of(80), 'PERMISSIVE');
  });

  it('gives the oldest the word at one level', () => {
    assert.equal(modes(policy('a', `{ ${mtls('STRICT')} }`) + policy('b', `{ ${mtls('DISABLE')} }`)).of(1), 'STRICT');
  });
});

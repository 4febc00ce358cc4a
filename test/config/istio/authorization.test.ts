/** AuthorizationPolicy against istiod: the same filters of the same YAML, and the same decisions of both. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseAllDocuments } from 'yaml';
import { authorizationFilters } from '../../../config/istio/authorization_filters.ts';
import { parseAuthorizationPolicy } from '../../../config/istio/authorization_policy.ts';
import { ExtensionProviders } from '../../../config/istio/extension_providers.ts';
import { meshConfig } from '../../../config/istio/mesh.ts';
import type { Json } from '../../../config/resources.ts';
import { parseRbac } from '../../../proxy/policy/rbac.ts';
import { Fields } from '../../../proxy/resource_fields.ts';
import { kubeObjects } from '../../support/kube_objects.ts';
import { subject, type SubjectOptions } from '../../support/policy_subject.ts';
import { snakeCase } from '../../support/snake_case.ts';
import { differences, normalise } from './comparison.ts';

const DATA = join(import.meta.dirname, '../../../../shared/data/istio-authz/http');
const REQUESTS_EACH = 800;

interface Pair {
  readonly input: string;
  readonly outputs: readonly string[];
  readonly trustDomains?: readonly string[];
  /** MeshConfig. */
  readonly mesh?: Json;
  /** istiod writes it otherwise for old proxies: only decisions are compared. */
  readonly decisionsOnly?: boolean;
}

const HTTP_PROVIDER: Json = {
  service: 'foo/my-custom-ext-authz.foo.svc.cluster.local',
  port: 9000,
  timeout: '10s',
  failOpen: true,
  statusOnError: '403',
  pathPrefix: '/check',
  includeRequestHeadersInCheck: ['x-custom-id', 'x-prefix-*', '*-suffix'],
  includeAdditionalHeadersInCheck: { 'x-header-2': 'value-2', 'x-header-1': 'value-1' },
  includeRequestBodyInCheck: { maxRequestBytes: 2048, allowPartialMessage: true, packAsBytes: true },
  headersToUpstreamOnAllow: ['Authorization', 'x-prefix-*', '*-suffix'],
  headersToDownstreamOnDeny: ['Set-cookie', 'x-prefix-*', '*-suffix'],
  headersToDownstreamOnAllow: ['Set-cookie', 'x-prefix-*', '*-suffix'],
};
const GRPC_PROVIDER: Json = {
  service: 'my-custom-ext-authz.foo.svc.cluster.local',
  port: 9000,
  failOpen: true,
  statusOnError: '403',
};
const withProvider = (provider: Json): Json => ({ extensionProviders: [{ name: 'default', ...provider }] });

const same = (name: string, outputs = 1): Pair => ({
  input: `${name}-in`,
  outputs: outputs === 1 ? [`${name}-out`] : Array.from({ length: outputs }, (_, index) => `${name}-out${index + 1}`),
});

const PAIRS: readonly Pair[] = [
  same('allow-empty-rule'),
  same('allow-full-rule'),
  { ...same('allow-host-before-111'), decisionsOnly: true },
  same('allow-nil-rule'),
  same('allow-path'),
  same('audit-full-rule'),
  same('custom-bad-multiple-providers', 2),
  { input: 'custom-simple-http-in', outputs: ['custom-bad-out'] },
  {
    input: 'custom-simple-http-in',
    outputs: ['custom-grpc-provider-no-namespace-out1', 'custom-grpc-provider-no-namespace-out2'],
    mesh: withProvider({ envoyExtAuthzGrpc: GRPC_PROVIDER }),
  },
  {
    input: 'custom-simple-http-in',
    outputs: ['custom-grpc-provider-out1', 'custom-grpc-provider-out2'],
    mesh: withProvider({
      envoyExtAuthzGrpc: {
        ...GRPC_PROVIDER,
        timeout: '2ms',
        includeRequestBodyInCheck: { maxRequestBytes: 4096, allowPartialMessage: true },
      },
    }),
  },
  {
    input: 'custom-simple-http-in',
    outputs: ['custom-http-provider-out1', 'custom-http-provider-out2'],
    mesh: withProvider({ envoyExtAuthzHttp: HTTP_PROVIDER }),
  },
  same('deny-and-allow', 2),
  same('deny-empty-rule'),
  same('dry-run-allow-and-deny', 2),
  same('dry-run-allow'),
  same('dry-run-mix'),
  same('multiple-policies'),
  { ...same('simple-policy-multiple-td-aliases'), trustDomains: ['td1', 'cluster.local', 'some-td'] },
  { ...same('simple-policy-principal-with-wildcard'), trustDomains: ['td1', 'foobar'] },
  { ...same('simple-policy-td-aliases'), trustDomains: ['td1', 'cluster.local'] },
  same('single-policy'),
  { ...same('td-aliases-source-principal'), trustDomains: ['new-td', 'old-td', 'some-trustdomain'] },
  same('trust-domains'),
];

function documents(name: string): unknown[] {
  return parseAllDocuments(readFileSync(join(DATA, `${name}.yaml`), 'utf8'))
    .map((document) => document.toJS() as unknown)
    .filter((json) => json !== null);
}

function ours({ input, trustDomains = ['cluster.local'], mesh = {} }: Pair, tcp = false): readonly Json[] {
  const objects = kubeObjects(readFileSync(join(DATA, `${input}.yaml`), 'utf8'), input);
  const policies = objects.map((object) => parseAuthorizationPolicy(object, { object, path: [], allowUnknown: false }));
  const providers = new ExtensionProviders(meshConfig(mesh).authorizers, () => true);
  const { custom, others } = authorizationFilters({ policies, providers, trustDomains }, tcp);
  return [...custom, ...others];
}

function theirs({ outputs }: Pair): readonly Json[] {
  return outputs.flatMap(documents).map((json) => snakeCase(json) as Json);
}

/** What a chain of rbac filters decides: allowed or denied, and by which policies, shadow ones too. */
function decider(filters: readonly Json[]): (options: SubjectOptions) => string {
  const engines = filters
    .filter((filter) => String(filter['name']).endsWith('.rbac'))
    .flatMap((filter) => {
      const { enforced, shadow } = parseRbac(new Fields(filter['typed_config']), true);
      return [enforced, shadow].filter((engine) => engine !== undefined);
    });
  return (options) => {
    const one = subject(options);
    return engines
      .map((engine) => {
        const { allowed, policy } = engine.decide(one);
        return `${allowed} ${policy}`;
      })
      .join(' / ');
  };
}

describe('AuthorizationPolicy', { skip: existsSync(DATA) ? false : `no data at ${DATA}` }, () => {
  let asked = 0;
  let matched = 0;
  for (const pair of PAIRS) {
    if (pair.decisionsOnly !== true) {
      it(`gives istiod's filters: ${pair.outputs.join(', ')}`, () => {
        assert.deepEqual(differences(normalise(theirs(pair)), normalise(ours(pair))), []);
      });
    }
    it(`decides as istiod's rules do: ${pair.outputs.join(', ')}`, () => {
      const own = decider(ours(pair));
      const istiods = decider(theirs(pair));
      const wrong: string[] = [];
      fc.assert(
        fc.property(requests(documents(pair.input)), (options) => {
          const wanted = istiods(options);
          const got = own(options);
          asked++;
          if (wanted.includes('ns[foo]')) matched++;
          if (wanted !== got) wrong.push(`${JSON.stringify(options)}: istiod ${wanted}, here ${got}`);
        }),
        { seed: 4, numRuns: REQUESTS_EACH },
      );
      assert.deepEqual(wrong, []);
    });
  }

  it('was asked more than 10,000 times, and rules did match', () => {
    assert.ok(asked >= 10_000, `${asked} requests`);
    assert.ok(matched >= 2000, `${matched} of ${asked} requests matched a rule`);
  });
});

/** Requests made of what the policies speak of, so that rules do match. */
function requests(policies: readonly unknown[]): fc.Arbitrary<SubjectOptions> {
  const words = wordsOf(policies);
  const word = (fallback: string) => fc.constantFrom(...(words.length === 0 ? [fallback] : words), fallback);
  const ips = words.filter((text) => /^\d+\.\d+\.\d+\.\d+$/.test(text));
  const ip = fc.constantFrom('10.0.0.1', '5.6.7.8', '1.2.3.4', '9.2.1.1', ...ips);
  const ports = words.filter((text) => /^\d+$/.test(text)).map(Number);
  const principal = fc.oneof(
    fc.constant(undefined),
    word('x').map((text) => `spiffe://${text}`),
    fc
      .tuple(fc.constantFrom('cluster.local', 'td1', 'bad', 'some-trustdomain', 'old-td'), word('ns'), word('sa'))
      .map(([domain, ns, sa]) => `spiffe://${domain}/ns/${ns}/sa/${sa}`),
  );
  const claims = fc.record({
    iss: word('iss'),
    sub: fc.oneof(word('sub'), fc.constant('')),
    aud: fc.oneof(word('aud'), fc.array(word('aud'), { maxLength: 2 })),
    azp: word('azp'),
    nested1: fc.record({ nested2: word('nested') }),
  });
  return fc.record({
    method: fc.oneof(fc.constantFrom('GET', 'POST'), word('PUT')),
    path: fc.oneof(
      word('/other'),
      word('/x').map((text) => `${text}?q=1`),
    ),
    host: fc.oneof(
      word('other.com'),
      word('other.com').map((text) => `${text.toUpperCase()}:80`),
    ),
    headers: fc.oneof(
      fc.constant([] as [string, string][]),
      word('v').map((text) => [['x-header', text] as [string, string]]),
      word('v').map((text) => [['x-abc', text] as [string, string]]),
    ),
    principal,
    sni: fc.oneof(fc.constant(undefined), word('sni')),
    local: fc.tuple(ip, fc.constantFrom(8080, ...ports)) as fc.Arbitrary<[string, number]>,
    peer: ip,
    remote: ip,
    metadata: fc.oneof(
      fc.constant({}),
      claims.map((payload) => ({ 'envoy.filters.http.jwt_authn': { payload } })),
      word('c').map((c) => ({ 'envoy.filters.a.b': { c } })),
    ),
  });
}

/** Every text of the policies with its wildcards filled in. */
function wordsOf(json: unknown): string[] {
  const out = new Set<string>();
  const walk = (value: unknown): void => {
    if (typeof value === 'string') {
      const text = value.replace(/\{\*\*?\}/g, 'seg').replace(/^\*|\*$/g, 'w');
      out.add(text);
      for (const part of text.split('/')) out.add(part);
      out.add(text.replace(/\/\d+$/, ''));
    } else if (value !== null && typeof value === 'object') for (const item of Object.values(value)) walk(item);
  };
  walk(json);
  out.delete('');
  return [...out];
}

/** The whole chain that the compiler makes of policies, in Pillion and in Envoy: the same answers to generated requests. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { authorizationFilters } from '../../config/istio/authorization_filters.ts';
import { parseAuthorizationPolicy } from '../../config/istio/authorization_policy.ts';
import { ExtensionProviders } from '../../config/istio/extension_providers.ts';
import { jwtFilter, parseRequestAuthentication } from '../../config/istio/request_authentication.ts';
import type { Json, Resource } from '../../config/resources.ts';
import { BesideEnvoy } from '../support/beside_envoy.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { exchangeThrough } from '../support/http1_exchange.ts';
import { SAYS_DETAILS } from '../support/jwt_cases.ts';
import { kubeObjects } from '../support/kube_objects.ts';
import { fileScope } from '../support/scope.ts';
import { inSeconds, KEY_SET, token } from '../support/tokens.ts';

const scope = fileScope();
const REQUESTS = 400;

const POLICIES: Readonly<Record<string, string>> = {
  deny: `{ action: DENY, rules: [
    { to: [{ operation: { paths: ["/admin*", "*/secret", "/v/{*}/x"], notMethods: [GET] } }] },
    { when: [{ key: "request.headers[x-role]", values: [root, "adm*"] }] },
    { to: [{ operation: { hosts: ["*.internal"] } }], from: [{ source: { notRemoteIpBlocks: [10.0.0.0/8] } }] }] }`,
  claims: `{ action: DENY, rules: [
    { when: [{ key: "request.auth.claims[groups]", values: [banned, "x-*"] }] },
    { from: [{ source: { requestPrincipals: ["i/evil"] } }] }] }`,
  allow: `{ rules: [
    { to: [{ operation: { methods: [GET, POST], paths: ["/a*", "/v/{**}"] } }] },
    { from: [{ source: { requestPrincipals: ["i/*"] } }], to: [{ operation: { notPaths: ["/never"] } }] },
    { from: [{ source: { ipBlocks: [127.0.0.0/8], remoteIpBlocks: [10.1.0.0/16] } }] },
    { to: [{ operation: { hosts: ["open.example", "*.open.example"] } }] }] }`,
};

function resources(upstreamPort: number): Resource[] {
  const read = (kind: string, name: string, spec: string) =>
    kubeObjects(`apiVersion: security.istio.io/v1\nkind: ${kind}\nmetadata: { name: ${name} }\nspec: ${spec}\n`);
  const policies = Object.entries(POLICIES)
    .flatMap(([name, spec]) => read('AuthorizationPolicy', name, spec))
    .map((object) => parseAuthorizationPolicy(object, { object, path: [], allowUnknown: false }));
  const tokens = read('RequestAuthentication', 'jwt', `{ jwtRules: [{ issuer: i, jwks: '${KEY_SET}' }] }`).map(
    (object) => parseRequestAuthentication(object, { object, path: [], allowUnknown: false }),
  );
  const { others } = authorizationFilters(
    { policies, providers: new ExtensionProviders([], () => false), trustDomains: ['cluster.local'] },
    false,
  );
  return [
    httpListener({
      filters: [SAYS_DETAILS, jwtFilter(tokens, () => undefined) as Json, ...others],
      manager: { normalize_path: true, use_remote_address: false },
      routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]),
    }),
    staticCluster('up', [upstreamPort]),
  ];
}

const pair = new BesideEnvoy(scope, resources);
const { skip } = pair;

/** The same requests in every run (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

const claims = (more: object): string =>
  `authorization: Bearer ${token({ iss: 'i', sub: 'me', exp: inSeconds(900), ...more })}\r\n`;
const CHOICES = {
  method: ['GET', 'POST', 'PUT', 'DELETE'],
  path: [
    '/',
    '/a',
    '/ab?x=/admin',
    '/admin',
    '/admin/x',
    '/x/secret',
    '/x/secret?',
    '/v/1/x',
    '/v/1/2/x',
    '/v/*/x',
    '/never',
    '/b',
    '/a/../admin',
    '/a//secret',
  ],
  host: ['shop.example', 'a.internal', 'A.Internal', 'open.example', 'X.Open.Example', 'notopen.example'],
  role: [
    '',
    '',
    'x-role: root\r\n',
    'x-role: user\r\nx-role: root\r\n',
    'x-role: admin\r\n',
    'X-Role: user\r\n',
    'x-role: \r\n',
  ],
  forwarded: [
    '',
    '',
    'x-forwarded-for: 10.1.2.3\r\n',
    'x-forwarded-for: 10.9.9.9\r\n',
    'x-forwarded-for: 9.9.9.9, 10.1.0.1\r\n',
    'x-forwarded-for: nobody\r\n',
  ],
  token: [
    '',
    '',
    '',
    claims({}),
    claims({ groups: ['a', 'banned'] }),
    claims({ groups: 'x-1' }),
    claims({ sub: 'evil' }),
    claims({ iss: 'other' }),
    'authorization: Bearer x\r\n',
  ],
} as const;

test('generated requests get the same answer, for the same reason', { skip }, async () => {
  const next = random(6);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)] as T;
  const wrong: string[] = [];
  const seen = new Map<string, number>();
  for (let i = 0; i < REQUESTS; i++) {
    const request = `${pick(CHOICES.method)} ${pick(CHOICES.path)} HTTP/1.1\r\nhost: ${pick(CHOICES.host)}\r\n${pick(CHOICES.role)}${pick(CHOICES.forwarded)}${pick(CHOICES.token)}content-length: 0\r\n\r\n`;
    const answer = async (port: number): Promise<string> => {
      const { response, forwarded } = await exchangeThrough(scope, port, pair.upstream, request);
      const details = response.find((line) => line.startsWith('x-details: ')) ?? '';
      return `${response[0]?.split(' ')[1]} ${details.slice(11)} ${forwarded.length > 0}`;
    };
    const theirs = await answer(pair.envoy.port('test'));
    const ours = await answer(pair.proxy.port());
    seen.set(theirs, (seen.get(theirs) ?? 0) + 1);
    if (ours !== theirs) wrong.push(`${JSON.stringify(request.slice(0, 200))}: ours ${ours}, Envoy's ${theirs}`);
  }
  assert.deepEqual(wrong, []);
  // Every kind of answer was among them.
  for (const part of [
    'via_upstream',
    'policy[deny]-rule[0]',
    'policy[deny]-rule[1]',
    'policy[deny]-rule[2]',
    'policy[claims]-rule[0]',
    'policy[claims]-rule[1]',
    '[none]',
    'Jwt_issuer',
  ]) {
    assert.ok(
      [...seen.keys()].some((text) => text.includes(part)),
      `${part} is not among ${[...seen.keys()].join('\n')}`,
    );
  }
});

/** The jwt_authn filter through a running proxy: what each token gets, what the upstream sees, remote keys, limits. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, test } from 'node:test';
import filter from '../../filters/jwt_authn.ts';
import type { Json } from '../../config/resources.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import { staticCluster } from '../support/envoy_resources.ts';
import { exchangeThrough } from '../support/http1_exchange.ts';
import { ISSUER, jwtCases, jwtListener, jwtResources } from '../support/jwt_cases.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { inSeconds, KEY_SET, OTHER_KEY_SET, token } from '../support/tokens.ts';

const scope = fileScope();
let proxy: TestProxy;
let upstream: RawUpstream;
let keys: RawUpstream;
/** What the key server answers: the whole response. */
let keyAnswer = '';
let keyRequests = 0;

const answerOf = (status: string, body: string, more = ''): string =>
  `HTTP/1.1 ${status}\r\n${more}content-length: ${body.length}\r\n\r\n${body}`;
const remote = (uri: string, more: Json = {}): Json => ({
  providers: {
    p: {
      issuer: ISSUER,
      remote_jwks: { http_uri: { uri, cluster: 'keys', timeout: '1s' }, cache_duration: '600s', ...more },
    },
  },
  rules: [{ match: { prefix: '/' }, requires: { provider_name: 'p' } }],
});

before(async () => {
  upstream = await RawUpstream.start(scope, answering());
  keys = await RawUpstream.start(scope, (received, socket) => {
    if (!received.endsWith('\r\n\r\n')) return;
    keyRequests++;
    socket.write(keyAnswer);
  });
  proxy = await startTestProxy(scope, [
    ...jwtResources(upstream.port),
    jwtListener('remote', remote('https://keys.example/jwks?x=1')),
    jwtListener(
      'redirected',
      remote('https://keys.example/redirect', { async_fetch: { failed_refetch_duration: '0.001s' } }),
    ),
    jwtListener('nowhere', {
      ...remote('https://keys.example/'),
      providers: {
        p: { issuer: ISSUER, remote_jwks: { http_uri: { uri: 'https://a/', cluster: 'missing', timeout: '1s' } } },
      },
    }),
    jwtListener('none', {
      providers: { p: { issuer: ISSUER, local_jwks: { inline_string: '{"keys":[]}' } } },
      rules: [{ match: { prefix: '/' }, requires: { provider_name: 'p' } }],
    }),
    staticCluster('keys', [keys.port]),
  ]);
});

for (const { says, listener, fields, path = '/', method = 'GET', status, body } of jwtCases()) {
  test(`${listener}: ${says}: ${status}`, async () => {
    const request = `${method} ${path} HTTP/1.1\r\nhost: shop.example\r\n${fields}\r\n`;
    // Once with the signature to check, once with the verdict known.
    for (let round = 0; round < 2; round++) {
      const { response, forwarded } = await exchangeThrough(scope, proxy.port(listener), upstream, request);
      assert.match(response[0] ?? '', new RegExp(`^HTTP/1.1 ${status} `));
      assert.equal(response.at(-1), body);
      assert.equal(forwarded.length > 0, status === 200);
    }
  });
}

const good = (): string => token({ iss: ISSUER, sub: 'me', exp: inSeconds(600) });
async function ask(listener: string, text: string): Promise<[number, string]> {
  const answer = await fetch(`http://127.0.0.1:${proxy.port(listener)}/`, {
    headers: { authorization: `Bearer ${text}` },
  });
  return [answer.status, await answer.text()];
}

test('claims reach the upstream as headers, and a client cannot set them', async () => {
  const claims = { iss: ISSUER, sub: 'José', aud: 'cart', a: { b: ['x', 1] }, n: 5, yes: false };
  const request = `GET / HTTP/1.1\r\nhost: a\r\nx-sub: root\r\nX-Number: 9\r\nauthorization: Bearer ${token(claims)}\r\n\r\n`;
  const { forwarded } = await exchangeThrough(scope, proxy.port('istio'), upstream, request);
  const values = forwarded.filter((line) => /^x-(sub|nested|number|yes|payload)/.test(line));
  assert.deepEqual(values, [
    `x-nested: ${Buffer.from('["x",1]').toString('base64url')}`,
    'x-number: 5',
    `x-payload: ${token(claims).split('.')[1]}`,
    `x-sub: ${Buffer.from('José').latin1Slice()}`,
    'x-yes: false',
  ]);
});

test('a claim that would split the head is in no header', async () => {
  const text = token({ iss: ISSUER, aud: 'cart', sub: 'a\r\nx-admin: 1' });
  const request = `GET / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ${text}\r\n\r\n`;
  const { response, forwarded } = await exchangeThrough(scope, proxy.port('istio'), upstream, request);
  assert.match(response[0] ?? '', / 200 /);
  assert.deepEqual(
    forwarded.filter((line) => /^x-(sub|admin)/.test(line)),
    [],
  );
});

test('remote keys are fetched through their cluster, once', async () => {
  keyAnswer = answerOf('200 OK', KEY_SET);
  const before = keyRequests;
  const answers = await Promise.all([ask('remote', good()), ask('remote', good())]);
  assert.deepEqual(
    answers.map(([status]) => status),
    [200, 200],
  );
  assert.deepEqual(await ask('remote', token({ iss: ISSUER }, 'other')), [401, 'Jwt verification fails']);
  assert.equal(keyRequests - before, 1);
  assert.match(keys.all, /^GET \/jwks\?x=1 HTTP\/1\.1\r\nhost: keys\.example\r\n/m);
  assert.ok(proxy.value('http.test.jwt_authn.jwks_fetch_success') >= 1);
});

test('keys that cannot be had refuse every token', async () => {
  keyAnswer = answerOf('302 Found', KEY_SET, 'location: https://evil.example/\r\n');
  assert.deepEqual(await ask('redirected', good()), [401, 'Jwks remote fetch is failed']);
  keyAnswer = answerOf('200 OK', '{"keys":1}');
  assert.deepEqual(await ask('redirected', good()), [401, 'Jwks remote fetch is failed']);
  keyAnswer = answerOf('200 OK', OTHER_KEY_SET);
  await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual(await ask('redirected', good()), [401, 'Jwt verification fails']);
  assert.deepEqual(await ask('nowhere', good()), [401, 'Jwks remote fetch is failed']);
  assert.deepEqual(await ask('none', good()), [401, "Jwks doesn't have any valid public key"]);
  assert.ok(proxy.value('http.test.jwt_authn.jwks_fetch_failed') >= 2);
});

test('what a token says of its own keys is not looked at, and crit is refused', async () => {
  const { keys: own } = JSON.parse(OTHER_KEY_SET) as { keys: unknown[] };
  const claims = { iss: ISSUER, sub: 'me' };
  for (const header of [{ jwk: own[0] }, { jku: 'https://evil.example/' }, { x5u: 'https://evil.example/' }]) {
    assert.deepEqual(await ask('default', token(claims, 'other', header)), [401, 'Jwt verification fails']);
  }
  assert.deepEqual(await ask('default', token(claims, 'RS256', { crit: ['x'], x: 1 })), [
    401,
    'Jwt verification fails',
  ]);
  assert.deepEqual(await ask('default', token(claims, 'RS256', { crit: ['b64'], b64: false })), [
    401,
    'Jwt verification fails',
  ]);
});

test('huge, deep and odd tokens are refused, and the proxy lives', async () => {
  const odd = [
    `${'a'.repeat(40_000)}.b.c`,
    token(`${'['.repeat(20_000)}${']'.repeat(20_000)}`),
    token('{"__proto__":{"iss":"x"},"constructor":1}'),
    token('"text"'),
    token('null'),
    token(Buffer.from([0xff, 0xfe]).toString('latin1')),
  ];
  for (const text of odd) assert.equal((await ask('default', text))[0], 401);
  assert.deepEqual(proxy.errors, []);
});

test('jwt_authn refuses what it would have to skip', () => {
  const p = { local_jwks: { inline_string: KEY_SET } };
  const wrong: readonly (readonly [Json, RegExp])[] = [
    [{ providers: { p: {} } }, /providers\["p"\]\.local_jwks/],
    [{ providers: { p: { local_jwks: { inline_string: 'x' } } } }, /a JSON Web Key Set/],
    [{ providers: { p: { local_jwks: { filename: '/x' } } } }, /inline_string/],
    [{ providers: { p }, rules: [{ match: { prefix: '/' }, requires: { provider_name: 'q' } }] }, /no provider "q"/],
    [{ providers: { p }, rules: [{ match: { prefix: '/' }, requires: { new_kind: {} } }] }, /new_kind/],
    [{ providers: { p }, rules: [{ match: { prefix: '/' }, requirement_name: 'r' }] }, /requirement_map has no "r"/],
    [{ providers: { p }, rules: [{ match: {} }] }, /match/],
    [{ filter_state_rules: {} }, /filter_state_rules/],
    [
      { providers: { p }, rules: [{ match: { prefix: '/' }, requires: { requires_any: { requirements: [] } } }] },
      /two/,
    ],
  ];
  for (const [config, message] of wrong) {
    assert.throws(
      () => filter.parse(config),
      (error: unknown) => error instanceof ConfigError && message.test(error.message),
      JSON.stringify(config),
    );
  }
  assert.throws(() => filter.parseRoute({}), ConfigError);
});

const SAMPLES = join(import.meta.dirname, '../../../shared/data/jwt-samples');
test("Istio's own sample tokens are accepted", {
  skip: existsSync(SAMPLES) ? false : `no data at ${SAMPLES}`,
}, async () => {
  const read = (name: string): string => readFileSync(join(SAMPLES, name), 'utf8').trim();
  proxy.set([
    ...jwtResources(upstream.port),
    jwtListener('samples', {
      providers: {
        p: {
          issuer: 'testing@secure.istio.io',
          local_jwks: { inline_string: read('jwks.json') },
          claim_to_headers: [{ header_name: 'x-sub', claim_name: 'sub' }],
        },
      },
      rules: [{ match: { prefix: '/' }, requires: { provider_name: 'p' } }],
    }),
  ]);
  await proxy.settled();
  for (const name of ['demo.jwt', 'groups-scope.jwt']) {
    const request = `GET / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ${read(name)}\r\n\r\n`;
    const { response, forwarded } = await exchangeThrough(scope, proxy.port('samples'), upstream, request);
    assert.match(response[0] ?? '', / 200 /);
    assert.ok(forwarded.includes('x-sub: testing@secure.istio.io'));
  }
});

/** Signing keys by URL and by issuer: fetched, renewed, and refused from where they must not come. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { before, test } from 'node:test';
import { JwksFetcher } from '../../config/jwks_fetcher.ts';
import { fileScope } from '../support/scope.ts';
import { KEY_SET, OTHER_KEY_SET } from '../support/tokens.ts';

const scope = fileScope();
let base = '';
let answer: (request: IncomingMessage, response: ServerResponse) => void = () => {};
const paths: string[] = [];

before(async () => {
  const server = createServer((request, response) => {
    paths.push(request.url ?? '');
    answer(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  scope.after(() => server.closeAllConnections());
  scope.after(() => server.close());
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

const want = (more: { issuer?: string; url?: string | undefined; timeoutMs?: number } = {}) => ({
  issuer: 'a',
  url: `${base}/keys`,
  timeoutMs: 1000,
  origin: 'test.yaml:1:1',
  ...more,
});

function fetcher(
  options: { allowLocal?: boolean; refreshMs?: number; retryMs?: number; onChange?: () => void } = {},
): JwksFetcher {
  const made = new JwksFetcher({ allowLocal: true, onChange: () => {}, ...options });
  scope.after(() => made.stop());
  return made;
}

test('keys come from a URL', async () => {
  answer = (_, response) => response.end(KEY_SET);
  const jwks = fetcher();
  assert.equal(jwks.get(want()), undefined);
  await jwks.follow([want()]);
  assert.equal(jwks.get(want()), KEY_SET);
});

test('keys come from where the issuer says', async () => {
  answer = (request, response) =>
    response.end(
      request.url === '/i/.well-known/openid-configuration' ? JSON.stringify({ jwks_uri: `${base}/k` }) : KEY_SET,
    );
  const jwks = fetcher();
  const wanted = want({ issuer: `${base}/i/`, url: undefined });
  await jwks.follow([wanted]);
  assert.equal(jwks.get(wanted), KEY_SET);
  assert.deepEqual(paths.slice(-2), ['/i/.well-known/openid-configuration', '/k']);
});

test('keys are renewed, and the last good ones stay when that fails', async () => {
  let changes = 0;
  let wake = (): void => {};
  answer = (_, response) => response.end(KEY_SET);
  const jwks = fetcher({
    refreshMs: 20,
    retryMs: 20,
    onChange: () => {
      changes++;
      wake();
    },
  });
  await jwks.follow([want()]);
  const changed = new Promise<void>((resolve) => {
    wake = resolve;
  });
  let failed = 0;
  answer = (_, response) => {
    failed++;
    response.statusCode = 500;
    response.end();
    if (failed === 2) answer = (_request, next) => next.end(OTHER_KEY_SET);
  };
  await changed;
  assert.equal(failed, 2);
  assert.equal(changes, 1);
  assert.equal(jwks.get(want()), OTHER_KEY_SET);
});

test('what is no key set, a redirect, a slow answer, and an issuer without URL are named', async () => {
  const problem = async (reply: typeof answer, more = {}): Promise<string> => {
    answer = reply;
    const jwks = fetcher();
    await jwks.follow([want(more)]);
    assert.equal(jwks.get(want(more)), undefined);
    return jwks.problem(want(more));
  };
  assert.match(await problem((_, response) => response.end('<html>')), /answered no JSON$/);
  assert.match(await problem((_, response) => response.end('{}')), /no JSON Web Key Set/);
  assert.match(
    await problem((_, response) => {
      response.writeHead(302, { location: `${base}/other` });
      response.end();
    }),
    /answered 302/,
  );
  assert.equal(await problem(() => {}, { timeoutMs: 50 }), 'no answer in time');
  assert.match(await problem((_, response) => response.end('x'.repeat(2 ** 20 + 1))), /size|exceeded/i);
  assert.match(await problem(() => {}, { url: undefined, issuer: 'me@example' }), /is no URL: say jwksUri or jwks/);
});

test('keys are not fetched from this machine or link unless allowed', async () => {
  answer = (_, response) => response.end(KEY_SET);
  const before = paths.length;
  const port = new URL(base).port;
  for (const host of ['127.0.0.1', 'localhost', '[::1]', '169.254.169.254', '[fe80::1]', '0.0.0.0', '127.1']) {
    const wanted = want({ url: `http://${host}:${port}/keys` });
    const jwks = fetcher({ allowLocal: false });
    await jwks.follow([wanted]);
    assert.equal(jwks.get(wanted), undefined);
    assert.match(jwks.problem(wanted), /--allow-local-jwks/, host);
  }
  assert.equal(paths.length, before);
});

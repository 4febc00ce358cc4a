/** Tokens through Pillion and Envoy with the same configuration: the same answers, the same requests upstream. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BesideEnvoy } from '../support/beside_envoy.ts';
import { exchangeThrough, type Outcome } from '../support/http1_exchange.ts';
import { jwtCases, jwtResources } from '../support/jwt_cases.ts';
import { fileScope } from '../support/scope.ts';

const scope = fileScope();
const pair = new BesideEnvoy(scope, jwtResources);
const { skip } = pair;

/** What differs on purpose, with its reason. */
const DEVIATIONS: Readonly<Record<string, string>> = {
  'default: no token, a query': 'a quote in the path must not end the quotes of the realm',
  'required: a token in a cookie': 'a token that is not to be forwarded goes from the cookies too',
};

for (const { says, listener, fields, path = '/', method = 'GET' } of jwtCases()) {
  test(`${listener}: ${says}: as Envoy`, { skip }, async () => {
    const { upstream, envoy, proxy } = pair;
    const request = `${method} ${path} HTTP/1.1\r\nhost: shop.example\r\n${fields}\r\n`;
    const plain = ({ response, forwarded }: Outcome): unknown => ({
      response: response.filter((line) => !/^(server|x-envoy-upstream)/.test(line)),
      forwarded: forwarded.map((line) => line.replaceAll(/eyJ[\w.-]{20,}/g, (text) => `token(${text.length})`)),
    });
    const theirs = plain(await exchangeThrough(scope, envoy.port(listener), upstream, request));
    const ours = plain(await exchangeThrough(scope, proxy.port(listener), upstream, request));
    const deviates = Object.hasOwn(DEVIATIONS, `${listener}: ${says}`);
    if (deviates) assert.notDeepEqual(ours, theirs);
    else assert.deepEqual(ours, theirs);
  });
}

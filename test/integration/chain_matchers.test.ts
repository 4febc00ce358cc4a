/** Filter chains chosen by a tree of matchers: who gets which, who is closed, and what is refused. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { buildListener } from '../../config/build/listener.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import {
  chain,
  chainListeners,
  input,
  matchedListener,
  OVER_TLS,
  PLAIN,
  plainStatus,
  tlsStatuses,
  toChain,
} from '../support/chain_matcher_cases.ts';
import { extension, list, on } from '../support/matcher_cases.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';

const scope = fileScope();
let proxy: TestProxy;

before(async () => {
  proxy = await startTestProxy(scope, chainListeners());
});

for (const [name, , , status] of PLAIN) {
  test(`${name}: ${status ?? 'closed'}`, async () => {
    assert.equal(await plainStatus(proxy.port(name)), status);
  });
}

for (const [name, , statuses] of OVER_TLS) {
  test(`over TLS, ${name}: ${statuses.map((status) => status ?? 'closed').join(', ')}`, async () => {
    assert.deepEqual(await tlsStatuses(proxy.port(`TLS ${name}`)), statuses);
  });
}

test('a connection that no chain gets is counted', async () => {
  const before = proxy.value('listener.chosen.no_filter_chain_match');
  assert.equal(await plainStatus(proxy.port('an empty matcher')), undefined);
  await proxy.counted();
  assert.ok(proxy.value('listener.chosen.no_filter_chain_match') > before);
});

test('a name that no chain has is warned about', () => {
  const { json } = matchedListener(
    'l',
    list([on(input('SourceIPInput'), { exact: '1.2.3.4' }), toChain('zzz')]),
    false,
  );
  assert.match(buildListener(json, '').warnings.join(), /value: no filter chain is called "zzz"/);
});

test('what cannot be chosen by is refused, with the place', () => {
  const asks = (from: Json): Json => list([on(from, { exact: 'a' }), toChain('a')]);
  const good = asks(input('SourceIPInput'));
  const wrong: readonly (readonly [Json, Json, RegExp])[] = [
    [
      asks(extension('envoy.type.matcher.v3.HttpRequestHeaderMatchInput', { header_name: 'x' })),
      {},
      /cannot be chosen by/,
    ],
    [
      asks(extension('envoy.extensions.matching.common_inputs.ssl.v3.UriSanInput')),
      {},
      /no certificate is known before/,
    ],
    [asks(input('NetworkNamespaceInput')), {}, /cannot be chosen by .*NetworkNamespaceInput/],
    [
      list([on(input('SourceIPInput'), { exact: 'a' }), { action: extension('a.b.C') }]),
      {},
      /the action a\.b\.C is not executed/,
    ],
    [good, { filter_chains: [chain('', 201)] }, /filter_chains\[0\]\.name: is required beside/],
    [good, { filter_chains: [chain('a', 201), chain('a', 202)] }, /filter_chains\[1\]\.name: "a" is there twice/],
    [
      good,
      { filter_chains: [chain('a', 201, { filter_chain_match: { destination_port: 1 } })] },
      /filter_chains\[0\]\.filter_chain_match: is passed over/,
    ],
  ];
  for (const [matcher, more, message] of wrong) {
    assert.throws(
      () => buildListener(matchedListener('l', matcher, false, more).json, ''),
      (error) => error instanceof ConfigError && message.test(error.message),
      String(message),
    );
  }
});

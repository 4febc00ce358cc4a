/** Envoy makes of each request of http1_cases.ts what Pillion makes of it, but for what DEVIATIONS names. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { CASES, listenersFor } from '../integration/http1_cases.ts';
import { type EnvoyProcess, startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { exchangeThrough } from '../support/http1_exchange.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';

/** Where Pillion differs on purpose. An entry that no longer differs fails the test, but for what Envoy does at times only. */
const DEVIATIONS: readonly (readonly [cases: RegExp, reason: string, often?: 'at times'])[] = [
  [
    /^path \/%00admin with plain$/,
    'an escaped NUL is refused in every mode (attacks.md row 36); Envoy passes it where nothing is normalised',
  ],
  [
    /^path \/user\/%2e%2e;a=b\/admin with (?!plain)/,
    'an escaped `..;x` is a dot segment too: Envoy forwards /user/..;a=b/admin, which servers behind it take for /admin',
  ],
  [/^host user@exact\.example$|^absolute uri with userinfo$/, 'RFC 9110 §4.2.4: userinfo in a host is refused'],
  [/^host exact\.example,exact\.example$/, 'a list is no host'],
  [/^empty host$|^two hosts$/, 'RFC 9112 §3.2, attacks.md row 39: 400; Envoy joins two hosts with a comma'],
  [/^absolute uri with query only$/, 'RFC 9112 §3.2.1: an empty path is /; Envoy finds no route'],
  [/^head direct$/, 'content-length: 0 is what GET would say; Envoy says chunked'],
  [/^header case$|^mutation$/, 'header case is kept; Envoy does so only with a preserve_case formatter'],
  [
    /(?:^internal headers|^forwarded|^request id) (?:at the edge|through a trusted hop)$/,
    "a loopback client's address is forwarded as it is; Envoy replaces it with an address of the machine",
  ],
  [/^http 2\.0 on the line$|^http 0\.9$/, 'attacks.md row 17: 400; Envoy says 426'],
  [/^two spaces$|^obs-fold$|^bare lf$/, 'attacks.md rows 5, 6 and 17: 400; Envoy is lenient'],
  [
    /^bad chunk size$/,
    'the head and the fault come in one read: nothing has been forwarded; Envoy may have',
    'at times',
  ],
];

const scope = fileScope();
const skip = withoutEnvoy();
let envoy: EnvoyProcess;
let envoyUpstream: RawUpstream;
let proxy: TestProxy;
let upstream: RawUpstream;

before(async () => {
  if (skip !== false) return;
  envoyUpstream = await RawUpstream.start(scope, answering());
  upstream = await RawUpstream.start(scope, answering());
  envoy = await startEnvoy(scope, listenersFor(envoyUpstream.port));
  proxy = await startTestProxy(scope, listenersFor(upstream.port));
});

/** What Envoy may forward late comes last: it would be taken for the next case's. */
const isLate = ({ says }: (typeof CASES)[number]): boolean =>
  DEVIATIONS.some(([cases, , often]) => often === 'at times' && cases.test(says));

for (const { says, listener = 'plain', request } of [...CASES].sort((a, b) => Number(isLate(a)) - Number(isLate(b)))) {
  test(`Envoy and Pillion agree: ${says}`, { skip }, async () => {
    const [theirs, ours] = await Promise.all([
      exchangeThrough(scope, envoy.port(listener), envoyUpstream, request),
      exchangeThrough(scope, proxy.port(listener), upstream, request),
    ]);
    const deviation = DEVIATIONS.find(([cases]) => cases.test(says));
    if (deviation === undefined) assert.deepEqual(ours, theirs);
    else if (deviation[2] !== 'at times')
      assert.notDeepEqual(ours, theirs, `differs no longer: remove "${deviation[1]}" from DEVIATIONS`);
  });
}

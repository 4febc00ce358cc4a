/**
 * What Pillion makes of each request of http1_cases.ts: answer and forwarded bytes, held in http1_cases.golden.json.
 * After a change that is meant: PILLION_UPDATE_GOLDEN=1 npm test http1_cases, and look at the difference.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { before, test } from 'node:test';
import { exchangeThrough, type Outcome } from '../support/http1_exchange.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { CASES, listenersFor } from './http1_cases.ts';

const scope = fileScope();
const file = new URL('./http1_cases.golden.json', import.meta.url);
const update = process.env['PILLION_UPDATE_GOLDEN'] === '1';
const golden = (update ? {} : JSON.parse(readFileSync(file, 'utf8'))) as Record<string, Outcome>;
let proxy: TestProxy;
let upstream: RawUpstream;

before(async () => {
  upstream = await RawUpstream.start(scope, answering());
  proxy = await startTestProxy(scope, listenersFor(upstream.port));
});

for (const { says, listener, request } of CASES) {
  test(`the proxy answers and forwards as recorded: ${says}`, async () => {
    const outcome = await exchangeThrough(scope, proxy.port(listener ?? 'plain'), upstream, request);
    if (update) golden[says] = outcome;
    else assert.deepEqual(outcome, golden[says]);
  });
}

test('no recorded outcome is left over', () => {
  const known = new Set(CASES.map(({ says }) => says));
  assert.equal(known.size, CASES.length, 'two cases have one name');
  assert.deepEqual(
    Object.keys(golden).filter((says) => !known.has(says)),
    [],
  );
  if (update) writeFileSync(file, `${JSON.stringify(golden, undefined, 2)}\n`);
});

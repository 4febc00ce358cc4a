/**
 * Istio's access log, text and JSON, held in access_log.golden.json; test/interop/envoy_access_log.test.ts compares the same
 * requests with Envoy. After a change that is meant: PILLION_UPDATE_GOLDEN=1 npm test integration/access_log.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { comparableLine, listenersFor, REQUESTS } from '../support/access_log_cases.ts';
import { exchangeThrough } from '../support/http1_exchange.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { REFUSED_PORT } from '../support/free_port.ts';

const scope = fileScope();
const golden = new URL('./access_log.golden.json', import.meta.url);
const kinds = ['text', 'json', 'all', 'typed'] as const;
const got: Record<string, Record<string, string>> = {};

before(async () => {
  const folder = mkdtempSync(join(tmpdir(), 'pillion-logs-'));
  scope.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = (kind: string): string => join(folder, kind);
  const upstream = await RawUpstream.start(scope, answering());
  const logs = { text: path('text'), json: path('json'), all: path('all'), typed: path('typed') };
  const proxy = await startTestProxy(scope, listenersFor(upstream.port, REFUSED_PORT, logs));
  for (const { request } of REQUESTS) await exchangeThrough(scope, proxy.port(), upstream, request);
  // Everything is written when the proxy has stopped.
  const listener = proxy.port();
  await proxy.stop();
  for (const [index, { says }] of REQUESTS.entries()) {
    got[says] = Object.fromEntries(
      kinds.map((kind) => {
        const line = readFileSync(logs[kind], 'utf8').split('\n')[index] ?? '';
        const local = new RegExp(`\\t(\\d+) ${listener}$`);
        const today = /\d{4}\/\d\d\/\d\d/;
        return [
          kind,
          comparableLine(line).replace(local, '\t$1 PORT').replace(today, 'DAY').replaceAll(hostname(), 'HOSTNAME'),
        ];
      }),
    );
  }
  if (process.env['PILLION_UPDATE_GOLDEN'] === '1') writeFileSync(golden, `${JSON.stringify(got, undefined, 2)}\n`);
});

for (const { says } of REQUESTS) {
  test(`the access log writes Istio's text and JSON as recorded for ${says}`, () => {
    const wanted = JSON.parse(readFileSync(golden, 'utf8')) as typeof got;
    assert.deepEqual(got[says], wanted[says]);
  });
}

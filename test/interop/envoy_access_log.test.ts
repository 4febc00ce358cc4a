/** Access logs of Pillion and Envoy, line by line, for the same requests and formats. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { COMMANDS, comparableLine, listenersFor, REQUESTS } from '../support/access_log_cases.ts';
import { startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { exchangeThrough } from '../support/http1_exchange.ts';
import { linesOf, readLines } from '../support/log_lines.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { REFUSED_PORT } from '../support/free_port.ts';

/** Commands whose answer differs on purpose, or by nature. An entry that no longer differs fails the test. */
const DEVIATIONS: Readonly<Record<string, string>> = {
  '%DOWNSTREAM_LOCAL_PORT%': 'two listeners, two ports',
  '%UPSTREAM_HEADER_BYTES_RECEIVED%': 'Envoy leaves the status line and some fields out',
  '%UPSTREAM_WIRE_BYTES_RECEIVED%': 'as above',
  '%DOWNSTREAM_HEADER_BYTES_RECEIVED%': 'Envoy leaves the request line out',
  '%UPSTREAM_HOSTS_ATTEMPTED%': 'a host that refused was attempted too',
  '%UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT%': 'a host that refused was attempted too',
  '%UPSTREAM_HOST_NAMES_ATTEMPTED%': 'a host that refused was attempted too',
  '%UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT%': 'a host that refused was attempted too',
  '%CUSTOM_FLAGS%': 'what is empty prints as absent',
  '%LOCAL_REPLY_BODY%': 'what is empty prints as absent',
  '%CEL(request.query)%': 'what is empty prints as absent',
  '%CEL(request.method + " " + request.url_path)%': "Envoy's CEL does not join texts",
};

const scope = fileScope();
const skip = withoutEnvoy();
const kinds = ['text', 'json', 'all', 'typed'] as const;
type Kind = (typeof kinds)[number];
let ours: Record<Kind, string>;
let theirs: Record<Kind, string>;

before(async () => {
  if (skip !== false) return;
  const folder = mkdtempSync(join(tmpdir(), 'pillion-logs-'));
  scope.after(() => rmSync(folder, { recursive: true, force: true }));
  const files = (side: string) =>
    Object.fromEntries(kinds.map((kind) => [kind, join(folder, `${side}-${kind}`)])) as Record<Kind, string>;
  ours = files('ours');
  theirs = files('theirs');
  const upstream = await RawUpstream.start(scope, answering());
  const envoy = await startEnvoy(scope, listenersFor(upstream.port, REFUSED_PORT, theirs));
  const proxy = await startTestProxy(scope, listenersFor(upstream.port, REFUSED_PORT, ours));
  for (const { request } of REQUESTS) {
    await exchangeThrough(scope, envoy.port('test'), upstream, request);
    await exchangeThrough(scope, proxy.port(), upstream, request);
  }
  for (const path of [...Object.values(ours), ...Object.values(theirs)]) await linesOf(path, REQUESTS.length);
});

for (const [index, { says }] of REQUESTS.entries()) {
  test(`Istio's text format is the same as Envoy's for ${says}`, { skip }, () => {
    assert.equal(
      comparableLine(readLines(ours.text)[index] ?? ''),
      comparableLine(readLines(theirs.text)[index] ?? ''),
    );
  });
  test(`Istio's JSON format is the same as Envoy's for ${says}`, { skip }, () => {
    const parse = (path: string): unknown =>
      JSON.parse(comparableLine(readLines(path)[index] ?? '').replaceAll(':N', ':"N"'));
    assert.deepEqual(parse(ours.json), parse(theirs.json));
    const typed = (path: string): unknown => JSON.parse(readLines(path)[index] ?? '');
    assert.deepEqual(typed(ours.typed), typed(theirs.typed));
  });
  test(`each command prints what Envoy prints for ${says}`, { skip }, () => {
    const cells = (path: string): string[] => comparableLine(readLines(path)[index] ?? '').split(/\t(?=\d+ )/);
    const [our, their] = [cells(ours.all), cells(theirs.all)];
    const different = COMMANDS.flatMap((command, i) =>
      our[i] === their[i] || command in DEVIATIONS ? [] : [`${command}: ours "${our[i]}", Envoy's "${their[i]}"`],
    );
    assert.deepEqual(different, []);
  });
}

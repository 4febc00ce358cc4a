/** Envoy meets each failure of retry_cases.ts as Pillion does: the client's answer, what the upstream got, the log line. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { RETRY_CASES, type RetryCase, retryResources } from '../integration/retry_cases.ts';
import { startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { MisbehavingUpstream } from '../support/misbehaving_upstream.ts';
import { LogFile, startTestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { REFUSED_PORT } from '../support/free_port.ts';

const FORMAT =
  '%REQ(X-CASE)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %UPSTREAM_REQUEST_ATTEMPT_COUNT%\n';

/** Where Pillion differs on purpose. An entry that no longer differs fails the test. */
const DEVIATIONS: readonly (readonly [cases: RegExp, reason: string])[] = [
  [/^5xx: an answer that is cut/, 'the upstream cut its connection: UC; Envoy takes it for a fault of the protocol'],
];

interface Side {
  readonly port: number;
  readonly upstream: MisbehavingUpstream;
  readonly log: LogFile;
}

const scope = fileScope();
const skip = withoutEnvoy();
let theirs: Side;
let ours: Side;

before(async () => {
  if (skip !== false) return;
  const deadPort = REFUSED_PORT;
  const side = async (start: (resources: ReturnType<typeof retryResources>) => Promise<number>): Promise<Side> => {
    const log = new LogFile(scope);
    const upstream = await MisbehavingUpstream.start(scope);
    return { port: await start(retryResources(upstream.port, deadPort, log.config(FORMAT))), upstream, log };
  };
  theirs = await side(async (resources) => (await startEnvoy(scope, resources)).port('test'));
  ours = await side(async (resources) => (await startTestProxy(scope, resources)).port());
});

for (const [index, given] of RETRY_CASES.entries()) {
  test(`Envoy and Pillion agree: ${given.says}`, { skip }, async () => {
    const [envoy, pillion] = await Promise.all([ask(theirs, given, index), ask(ours, given, index)]);
    const deviation = DEVIATIONS.find(([cases]) => cases.test(given.says));
    if (deviation === undefined) assert.deepEqual(pillion, envoy);
    else assert.notDeepEqual(pillion, envoy, `differs no longer: remove "${deviation[1]}" from DEVIATIONS`);
  });
}

async function ask({ port, upstream, log }: Side, { route, deeds, method, headers, body }: RetryCase, index: number) {
  const path = `/${route}/${index}/do/${deeds}`;
  let answer: unknown;
  try {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, {
      method: method ?? 'GET',
      headers: { ...headers, 'x-case': `case-${index}` },
      ...(body !== undefined && { body }),
    });
    const text = await response.text().catch(() => 'cut');
    const told = ['x-envoy-attempt-count', 'x-envoy-ratelimited', 'x-envoy-overloaded', 'grpc-status', 'grpc-message'];
    answer = [
      response.status,
      text,
      told.map((name) => response.headers.get(name)),
      response.headers.has('x-envoy-upstream-service-time'),
    ];
  } catch {
    answer = 'no answer';
  }
  const line = await logLine(log, index);
  return { answer, upstream: upstream.seen(path), line };
}

async function logLine(log: LogFile, index: number): Promise<string | undefined> {
  for (let lines: string[] = []; ; ) {
    lines = await log.lines(lines.length + 1);
    const line = lines.find((text) => text.startsWith(`case-${index} `));
    if (line !== undefined) return line;
  }
}

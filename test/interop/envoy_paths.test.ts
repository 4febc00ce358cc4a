/** Hostile paths through Pillion and Envoy with the same policies and normalisation: the same decisions, the same paths forwarded. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { ATTACK_PATHS, MODES, pathListeners } from '../support/attack_paths.ts';
import { type EnvoyProcess, startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { exchangeThrough } from '../support/http1_exchange.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';

const scope = fileScope();
const skip = withoutEnvoy();
let upstream: RawUpstream;
let envoy: EnvoyProcess;
let proxy: TestProxy;

before(async () => {
  if (skip !== false) return;
  upstream = await RawUpstream.start(scope, answering());
  envoy = await startEnvoy(scope, pathListeners(upstream.port));
  proxy = await startTestProxy(scope, pathListeners(upstream.port));
});

/** `MODE TARGET`, with the reason. An entry that no longer differs fails the test. */
const DEVIATIONS: Readonly<Record<string, string>> = {
  'NONE /admin%00': 'a NUL is refused whatever the mode (attacks.md row 36)',
  'NONE /%00admin': 'a NUL is refused whatever the mode (attacks.md row 36)',
};

async function outcome(port: number, target: string): Promise<string> {
  const request = `GET ${target} HTTP/1.1\r\nhost: shop.example\r\n\r\n`;
  const { response, forwarded } = await exchangeThrough(scope, port, upstream, request);
  return forwarded[0] ?? (/^HTTP\/1.1 (\d+)/.exec(response[0] ?? '')?.[1] as string);
}

for (const mode of Object.keys(MODES)) {
  test(`hostile paths under ${mode}: as Envoy`, { skip }, async () => {
    const found: string[] = [];
    for (const [target] of ATTACK_PATHS) {
      for (const kind of ['deny', 'allow', 'route']) {
        const ours = await outcome(proxy.port(`${kind}-${mode}`), target);
        const theirs = await outcome(envoy.port(`${kind}-${mode}`), target);
        const known = Object.hasOwn(DEVIATIONS, `${mode} ${target}`);
        if ((ours !== theirs) !== known) found.push(`${kind} ${mode} ${target}: ours "${ours}", Envoy's "${theirs}"`);
      }
    }
    assert.deepEqual(found, []);
  });
}

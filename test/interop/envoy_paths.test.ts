/** Hostile paths through Pillion and Envoy with the same policies and normalisation: the same decisions, the same paths forwarded. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ATTACK_PATHS, MODES, pathListeners } from '../support/attack_paths.ts';
import { BesideEnvoy } from '../support/beside_envoy.ts';
import { exchangeThrough } from '../support/http1_exchange.ts';
import { fileScope } from '../support/scope.ts';

const scope = fileScope();
const pair = new BesideEnvoy(scope, pathListeners);
const { skip } = pair;

/** `MODE TARGET`, with the reason. An entry that no longer differs fails the test. */
const DEVIATIONS: Readonly<Record<string, string>> = {
  'NONE /admin%00': 'a NUL is refused whatever the mode (attacks.md row 36)',
  'NONE /%00admin': 'a NUL is refused whatever the mode (attacks.md row 36)',
};

async function outcome(port: number, target: string): Promise<string> {
  const request = `GET ${target} HTTP/1.1\r\nhost: shop.example\r\n\r\n`;
  const { response, forwarded } = await exchangeThrough(scope, port, pair.upstream, request);
  return forwarded[0] ?? (/^HTTP\/1.1 (\d+)/.exec(response[0] ?? '')?.[1] as string);
}

for (const mode of Object.keys(MODES)) {
  test(`hostile paths under ${mode}: as Envoy`, { skip }, async () => {
    const found: string[] = [];
    for (const [target] of ATTACK_PATHS) {
      for (const kind of ['deny', 'allow', 'route']) {
        const ours = await outcome(pair.proxy.port(`${kind}-${mode}`), target);
        const theirs = await outcome(pair.envoy.port(`${kind}-${mode}`), target);
        const known = Object.hasOwn(DEVIATIONS, `${mode} ${target}`);
        if ((ours !== theirs) !== known) found.push(`${kind} ${mode} ${target}: ours "${ours}", Envoy's "${theirs}"`);
      }
    }
    assert.deepEqual(found, []);
  });
}

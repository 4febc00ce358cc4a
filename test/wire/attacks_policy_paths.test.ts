/** Rows 35 to 38 of attacks.md as bytes: one normal form of the path for policy, routing and the upstream. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { ATTACK_PATHS, MODES, pathListeners } from '../support/attack_paths.ts';
import { exchangeThrough } from '../support/http1_exchange.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';

const scope = fileScope();
let upstream: RawUpstream;
let proxy: TestProxy;

before(async () => {
  upstream = await RawUpstream.start(scope, answering());
  proxy = await startTestProxy(scope, pathListeners(upstream.port));
});

async function outcome(listener: string, target: string): Promise<unknown> {
  const request = `GET ${target} HTTP/1.1\r\nhost: shop.example\r\n\r\n`;
  const { response, forwarded } = await exchangeThrough(scope, proxy.port(listener), upstream, request);
  const status = Number(/^HTTP\/1.1 (\d+)/.exec(response[0] ?? '')?.[1]);
  if (forwarded.length > 0) return { forwarded: forwarded[0]?.split(' ')[1] };
  return status === 403 ? 'denied' : status === 400 ? 'bad' : status;
}

for (const [target, base, merge, decode] of ATTACK_PATHS) {
  for (const [mode, wanted] of [
    ['BASE', base],
    ['MERGE', merge],
    ['DECODE', decode],
  ] as const) {
    test(`${target} under ${mode}: ${typeof wanted === 'string' ? wanted : wanted.forwarded}`, async () => {
      for (const kind of ['deny', 'allow', 'route'])
        assert.deepEqual(await outcome(`${kind}-${mode}`, target), wanted, kind);
    });
  }
  test(`${target} without normalisation: policy and routing agree`, async () => {
    const wanted = await outcome('route-NONE', target);
    for (const kind of ['deny', 'allow']) assert.deepEqual(await outcome(`${kind}-NONE`, target), wanted, kind);
  });
}

test('what is forwarded stays as it is when it comes again', async () => {
  for (const mode of Object.keys(MODES)) {
    for (const [target] of ATTACK_PATHS) {
      const first = (await outcome(`deny-${mode}`, target)) as { forwarded?: string };
      if (first.forwarded === undefined || mode === 'NONE') continue;
      assert.deepEqual(await outcome(`deny-${mode}`, first.forwarded), first, `${mode} ${target}`);
    }
  }
});

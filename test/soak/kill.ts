/** A data thread dies under load: only its own streams fail, it is back in a moment, and no counter goes back. */
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';

/** Between two deaths: a thread that lived a second is started again at once. */
const LIFE_MS = 1500;

export interface Deaths {
  /** How long each thread was away. */
  readonly awayMs: readonly number[];
  /** How long the whole proxy took to start on the same machine. */
  readonly startMs: number;
}

export async function kill(scope: Scope, deaths: number, report: (line: string) => void): Promise<Deaths> {
  const upstream = await RawUpstream.start(scope, answering());
  const begunMs = performance.now();
  const proxy = await startTestProxy(
    scope,
    [
      httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]) }),
      staticCluster('up', [upstream.port]),
    ],
    { concurrency: 1 },
  );
  const startMs = performance.now() - begunMs;
  const ask = (): Promise<number> =>
    new Promise((resolve) => {
      request({ port: proxy.port(), host: '127.0.0.1', path: '/x', agent: false }, (response) => {
        response.resume().on('close', () => resolve(response.statusCode ?? 0));
      })
        .on('error', () => resolve(0))
        .end();
    });
  const away: number[] = [];
  let counted = 0;
  for (let death = 0; death < deaths; death++) {
    assert.equal(await ask(), 200);
    await new Promise((resolve) => setTimeout(resolve, LIFE_MS));
    await proxy.running.threads.kill(0);
    const diedMs = performance.now();
    // It waits in the socket's queue until the next thread takes it: nothing is refused.
    assert.equal(await ask(), 200);
    away.push(performance.now() - diedMs);
    const now = proxy.value('http.test.downstream_rq_total');
    assert.ok(now >= counted, `a counter went back from ${counted} to ${now}`);
    counted = now;
  }
  const sorted = [...away].sort((a, b) => a - b);
  report(
    `away for ${away.map((ms) => ms.toFixed(0)).join(', ')} ms; median ${sorted[sorted.length >> 1]?.toFixed(0)} ms`,
  );
  assert.deepEqual(proxy.errors, []);
  return { awayMs: away, startMs };
}

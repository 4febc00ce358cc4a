/** Configuration changes while requests are under way: none is lost, none is answered by half a state. */
import assert from 'node:assert/strict';
import { Agent, request } from 'node:http';
import { test } from 'node:test';
import type { Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { resource } from '../support/static_source.ts';

/** PILLION_TEST_RELOAD_SECONDS=30 is what is run by hand before a release. */
const SECONDS = Number(process.env['PILLION_TEST_RELOAD_SECONDS'] ?? 4);

test(`no request is lost in ${SECONDS} s of reloads under load`, { timeout: (SECONDS + 120) * 1000 }, async (t) => {
  const [blue, green] = [await RawUpstream.start(t, answering('blue')), await RawUpstream.start(t, answering('green'))];
  const listener = httpListener({ routes: 'routes' });
  // Alternately: another cluster by route, the same cluster with other hosts, a listener with other options.
  const state = (step: number): Resource[] => [
    step % 3 === 2 ? httpListener({ routes: 'routes', manager: { server_name: `step-${step % 2}` } }) : listener,
    resource('route', routeConfig([{ match: { prefix: '/' }, route: { cluster: step % 2 === 0 ? 'blue' : 'green' } }])),
    staticCluster('blue', [step % 4 < 2 ? blue.port : green.port]),
    staticCluster('green', [green.port]),
    staticCluster(`passing-${step % 5}`, [green.port]),
  ];
  const proxy = await startTestProxy(t, state(0), { concurrency: 2 });
  const port = proxy.port();
  const agent = new Agent({ keepAlive: true, maxSockets: 20 });
  t.after(() => agent.destroy());
  const answers = new Map<string, number>();
  let running = true;
  const ask = (method: string): Promise<string> =>
    new Promise((resolve) => {
      const sent = request({ host: '127.0.0.1', port, path: '/x', method, agent }, (response) => {
        response.toArray().then(
          (chunks) => resolve(`${response.statusCode} ${Buffer.concat(chunks as Buffer[]).toString()}`),
          (error: Error) => resolve(`cut: ${error.message}`),
        );
      });
      sent.once('error', (error: NodeJS.ErrnoException) => resolve(`failed: ${error.code}`));
      sent.end();
    });
  const worker = async (method: string): Promise<void> => {
    while (running) {
      const answer = await ask(method);
      answers.set(answer, (answers.get(answer) ?? 0) + 1);
    }
  };
  const workers = Array.from({ length: 16 }, (_, index) => worker(index % 4 === 0 ? 'POST' : 'GET'));
  const untilMs = performance.now() + SECONDS * 1000;
  let reloads = 0;
  while (performance.now() < untilMs) {
    assert.deepEqual(proxy.set(state(++reloads)).rejected, []);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  running = false;
  await Promise.all(workers);
  const total = [...answers.values()].reduce((sum, count) => sum + count, 0);
  t.diagnostic(`${reloads} reloads, ${total} requests: ${JSON.stringify([...answers])}`);
  assert.deepEqual([...answers.keys()].sort(), ['200 blue', '200 green']);
  assert.deepEqual(proxy.errors, []);
});

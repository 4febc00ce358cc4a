/**
 * Clusters, hosts and threads come and go under load; at the end every shared slot is free and every gauge zero.
 * Short in `npm test`; `npm run soak -- churn 60` for as long as one likes.
 */
import assert from 'node:assert/strict';
import { Agent, request } from 'node:http';
import type { Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';

const CLUSTERS = 40;
/** What a proxy that does nothing has not at zero: its own state. */
const OWN_GAUGES =
  /^(?:server\.|listener_manager\.workers_started|runtime\.|filesystem\.|main_thread\.|process|cluster_manager\.|listener_manager\.|control_plane\.|istio_build)/;

export async function churn(scope: Scope, seconds: number, report: (line: string) => void): Promise<void> {
  const upstreams = await Promise.all(['a', 'b', 'c'].map((body) => RawUpstream.start(scope, answering(body))));
  const ports = upstreams.map(({ port }) => port);
  const listener = httpListener({ routes: 'routes' });
  let step = 0;
  /** Every cluster but a few, each with other hosts every time, some with host statistics of their own. */
  const state = (): Resource[] => {
    const names = Array.from({ length: CLUSTERS }, (_, index) => index).filter((index) => (index + step) % 7 !== 0);
    return [
      listener,
      routes(names),
      ...names.map((index) =>
        staticCluster(
          `c${index}`,
          ports.filter((_, at) => (step + index + at) % 3 !== 0),
          {
            ...(index % 2 === 0 && { outlier_detection: { interval: '1s' } }),
          },
        ),
      ),
    ];
  };
  const proxy = await startTestProxy(scope, state(), { concurrency: 2 });
  const port = proxy.port();
  const agent = new Agent({ keepAlive: true, maxSockets: 16 });
  let running = true;
  let asked = 0;
  const worker = async (number: number): Promise<void> => {
    for (let i = number; running; i += 3) {
      await new Promise<void>((resolve) => {
        const sent = request(
          { port, host: '127.0.0.1', path: `/c${i % CLUSTERS}`, agent: i % 2 === 0 ? agent : false },
          (response) => {
            response.resume().on('close', resolve);
          },
        );
        // A thread that dies takes its streams with it.
        sent.on('error', () => resolve()).end();
      });
      asked++;
    }
  };
  const workers = Array.from({ length: 12 }, (_, number) => worker(number));
  const untilMs = performance.now() + seconds * 1000;
  let kills = 0;
  let counted = 0;
  while (performance.now() < untilMs) {
    step++;
    assert.deepEqual(proxy.set(state()).rejected, []);
    await new Promise((resolve) => setTimeout(resolve, 25));
    if (step % 40 === 20) {
      await proxy.running.threads.kill(kills++ % 2);
    }
    const now = proxy.value('http.test.downstream_rq_total');
    assert.ok(now >= counted, `a counter went back from ${counted} to ${now}`);
    counted = now;
  }
  running = false;
  await Promise.all(workers);
  agent.destroy();
  const used = proxy.running.threads.usedSlots().clusters;
  assert.deepEqual(proxy.set([]).rejected, []);
  const left = (): string[] => {
    const gauges: string[] = [];
    for (const series of proxy.running.statistics.values()) {
      const { value } = series.read();
      if (series.type === 'gauge' && value !== 0 && !OWN_GAUGES.test(series.name))
        gauges.push(`${series.name} ${value}`);
    }
    return gauges;
  };
  for (let attempt = 0; attempt < 400; attempt++) {
    if (proxy.running.threads.usedSlots().clusters === 0 && left().length === 0) break;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  report(`${step} updates, ${asked} requests, ${kills} threads killed; ${used} slots in use before the end`);
  assert.ok(used > 0);
  assert.deepEqual(proxy.running.threads.usedSlots(), { clusters: 0, own: 1 }, 'slots that nobody gave back');
  assert.deepEqual(left(), [], 'gauges that are not zero');
  assert.deepEqual(proxy.errors, []);
  await proxy.stop();
  assert.deepEqual(proxy.running.threads.usedSlots(), { clusters: 0, own: 0 }, 'slots that outlive the threads');

  function routes(names: readonly number[]): Resource {
    const json = routeConfig(
      names.map((index) => ({ match: { prefix: `/c${index}` }, route: { cluster: `c${index}` } })),
    );
    return { type: 'route', name: 'routes', version: `${step}`, json, origin: 'churn:1' };
  }
}

/**
 * A new connection for each request, while the configuration changes five times a second: a listener, a cluster and a
 * route each time. None may be lost. Short in `npm test` (clients of Node); `npm run soak -- reload 60` with wrk.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { promisify } from 'node:util';
import type { Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';

const RELOAD_EVERY_MS = 200;
const CONNECTIONS = 64;

/** What a load has seen. */
interface Seen {
  readonly requests: number;
  /** By what went wrong. */
  readonly lost: ReadonlyMap<string, number>;
}
export type Load = (port: number, seconds: number) => Promise<Seen>;

export async function reload(scope: Scope, seconds: number, load: Load, report: (line: string) => void): Promise<void> {
  const upstreams = await Promise.all([backend(scope), backend(scope)]);
  const state = (step: number): Resource[] => [
    httpListener({ routes: 'routes', manager: { server_name: `step-${step % 7}` } }),
    resource('route', {
      ...routeConfig([{ match: { prefix: '/' }, route: { cluster: step % 2 === 0 ? 'blue' : 'green' } }]),
      most_specific_header_mutations_wins: step % 3 === 0,
    }),
    staticCluster('blue', [upstreams[step % 2] as number], { connect_timeout: `${5 + (step % 3)}s` }),
    staticCluster('green', upstreams, { connect_timeout: `${5 + (step % 5)}s` }),
  ];
  const proxy = await startTestProxy(scope, state(0), { concurrency: 2 });
  let running = true;
  let reloads = 0;
  const reloading = (async () => {
    while (running) {
      await new Promise((resolve) => setTimeout(resolve, RELOAD_EVERY_MS));
      assert.deepEqual(proxy.set(state(++reloads)).rejected, []);
    }
  })();
  const startMs = performance.now();
  const { requests, lost } = await load(proxy.port(), seconds);
  const elapsed = (performance.now() - startMs) / 1000;
  running = false;
  await reloading;
  report(
    `${requests} connections and requests (${Math.round(requests / elapsed)}/s), ${reloads} reloads (${(reloads / elapsed).toFixed(1)}/s), lost: ${JSON.stringify([...lost])}`,
  );
  assert.deepEqual([...lost], []);
  assert.ok(reloads / elapsed > 2, 'the reloads came too slowly to prove anything');
  assert.deepEqual(proxy.errors, []);
}

async function backend(scope: Scope): Promise<number> {
  const server = createServer((_request, response) => {
    response.end('ok');
  });
  server.keepAliveTimeout = 0;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  scope.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return (server.address() as AddressInfo).port;
}

/** Clients in this process. */
export const nodeLoad: Load = async (port, seconds) => {
  const lost = new Map<string, number>();
  let requests = 0;
  const untilMs = performance.now() + seconds * 1000;
  const ask = (): Promise<string> =>
    new Promise((resolve) => {
      request({ port, host: '127.0.0.1', path: '/x', agent: false }, (response) => {
        let body = '';
        response.setEncoding('latin1').on('data', (text: string) => {
          body += text;
        });
        response.on('end', () => resolve(`${response.statusCode} ${body}`));
        response.on('error', (error) => resolve(error.message));
      })
        .on('error', (error) => resolve(error.message))
        .end();
    });
  const client = async (): Promise<void> => {
    while (performance.now() < untilMs) {
      const answer = await ask();
      requests++;
      if (answer !== '200 ok') lost.set(answer, (lost.get(answer) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: CONNECTIONS / 4 }, client));
  return { requests, lost };
};

/** wrk, which asks faster than a client of Node can. */
export const wrkLoad: Load = async (port, seconds) => {
  const { stdout } = await promisify(execFile)('wrk', [
    ...['-t1', `-c${CONNECTIONS}`, `-d${seconds}s`, '-H', 'Connection: close'],
    `http://127.0.0.1:${port}/x`,
  ]);
  const lost = new Map<string, number>();
  const [, connect, read, write, timeout] =
    /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(stdout) ?? [];
  for (const [name, count] of Object.entries({ connect, read, write, timeout })) {
    if (Number(count ?? 0) > 0) lost.set(name, Number(count));
  }
  const bad = Number(/Non-2xx or 3xx responses: (\d+)/.exec(stdout)?.[1] ?? 0);
  if (bad > 0) lost.set('not 2xx', bad);
  return { requests: Number(/(\d+) requests in/.exec(stdout)?.[1] ?? 0), lost };
};

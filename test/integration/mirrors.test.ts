/** Copies of requests: sent and forgotten, whatever becomes of them. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { test } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { eventually } from '../support/eventually.ts';

interface Seen {
  readonly method: string;
  readonly host: string;
  readonly url: string;
  readonly body: string;
}

/** An upstream that answers with its name and notes what it got. */
async function noting(t: Scope, name: string) {
  const seen: Seen[] = [];
  const server = createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (text: string) => {
      body += text;
    });
    request.on('end', () => {
      seen.push({ method: request.method ?? '', host: request.headers.host ?? '', url: request.url ?? '', body });
      response.end(name);
    });
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return { seen, port: (server.address() as { port: number }).port };
}

async function start(t: Scope, policies: readonly Json[], mirrorPort: number, route: Json = {}) {
  const upstream = await noting(t, 'real');
  const proxy = await startTestProxy(t, [
    httpListener({
      routes: routeConfig([
        {
          match: { prefix: '/' },
          ...route,
          route: { cluster: 'up', prefix_rewrite: '/new/', request_mirror_policies: policies },
        },
      ]),
    }),
    staticCluster('up', [upstream.port]),
    staticCluster('mirror', [mirrorPort]),
  ]);
  const ask = async (method = 'GET', body?: string): Promise<string> => {
    const response = await fetch(`http://127.0.0.1:${proxy.port()}/x`, { method, ...(body !== undefined && { body }) });
    return `${response.status} ${await response.text()}`;
  };
  return { upstream, proxy, ask };
}

test('a mirror gets what the upstream gets, and its answer goes nowhere', async (t) => {
  const mirror = await noting(t, 'mirror');
  const { upstream, ask } = await start(
    t,
    [{ cluster: 'mirror', disable_shadow_host_suffix_append: true }],
    mirror.port,
  );
  assert.equal(await ask(), '200 real');
  // One after the other: two at a time may come in any order.
  await eventually('it was mirrored', () => mirror.seen.length === 1);
  assert.equal(await ask('POST', 'the body'), '200 real');
  await eventually('both were mirrored', () => mirror.seen.length === 2);
  assert.deepEqual(mirror.seen, upstream.seen);
  assert.equal(mirror.seen[1]?.body, 'the body');
});

test('the host gets a suffix unless that is turned off', async (t) => {
  const mirror = await noting(t, 'mirror');
  const { proxy, ask } = await start(t, [{ cluster: 'mirror' }], mirror.port);
  await ask();
  await eventually('it was mirrored', () => mirror.seen.length === 1);
  assert.equal(mirror.seen[0]?.host, `127.0.0.1-shadow:${proxy.port()}`);
});

test('a share is mirrored, and an explicit 0 is nothing', async (t) => {
  const mirror = await noting(t, 'mirror');
  const share = (numerator: number) => ({
    cluster: 'mirror',
    runtime_fraction: { default_value: { numerator, denominator: 'HUNDRED' } },
  });
  const { ask } = await start(t, [share(25), share(0)], mirror.port);
  for (let i = 0; i < 200; i++) await ask();
  await eventually('some were', () => mirror.seen.length > 20);
  assert.ok(mirror.seen.length < 90, `${mirror.seen.length} of 200`);
});

test('a mirror that is not there, resets or stalls changes nothing', async (t) => {
  const cutting = await RawUpstream.start(t, (_received, socket) => socket.resetAndDestroy());
  const stalling = await RawUpstream.start(t, () => {});
  for (const port of [cutting.port, stalling.port, 1]) {
    const { ask } = await start(t, [{ cluster: 'mirror' }, { cluster: 'gone' }], port);
    for (let i = 0; i < 10; i++) assert.equal(await ask('POST', 'body'), '200 real');
  }
});

test('a body that is too large to be copied is not mirrored, and that is counted', async (t) => {
  const mirror = await noting(t, 'mirror');
  const { proxy, ask } = await start(t, [{ cluster: 'mirror' }], mirror.port, { per_request_buffer_limit_bytes: 1000 });
  assert.equal(await ask('POST', 'x'.repeat(5000)), '200 real');
  assert.equal(await ask('POST', 'small'), '200 real');
  await eventually('the small one was mirrored', () => mirror.seen.length === 1);
  assert.equal(mirror.seen[0]?.body, 'small');
  assert.equal(proxy.value('cluster.up.retry_or_shadow_abandoned'), 1);
});

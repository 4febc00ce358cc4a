/** Active health checks: HTTP, gRPC and TCP; who fails is left out until it passes again. */
import assert from 'node:assert/strict';
import { createServer as createHttp2Server } from 'node:http2';
import { test } from 'node:test';
import { buildHealthChecks } from '../../config/build/health_checks.ts';
import type { Json } from '../../config/resources.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { SwitchedUpstream } from '../support/switched_upstream.ts';
import { eventually } from '../support/eventually.ts';

const QUICK = { timeout: '2s', interval: '0.03s', unhealthy_threshold: 2, healthy_threshold: 2 };

async function start(t: Scope, ports: readonly number[], check: Json, cluster: Json = {}) {
  return startTestProxy(
    t,
    [
      httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]) }),
      staticCluster('up', ports, {
        health_checks: [{ ...QUICK, ...check }],
        common_lb_config: { healthy_panic_threshold: {} },
        ...cluster,
      }),
    ],
    { concurrency: 2 },
  );
}

async function answers(proxy: TestProxy, count: number): Promise<string[]> {
  const all = new Set<string>();
  for (let i = 0; i < count; i++) {
    const response = await fetch(`http://127.0.0.1:${proxy.port()}/`, { headers: { connection: 'close' } });
    all.add(`${response.status} ${await response.text()}`);
  }
  return [...all].sort();
}

const healthy = (proxy: TestProxy): number => proxy.value('cluster.up.health_check.healthy');

test('HTTP: a host that answers otherwise than expected is left out, and comes back', async (t) => {
  const [a, b] = await Promise.all(['a', 'b'].map((name) => SwitchedUpstream.start(t, name)));
  const proxy = await start(t, [a?.port ?? 0, b?.port ?? 0], { http_health_check: { path: '/healthz' } });
  await eventually('both are healthy', () => healthy(proxy) === 2);
  (a as SwitchedUpstream).status = 500;
  await eventually('one is left', () => healthy(proxy) === 1);
  await eventually('all threads know', async () => (await answers(proxy, 10)).join() === '200 b');
  (a as SwitchedUpstream).status = 200;
  await eventually('it is back', async () => (await answers(proxy, 10)).length === 2);
  assert.ok(proxy.value('cluster.up.health_check.failure') >= 2);
});

test('HTTP: expected statuses are those that are configured', async (t) => {
  const a = await SwitchedUpstream.start(t, 'a');
  a.status = 204;
  const proxy = await start(t, [a.port], {
    http_health_check: { path: '/', expected_statuses: [{ start: 204, end: 205 }] },
  });
  await eventually('it is healthy', () => healthy(proxy) === 1);
  a.status = 200;
  await eventually('it is not', () => healthy(proxy) === 0);
});

test('TCP: a connection is enough, or the answer that is wanted', async (t) => {
  const quiet = await RawUpstream.start(t, () => {});
  const proxy = await start(t, [quiet.port, 1], { tcp_health_check: {} });
  await eventually('the one that listens is healthy', () => healthy(proxy) === 1);
  const redis = await RawUpstream.start(t, (received, socket) => {
    if (received === 'PING\r\n') socket.write('+PO');
    if (received === 'PING\r\n') setTimeout(() => socket.write('NG\r\n'), 5);
  });
  const hex = (text: string) => ({ text: Buffer.from(text).toString('hex') });
  const other = await start(t, [redis.port, quiet.port], {
    tcp_health_check: { send: hex('PING\r\n'), receive: [hex('+PONG')] },
  });
  await eventually('the one that answers is healthy', () => healthy(other) === 1);
  await eventually('the other has failed', () => other.value('cluster.up.health_check.failure') >= 1);
});

test('gRPC: SERVING is healthy, anything else is not', async (t) => {
  let status = 1;
  let asked = '';
  const server = createHttp2Server((request, response) => {
    asked = request.url;
    request.resume().on('end', () => {
      response.writeHead(200, { 'content-type': 'application/grpc' });
      response.addTrailers({ 'grpc-status': '0' });
      response.end(Buffer.from([0, 0, 0, 0, 2, 0x08, status]));
    });
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  t.after(() => server.close());
  const proxy = await start(
    t,
    [(server.address() as { port: number }).port],
    { grpc_health_check: { service_name: 'shop' } },
    {
      typed_extension_protocol_options: {
        'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
          '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
          explicit_http_config: { http2_protocol_options: {} },
        },
      },
    },
  );
  await eventually('it is healthy', () => healthy(proxy) === 1);
  assert.equal(asked, '/grpc.health.v1.Health/Check');
  status = 2;
  await eventually('it is not', () => healthy(proxy) === 0);
  assert.deepEqual(await answers(proxy, 1), ['503 no healthy upstream']);
});

test('a host that does not answer in time fails', async (t) => {
  const stalled = await RawUpstream.start(t, () => {});
  const proxy = await start(t, [stalled.port], { timeout: '0.05s', http_health_check: { path: '/' } });
  await eventually('it fails', () => proxy.value('cluster.up.health_check.failure') >= 2);
  await eventually('nobody is left', async () => (await answers(proxy, 1))[0] === '503 no healthy upstream');
});

test('what makes no sense is refused with its field', () => {
  const build = (json: Json) => () => buildHealthChecks([new Fields({ ...QUICK, ...json }, 'health_checks[0]')]);
  for (const [json, path] of [
    [{}, 'health_checks[0].http_health_check'],
    [{ interval: '0s', tcp_health_check: {} }, 'health_checks[0].interval'],
    [{ timeout: '-1s', tcp_health_check: {} }, 'health_checks[0].timeout'],
    [{ unhealthy_threshold: 0, tcp_health_check: {} }, 'health_checks[0].unhealthy_threshold'],
    [{ tcp_health_check: { send: { text: 'xyz' } } }, 'health_checks[0].tcp_health_check.send.text'],
    [{ custom_health_check: {} }, 'health_checks[0].custom_health_check'],
  ] as const) {
    assert.throws(build(json), (error) => error instanceof ConfigError && error.path === path);
  }
});

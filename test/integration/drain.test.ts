/** Draining on real sockets: what answers say, what goes on, what is refused. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { test } from 'node:test';
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { answering, RawClient, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';

const GET = 'GET /x HTTP/1.1\r\nhost: a\r\n\r\n';

function listener(name: string, direction: string, more: Json = {}): Resource {
  const { json } = httpListener({ name, routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]) });
  return resource('listener', { ...json, traffic_direction: direction, ...more });
}

async function start(
  t: Scope,
  answer: Parameters<typeof RawUpstream.start>[1] = answering(),
  options: Parameters<typeof startTestProxy>[2] = {},
): Promise<{ proxy: TestProxy; upstream: RawUpstream }> {
  const upstream = await RawUpstream.start(t, answer);
  const proxy = await startTestProxy(
    t,
    [
      listener('in', 'INBOUND'),
      listener('out', 'OUTBOUND'),
      listener('any', 'UNSPECIFIED'),
      staticCluster('up', [upstream.port]),
    ],
    options,
  );
  return { proxy, upstream };
}

async function post(proxy: TestProxy, path: string): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${proxy.port('admin')}${path}`, { method: 'POST' });
  return `${response.status} ${await response.text()}`;
}

/** One request on a kept-alive connection. @returns whether the answer ends it. */
async function asks(client: RawClient): Promise<boolean> {
  client.received = '';
  client.send(GET);
  const answer = await client.until((text) => text.endsWith('ok'));
  assert.match(answer, /^HTTP\/1\.1 200 /);
  return /connection: close/.test(answer);
}

function isRefused(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ port, host: '127.0.0.1' });
    socket.once('connect', () => resolve(false)).once('error', () => resolve(true));
    socket.once('connect', () => socket.destroy());
  });
}

test('a graceful stop lets inbound answers say close, outbound ones not, and accepts new work until nothing is open', async (t) => {
  const held: (() => void)[] = [];
  const ok = answering();
  const { proxy } = await start(t, (received, socket) => {
    if (received.includes('/slow')) held.push(() => socket.write('HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow'));
    else ok(received, socket);
  });
  const [inPort, outPort, anyPort] = [proxy.port('in'), proxy.port('out'), proxy.port('any')];
  const idle = [new RawClient(t, inPort), new RawClient(t, outPort), new RawClient(t, anyPort)];
  for (const client of idle) assert.equal(await asks(client), false);
  const slow = new RawClient(t, outPort).send('GET /slow HTTP/1.1\r\nhost: a\r\n\r\n');
  while (held.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const stopped = proxy.running.stop('graceful', { deadlineMs: 10_000 });
  // An idle connection is no reason to lose the request that is on its way on it.
  assert.deepEqual(
    [await asks(idle[0] as RawClient), await asks(idle[1] as RawClient), await asks(idle[2] as RawClient)],
    [true, false, true],
  );
  // New connections are served all the same.
  assert.equal(await asks(new RawClient(t, inPort)), true);
  assert.equal(await asks(new RawClient(t, outPort)), false);
  const ready = await fetch(`http://127.0.0.1:${proxy.port('admin')}/ready`);
  assert.equal(`${ready.status} ${await ready.text()}`, '503 DRAINING\n');
  held[0]?.();
  await slow.until((text) => text.endsWith('slow'));
  assert.equal(await stopped, '');
  assert.equal(await isRefused(inPort), true);
});

test('a graceful stop that takes too long says what it cut', async (t) => {
  const { proxy } = await start(t, () => {});
  new RawClient(t, proxy.port('in')).send('GET /slow/thing?token=secret HTTP/1.1\r\nhost: a\r\n\r\n');
  while (proxy.value('http.test.downstream_rq_active') === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const cut = await proxy.running.stop('graceful', { deadlineMs: 200 });
  assert.match(cut, /^1 open: GET \/slow\/thing from 127\.0\.0\.1:\d+ on in, \d+\.\d s old$/);
});

test('a graceful stop waits for its minimum, and for connections where it is told to', async (t) => {
  const { proxy } = await start(t);
  const client = new RawClient(t, proxy.port('out'));
  await asks(client);
  const startMs = performance.now();
  let over = false;
  const stopped = proxy.running.stop('graceful', { deadlineMs: 10_000, minimumMs: 300, waitFor: 'connections' });
  void stopped.then(() => {
    over = true;
  });
  for (let i = 0; i < 40; i++) {
    assert.equal(await asks(client), false);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.equal(over, false);
  client.socket.end();
  assert.equal(await stopped, '');
  assert.ok(performance.now() - startMs >= 300);
});

test('/drain_listeners closes the listening sockets and lets connections go on', async (t) => {
  const { proxy } = await start(t);
  const ports = [proxy.port('in'), proxy.port('out'), proxy.port('any')];
  const clients = ports.map((port) => new RawClient(t, port));
  for (const client of clients) await asks(client);
  assert.equal(await post(proxy, '/drain_listeners?inboundonly'), '200 OK\n');
  while (!(await isRefused(ports[0] as number))) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.deepEqual([await isRefused(ports[1] as number), await isRefused(ports[2] as number)], [false, false]);
  assert.equal(await post(proxy, '/drain_listeners'), '200 OK\n');
  for (const port of ports) while (!(await isRefused(port))) await new Promise((resolve) => setTimeout(resolve, 5));
  for (const client of clients) assert.equal(await asks(client), false);
});

test('/drain_listeners?graceful lets answers say close, and then closes the sockets unless skip_exit', async (t) => {
  const { proxy } = await start(t, answering(), { drainTimeMs: 2000 });
  const port = proxy.port('in');
  assert.equal(await post(proxy, '/drain_listeners?skip_exit'), '400 skip_exit requires graceful\n');
  assert.equal(await post(proxy, '/drain_listeners?graceful&inboundonly'), '200 OK\n');
  const client = new RawClient(t, port);
  assert.equal(await asks(client), true);
  assert.equal(await asks(new RawClient(t, proxy.port('any'))), false);
  while (!(await isRefused(port))) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.equal(await isRefused(proxy.port('any')), false);
});

test('/drain_listeners?graceful&skip_exit goes on accepting, on restarted threads too', async (t) => {
  const { proxy } = await start(t, answering(), { drainTimeMs: 50 });
  assert.equal(await post(proxy, '/drain_listeners?graceful&skip_exit'), '200 OK\n');
  await new Promise((resolve) => setTimeout(resolve, 150));
  assert.equal(await asks(new RawClient(t, proxy.port('out'))), true);
  await proxy.running.threads.kill(0);
  assert.equal(await asks(new RawClient(t, proxy.port('out'))), true);
});

test('/healthcheck/fail sends clients elsewhere until /healthcheck/ok', async (t) => {
  const { proxy } = await start(t);
  await post(proxy, '/healthcheck/fail');
  assert.equal(await asks(new RawClient(t, proxy.port('out'))), true);
  await post(proxy, '/healthcheck/ok');
  assert.equal(await asks(new RawClient(t, proxy.port('out'))), false);
});

test('a listener whose chain changed loses no request of a kept-alive connection', async (t) => {
  const { proxy, upstream } = await start(t);
  const client = new RawClient(t, proxy.port('in'));
  assert.equal(await asks(client), false);
  const base = listener('in', 'INBOUND').json as { filter_chains: Json[] };
  const chain = { ...base.filter_chains[0], name: 'another' };
  const changed = resource('listener', { ...base, filter_chains: [chain] });
  assert.deepEqual(proxy.set([changed, staticCluster('up', [upstream.port])]).rejected, []);
  while (!proxy.reports.some(({ summary }) => summary.includes('listener'))) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.equal(await asks(client), true);
  await client.toEnd();
});

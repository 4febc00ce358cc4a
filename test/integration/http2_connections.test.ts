/** HTTP/2 connections from their beginning to their end: pools, limits, PINGs, GOAWAY, on both sides of the proxy. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import type { Json, Resource } from '../../config/resources.ts';
import { FrameType, PREFACE } from '../../proxy/http2/constants.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { frame, parseFrames } from '../support/http2_wire.ts';
import { RawClient, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { eventually } from '../support/eventually.ts';

interface Upstream {
  readonly port: number;
  readonly sessions: http2.ServerHttp2Session[];
  /** Streams that have not been answered. */
  readonly waiting: http2.ServerHttp2Stream[];
  answerAll(): void;
}

/** Answers at once, but `/wait` only when it is told to. */
async function startUpstream(t: Scope, settings: http2.Settings = {}): Promise<Upstream> {
  const server = http2.createServer({ settings });
  const sessions: http2.ServerHttp2Session[] = [];
  const waiting: http2.ServerHttp2Stream[] = [];
  const answer = (stream: http2.ServerHttp2Stream): void => {
    if (stream.destroyed) return;
    stream.respond({ ':status': 200 });
    stream.end('ok');
  };
  server.on('session', (session) => {
    sessions.push(session);
    session.on('error', () => {});
  });
  server.on('stream', (stream: http2.ServerHttp2Stream, headers) => {
    stream.on('error', () => {});
    if (headers[':path'] === '/wait') waiting.push(stream);
    else answer(stream);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return {
    port: (server.address() as AddressInfo).port,
    sessions,
    waiting,
    answerAll: () => {
      for (const stream of waiting.splice(0)) answer(stream);
    },
  };
}

interface Setup {
  readonly manager?: Json;
  readonly http2?: Json;
  readonly common?: Json;
  readonly cluster?: Json;
}

function resources(port: number, { manager = {}, http2: own = {}, common, cluster = {} }: Setup = {}): Resource[] {
  return [
    httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'upstream' } }]), manager }),
    staticCluster('upstream', [port], {
      typed_extension_protocol_options: {
        'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
          '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
          explicit_http_config: { http2_protocol_options: own },
          ...(common !== undefined && { common_http_protocol_options: common }),
        },
      },
      ...cluster,
    }),
  ];
}

async function ask(session: http2.ClientHttp2Session, path = '/'): Promise<number> {
  const stream = session.request({ ':path': path, ':authority': 'a' });
  stream.resume();
  const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders & { ':status': number }];
  if (!stream.closed) await once(stream, 'close');
  return headers[':status'];
}

function open(t: Scope, proxy: TestProxy): http2.ClientHttp2Session {
  const session = http2.connect(`http://127.0.0.1:${proxy.port()}`);
  session.on('error', () => {});
  t.after(() => session.destroy());
  return session;
}

test('a pool opens a further connection when the streams of the first run out', async (t) => {
  const upstream = await startUpstream(t, { maxConcurrentStreams: 3 });
  const proxy = await startTestProxy(t, resources(upstream.port));
  const session = open(t, proxy);
  assert.equal(await ask(session), 200);
  const answers = Array.from({ length: 7 }, () => ask(session, '/wait'));
  await eventually('seven requests', () => upstream.waiting.length === 7);
  assert.equal(upstream.sessions.length, 3);
  upstream.answerAll();
  assert.deepEqual(await Promise.all(answers), new Array(7).fill(200));
  assert.equal(proxy.value('cluster.upstream.upstream_cx_http2_total'), 3);
  assert.equal(await ask(session), 200);
  assert.equal(upstream.sessions.length, 3, 'what is there is used again');
});

test('max_concurrent_streams of the cluster bounds a connection too', async (t) => {
  const upstream = await startUpstream(t);
  const proxy = await startTestProxy(t, resources(upstream.port, { http2: { max_concurrent_streams: 2 } }));
  const session = open(t, proxy);
  assert.equal(await ask(session), 200);
  const answers = Array.from({ length: 4 }, () => ask(session, '/wait'));
  await eventually('four requests', () => upstream.waiting.length === 4);
  assert.equal(upstream.sessions.length, 2);
  upstream.answerAll();
  await Promise.all(answers);
});

test('max_requests_per_connection moves later requests to another connection', async (t) => {
  const upstream = await startUpstream(t);
  const proxy = await startTestProxy(t, resources(upstream.port, { common: { max_requests_per_connection: 2 } }));
  const session = open(t, proxy);
  for (let count = 0; count < 4; count++) assert.equal(await ask(session), 200);
  assert.equal(upstream.sessions.length, 2);
  await eventually('the first connection closes', () => upstream.sessions[0]?.destroyed === true);
});

test('an upstream that goes away gets no new requests, and those it did not look at go elsewhere', async (t) => {
  const upstream = await startUpstream(t);
  const proxy = await startTestProxy(t, resources(upstream.port));
  const session = open(t, proxy);
  const waiting = ask(session, '/wait');
  await eventually('a request', () => upstream.waiting.length === 1);
  upstream.sessions[0]?.goaway(0);
  await eventually('the notice', () => proxy.value('cluster.upstream.upstream_cx_close_notify') === 1);
  assert.equal(await ask(session), 200);
  assert.equal(upstream.sessions.length, 2);
  upstream.answerAll();
  assert.equal(await waiting, 200);
});

test('idle_timeout and max_connection_duration end upstream connections', async (t) => {
  for (const common of [{ idle_timeout: '0.1s' }, { max_connection_duration: '0.1s' }]) {
    const upstream = await startUpstream(t);
    const proxy = await startTestProxy(t, resources(upstream.port, { common }));
    assert.equal(await ask(open(t, proxy)), 200);
    await eventually(JSON.stringify(common), () => upstream.sessions[0]?.destroyed === true);
  }
});

test('PINGs are sent at connection_keepalive’s interval, and silence ends the connection', async (t) => {
  let silent = false;
  const acks: Buffer[] = [];
  const upstream = await RawUpstream.start(t, (received, socket) => {
    const bytes = Buffer.from(received, 'latin1');
    if (bytes.length <= PREFACE.length) return;
    let frames: ReturnType<typeof parseFrames>;
    try {
      frames = parseFrames(bytes);
    } catch {
      return;
    }
    if (acks.length === 0) {
      socket.write(
        Buffer.concat([frame(FrameType.SETTINGS, 0, 0), frame(FrameType.HEADERS, 0x5, 1, Buffer.from([0x88]))]),
      );
    }
    const pings = frames.filter(({ type, flags }) => type === FrameType.PING && flags === 0);
    for (const { payload } of pings.slice(Math.max(0, acks.length - 1))) {
      if (silent) return;
      acks.push(payload);
      socket.write(frame(FrameType.PING, 1, 0, payload));
      silent = acks.length >= 4;
    }
    acks.push(Buffer.alloc(0));
  });
  const keepalive = { interval: '0.03s', timeout: '1s', interval_jitter: { value: 0 } };
  const proxy = await startTestProxy(t, resources(upstream.port, { http2: { connection_keepalive: keepalive } }));
  assert.equal(await ask(open(t, proxy)), 200);
  await eventually('the end', () => upstream.sockets[0]?.destroyed === true);
  assert.equal(proxy.value('cluster.upstream.http2.keepalive_timeout'), 1);
});

test('a draining listener says GOAWAY twice, serves what is open, and closes', async (t) => {
  const upstream = await startUpstream(t);
  const proxy = await startTestProxy(t, resources(upstream.port));
  const session = open(t, proxy);
  const lastIds: number[] = [];
  session.on('goaway', (_code, lastId: number) => lastIds.push(lastId));
  const waiting = ask(session, '/wait');
  await eventually('a request', () => upstream.waiting.length === 1);
  const stopped = proxy.stop();
  await eventually('both GOAWAYs', () => lastIds.length === 2);
  assert.deepEqual(lastIds, [2 ** 31 - 1, 1]);
  upstream.answerAll();
  assert.equal(await waiting, 200);
  await stopped;
});

test('downstream max_connection_duration, max_requests_per_connection and idle_timeout drain a connection', async (t) => {
  const upstream = await startUpstream(t);
  for (const common of [
    { max_connection_duration: '0.1s' },
    { max_requests_per_connection: 1 },
    { idle_timeout: '0.1s' },
  ]) {
    const proxy = await startTestProxy(
      t,
      resources(upstream.port, { manager: { common_http_protocol_options: common } }),
    );
    const session = open(t, proxy);
    const closed = once(session, 'close');
    assert.equal(await ask(session), 200);
    await closed;
  }
});

test('downstream PINGs end a connection whose client is silent', async (t) => {
  const upstream = await startUpstream(t);
  const manager = { http2_protocol_options: { connection_keepalive: { interval: '0.03s', timeout: '2s' } } };
  const proxy = await startTestProxy(t, resources(upstream.port, { manager }));
  const session = open(t, proxy);
  let pings = 0;
  session.on('ping', () => pings++);
  assert.equal(await ask(session), 200);
  await eventually('PINGs come', () => pings > 2);
  const silent = new RawClient(t, proxy.port()).send(
    Buffer.concat([PREFACE, frame(FrameType.SETTINGS, 0, 0)]).toString('latin1'),
  );
  await silent.toEnd();
  assert.equal(session.destroyed, false, 'a client that answers stays');
  assert.equal(proxy.value('http2.keepalive_timeout'), 1);
});

test('streams and connections are counted, and none is left', async (t) => {
  const upstream = await startUpstream(t);
  const proxy = await startTestProxy(t, resources(upstream.port));
  const session = open(t, proxy);
  for (let count = 0; count < 5; count++) assert.equal(await ask(session), 200);
  const cancelled = session.request({ ':path': '/wait', ':authority': 'a' });
  cancelled.on('error', () => {});
  await eventually('a request', () => upstream.waiting.length === 1);
  assert.equal(proxy.value('http2.streams_active'), 1);
  assert.equal(proxy.value('cluster.upstream.http2.streams_active'), 1);
  cancelled.close(http2.constants.NGHTTP2_CANCEL);
  await eventually('the cancellation upstream', () => upstream.waiting[0]?.destroyed === true);
  assert.equal(upstream.waiting[0]?.rstCode, http2.constants.NGHTTP2_CANCEL);
  await proxy.counted();
  for (const gauge of [
    'http2.streams_active',
    'cluster.upstream.http2.streams_active',
    'cluster.upstream.upstream_rq_active',
    'http.test.downstream_rq_active',
  ]) {
    assert.equal(proxy.value(gauge), 0, gauge);
  }
  assert.equal(proxy.value('http2.rx_reset'), 1);
  assert.equal(proxy.value('cluster.upstream.http2.tx_reset'), 1);
  assert.equal(proxy.value('http.test.downstream_cx_http2_active'), 1);
  assert.equal(proxy.value('http.test.downstream_rq_http2_total'), 6);
});

test('a slow reader of one stream does not slow its neighbour on the same connections', async (t) => {
  const upstream = http2.createServer();
  upstream.on('session', (session) => t.after(() => session.destroy()));
  upstream.on('stream', (stream: http2.ServerHttp2Stream) => {
    stream.on('error', () => {});
    stream.respond({ ':status': 200 });
    stream.end(Buffer.alloc(8 * 1024 * 1024, 'x'));
  });
  upstream.listen(0, '127.0.0.1');
  await once(upstream, 'listening');
  t.after(() => upstream.close());
  const proxy = await startTestProxy(t, resources((upstream.address() as AddressInfo).port));
  const session = open(t, proxy);
  const slow = session.request({ ':path': '/', ':authority': 'a' });
  slow.on('error', () => {});
  slow.pause();
  await once(slow, 'response');
  const fast = session.request({ ':path': '/', ':authority': 'a' });
  let got = 0;
  for await (const chunk of fast) got += (chunk as Buffer).length;
  assert.equal(got, 8 * 1024 * 1024);
  let late = 0;
  for await (const chunk of slow) late += (chunk as Buffer).length;
  assert.equal(late, 8 * 1024 * 1024);
});

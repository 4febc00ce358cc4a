/** WebSocket, CONNECT and extended CONNECT, with real clients and servers on both sides. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import http2 from 'node:http2';
import { type AddressInfo, connect as connectTcp, createServer } from 'node:net';
import type { Duplex } from 'node:stream';
import { test } from 'node:test';
import { createRequire } from 'node:module';
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { RawClient, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { byteClient, ByteServer, ending } from '../support/tcp_resources.ts';

/** As much of `ws` as is used here: the package has no types. */
interface Socket {
  on(event: 'message', listener: (data: Buffer, isBinary: boolean) => void): this;
  on(event: 'open' | 'close' | 'error', listener: () => void): this;
  once(event: 'message' | 'open' | 'close' | 'error', listener: (...values: unknown[]) => void): this;
  send(data: Buffer): void;
  close(): void;
  terminate(): void;
  setSocket(stream: Duplex, head: Buffer, options: object): void;
  readyState: number;
}
const ws = createRequire(import.meta.url)('ws') as {
  WebSocket: new (url: string | null, protocols?: readonly string[], options?: object) => Socket;
  WebSocketServer: new (options: object) => { on(event: 'connection', listener: (socket: Socket) => void): void };
};

const HTTP2_CLUSTER: Json = {
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
};

function listen(server: http.Server | http2.Http2Server, t: Scope): Promise<number> {
  t.after(() => {
    server.close();
    if ('closeAllConnections' in server) server.closeAllConnections();
  });
  server.listen(0, '127.0.0.1');
  return once(server, 'listening').then(() => (server.address() as AddressInfo).port);
}

/** Sends everything back. */
function startWebSocketServer(t: Scope): Promise<number> {
  const server = http.createServer();
  const sockets = new ws.WebSocketServer({ server });
  sockets.on('connection', (socket) => {
    t.after(() => socket.terminate());
    socket.on('message', (data) => socket.send(data));
  });
  return listen(server, t);
}

/** The same over extended CONNECT. */
function startHttp2WebSocketServer(t: Scope): Promise<number> {
  const server = http2.createServer({ settings: { enableConnectProtocol: true } });
  server.on('session', (session) => t.after(() => session.destroy()));
  server.on('stream', (stream: http2.ServerHttp2Stream, headers) => {
    assert.equal(headers[':method'], 'CONNECT');
    assert.equal(headers[':protocol'], 'websocket');
    stream.respond({ ':status': 200 });
    stream.on('error', () => {});
    const socket = new ws.WebSocket(null, undefined, {});
    socket.setSocket(stream, Buffer.alloc(0), {
      maxPayload: 0,
      skipUTF8Validation: false,
      allowSynchronousEvents: true,
    });
    socket.on('message', (data) => socket.send(data));
  });
  return listen(server, t);
}

function resources(
  port: number,
  cluster: Json = {},
  upgrades: readonly Json[] = [{ upgrade_type: 'websocket' }],
  route: Json = {},
): Resource[] {
  return [
    httpListener({
      routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'upstream', ...route } }]),
      manager: { upgrade_configs: upgrades, http2_protocol_options: { allow_connect: true } },
    }),
    staticCluster('upstream', [port], cluster),
  ];
}

const SIZES = [0, 1, 125, 126, 127, 65_535, 65_536, 300_000];

/** Every message comes back as it was. */
async function echoes(socket: Socket): Promise<void> {
  for (const [index, size] of SIZES.entries()) {
    const message = Buffer.alloc(size, index + 1);
    const answered = new Promise<Buffer>((resolve, reject) => {
      socket.once('message', (data) => resolve(data as Buffer));
      socket.once('close', () => reject(new Error('it closed')));
    });
    socket.send(message);
    assert.ok((await answered).equals(message), `${size} bytes`);
  }
}

async function openHttp1(t: Scope, port: number): Promise<Socket> {
  const socket = new ws.WebSocket(`ws://127.0.0.1:${port}/chat`);
  socket.on('error', () => {});
  t.after(() => socket.terminate());
  await new Promise<void>((resolve, reject) => {
    socket.once('open', () => resolve());
    socket.once('error', (error) => reject(error as Error));
  });
  return socket;
}

async function openHttp2(t: Scope, port: number): Promise<{ socket: Socket; session: http2.ClientHttp2Session }> {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  t.after(() => session.destroy());
  await once(session, 'remoteSettings');
  const stream = session.request(
    {
      ':method': 'CONNECT',
      ':protocol': 'websocket',
      ':path': '/chat',
      ':scheme': 'http',
      ':authority': 'a',
      'sec-websocket-version': '13',
    },
    { endStream: false },
  );
  stream.on('error', () => {});
  const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders & { ':status': number }];
  assert.equal(headers[':status'], 200);
  assert.equal(headers['upgrade'], undefined);
  const socket = new ws.WebSocket(null, undefined, {});
  socket.on('error', () => {});
  // Without an address ws takes itself for a server, and a server does not mask what it sends.
  (socket as unknown as { _isServer: boolean })._isServer = false;
  socket.setSocket(stream, Buffer.alloc(0), { maxPayload: 0, skipUTF8Validation: false, allowSynchronousEvents: true });
  return { socket, session };
}

for (const [upstream, start, cluster] of [
  ['HTTP/1.1', startWebSocketServer, {}],
  ['HTTP/2', startHttp2WebSocketServer, HTTP2_CLUSTER],
] as const) {
  test(`WebSocket messages come back as they were when the client speaks HTTP/1.1 and the upstream ${upstream}`, async (t) => {
    const proxy = await startTestProxy(t, resources(await start(t), cluster));
    const socket = await openHttp1(t, proxy.port());
    await echoes(socket);
    socket.close();
    await new Promise((resolve) => socket.once('close', resolve));
    assert.deepEqual(proxy.errors, []);
  });

  test(`WebSocket messages come back as they were when the client speaks HTTP/2 and the upstream ${upstream}`, async (t) => {
    const proxy = await startTestProxy(t, resources(await start(t), cluster));
    const { socket } = await openHttp2(t, proxy.port());
    await echoes(socket);
    assert.deepEqual(proxy.errors, []);
  });
}

test('an upgrade passes where the route allows it and is answered 403 where it does not', async (t) => {
  const upstream = await startWebSocketServer(t);
  const proxy = await startTestProxy(
    t,
    resources(upstream, {}, [], { upgrade_configs: [{ upgrade_type: 'websocket' }] }),
  );
  await echoes(await openHttp1(t, proxy.port()));
  const refusing = await startTestProxy(
    t,
    resources(upstream, {}, [{ upgrade_type: 'websocket' }], {
      upgrade_configs: [{ upgrade_type: 'websocket', enabled: false }],
    }),
  );
  const answer = await new RawClient(t, refusing.port())
    .send('GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n')
    .toEnd();
  assert.match(answer, /^HTTP\/1.1 403 /);
  assert.equal(refusing.value('http.test.downstream_rq_ws_on_non_ws_route'), 1);
});

test('a WebSocket outlives its route’s timeout, a reload and the beginning of a drain', async (t) => {
  const upstream = await startWebSocketServer(t);
  const proxy = await startTestProxy(t, resources(upstream, {}, undefined, { timeout: '1s' }));
  const socket = await openHttp1(t, proxy.port());
  await new Promise((resolve) => setTimeout(resolve, 1200));
  await echoes(socket);
  const settled = proxy.settled();
  proxy.set(resources(upstream, { connect_timeout: '3s' }, undefined, { timeout: '1.5s' }));
  await settled;
  await echoes(socket);
  const stopped = proxy.stop();
  await echoes(socket);
  await stopped;
});

test('bytes that are sent before the 101 reach the upstream only after it, and nobody else', async (t) => {
  let release = (): void => {};
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const upstream = await RawUpstream.start(t, (received, socket) => {
    if (received.endsWith('\r\n\r\n')) {
      void released.then(() =>
        socket.write('HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello'),
      );
    }
  });
  const proxy = await startTestProxy(t, resources(upstream.port));
  const client = new RawClient(t, proxy.port()).send(
    'GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nEARLY',
  );
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(!upstream.all.includes('EARLY'));
  release();
  await client.until((received) => received.endsWith('hello'));
  await eventually('it reaches the upstream', () => upstream.all.endsWith('\r\n\r\nEARLY'));
  assert.equal(upstream.received.length, 1);
});

/** Everything up to the peer's end. */
async function textToEnd(socket: Duplex): Promise<string> {
  let text = '';
  socket.on('data', (bytes: Buffer) => {
    text += bytes.toString();
  });
  await once(socket, 'end');
  return text;
}

/** A route for CONNECT that ends it here. */
function connectResources(port: number): Resource[] {
  return [
    httpListener({
      routes: routeConfig([
        {
          match: { connect_matcher: {} },
          route: { cluster: 'upstream', upgrade_configs: [{ upgrade_type: 'CONNECT', connect_config: {} }] },
        },
      ]),
      manager: { http2_protocol_options: { allow_connect: true } },
    }),
    staticCluster('upstream', [port]),
  ];
}

async function startTcpEcho(t: Scope): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    t.after(() => socket.destroy());
    socket.pipe(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

test('a CONNECT tunnel carries bytes both ways when its client speaks HTTP/1.1', async (t) => {
  const proxy = await startTestProxy(t, connectResources(await startTcpEcho(t)));
  const socket = connectTcp(proxy.port(), '127.0.0.1');
  t.after(() => socket.destroy());
  socket.write('CONNECT db.example:5432 HTTP/1.1\r\nhost: db.example:5432\r\n\r\n');
  const [head] = (await once(socket, 'data')) as [Buffer];
  assert.match(head.toString(), /^HTTP\/1\.1 200 OK\r\n(?!.*(content-length|transfer-encoding))/s);
  const sent = Buffer.alloc(500_000, 'z');
  socket.write(sent);
  let got = 0;
  for await (const chunk of socket) {
    got += (chunk as Buffer).length;
    if (got === sent.length) break;
  }
  assert.equal(got, sent.length);
  await proxy.counted();
  assert.equal(proxy.value('cluster.upstream.upstream_cx_total'), 1);
});

test('a CONNECT tunnel carries bytes both ways when its client speaks HTTP/2', async (t) => {
  const proxy = await startTestProxy(t, connectResources(await startTcpEcho(t)));
  const session = http2.connect(`http://127.0.0.1:${proxy.port()}`);
  t.after(() => session.destroy());
  const stream = session.request({ ':method': 'CONNECT', ':authority': 'db.example:5432' }, { endStream: false });
  const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders & { ':status': number }];
  assert.equal(headers[':status'], 200);
  const sent = Buffer.alloc(500_000, 'z');
  stream.write(sent);
  let got = 0;
  for await (const chunk of stream) {
    got += (chunk as Buffer).length;
    if (got === sent.length) break;
  }
  assert.equal(got, sent.length);
});

test('a CONNECT tunnel whose client has ended still brings what the host says, up to its end', async (t) => {
  const host = await ByteServer.start(t);
  const proxy = await startTestProxy(t, connectResources(host.port));
  const client = await byteClient(t, proxy.port());
  client.write('CONNECT db.example:5432 HTTP/1.1\r\nhost: db.example:5432\r\n\r\n');
  await once(client, 'data');
  client.end('question');
  const socket = await host.next();
  // The end comes as an end, behind all bytes.
  assert.equal(await textToEnd(socket), 'question');
  socket.write('answer');
  const [answer] = (await once(client, 'data')) as [Buffer];
  assert.equal(answer.toString(), 'answer');
  await proxy.counted();
  assert.equal(proxy.value('cluster.upstream.upstream_cx_active'), 1);
  socket.end();
  assert.equal(await ending(client), 'end');
  await eventually('nothing is open', async () => {
    await proxy.counted();
    return proxy.value('cluster.upstream.upstream_cx_active') + proxy.value('http.test.downstream_cx_active') === 0;
  });
});

test('a CONNECT tunnel ends when its host has ended, as RFC 9110 9.3.6 says', async (t) => {
  const host = await ByteServer.start(t);
  const proxy = await startTestProxy(t, connectResources(host.port));
  const client = await byteClient(t, proxy.port());
  client.write('CONNECT db.example:5432 HTTP/1.1\r\nhost: db.example:5432\r\n\r\n');
  await once(client, 'data');
  const socket = await host.next();
  socket.end('bye');
  assert.equal(await textToEnd(client), 'bye');
  assert.equal(await ending(socket), 'end');
});

test('the end of a tunnel over HTTP/2 reaches a host that was asked in HTTP/1.1', async (t) => {
  const host = await ByteServer.start(t, (socket) => {
    socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\n\r\n'));
  });
  const route = { cluster: 'upstream', upgrade_configs: [{ upgrade_type: 'CONNECT' }] };
  const proxy = await startTestProxy(t, [
    httpListener({
      routes: routeConfig([{ match: { connect_matcher: {} }, route }]),
      manager: { http2_protocol_options: { allow_connect: true } },
    }),
    staticCluster('upstream', [host.port]),
  ]);
  const session = http2.connect(`http://127.0.0.1:${proxy.port()}`);
  t.after(() => session.destroy());
  const stream = session.request({ ':method': 'CONNECT', ':authority': 'db.example:5432' }, { endStream: false });
  await once(stream, 'response');
  stream.end('question');
  const socket = await host.next();
  assert.ok((await textToEnd(socket)).endsWith('question'));
  socket.end('answer');
  let answer = '';
  for await (const chunk of stream) answer += String(chunk);
  assert.equal(answer, 'answer');
});

test('CONNECT is answered 404 where no route takes it, and 503 where nobody listens', async (t) => {
  const proxy = await startTestProxy(t, resources(1));
  const request = 'CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n';
  assert.match(await new RawClient(t, proxy.port()).send(request).toEnd(), /^HTTP\/1.1 404 /);
  const dead = await startTestProxy(t, connectResources(1));
  assert.match(await new RawClient(t, dead.port()).send(request).toEnd(), /^HTTP\/1.1 503 /);
});

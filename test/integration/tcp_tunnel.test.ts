/** TCP connections inside CONNECT and POST requests, over HTTP/1.1 and HTTP/2, and inside TLS. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttp1, type IncomingMessage } from 'node:http';
import { createServer as createHttp2, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { test } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { staticCluster } from '../support/envoy_resources.ts';
import { LogFile, startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { byteClient, ending, readBytes, tcpListener } from '../support/tcp_resources.ts';

interface Asked {
  readonly request: string;
  /** Of CONNECT: both directions. */
  readonly stream: Duplex | undefined;
}

/** A proxy of CONNECT or POST that lets the test play what is behind it. */
async function http1Peer(t: Scope, status = 200): Promise<{ port: number; next: Promise<Asked> }> {
  const next = Promise.withResolvers<Asked>();
  const describe = ({ method, url, headers }: IncomingMessage): string =>
    `${method} ${url} ${headers['x-tunnel'] ?? '-'}`;
  const server = createHttp1((request, response) => {
    response.writeHead(status).flushHeaders();
    // Both halves of a POST as one stream.
    request.on('data', (bytes: Buffer) => response.write(`echo ${bytes}`));
    request.on('end', () => response.end());
    next.resolve({ request: describe(request), stream: undefined });
  });
  server.on('connect', (request: IncomingMessage, socket: Duplex) => {
    socket.on('error', () => {});
    socket.write(`HTTP/1.1 ${status} X\r\n\r\n`);
    next.resolve({ request: describe(request), stream: socket });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.closeAllConnections());
  t.after(() => server.close());
  return { port: (server.address() as AddressInfo).port, next: next.promise };
}

async function http2Peer(t: Scope): Promise<{ port: number; next: Promise<Asked> }> {
  const next = Promise.withResolvers<Asked>();
  const server = createHttp2();
  server.on('stream', (stream: ServerHttp2Stream, headers) => {
    stream.on('error', () => {});
    stream.respond({ ':status': 200 });
    next.resolve({ request: `${headers[':method']} ${headers[':authority']} ${headers['x-tunnel'] ?? '-'}`, stream });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return { port: (server.address() as AddressInfo).port, next: next.promise };
}

const HTTP2: Json = {
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
};

const header = { header: { key: 'x-tunnel', value: '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%' } };

async function tunnelled(
  t: Scope,
  port: number,
  tunnel: Json,
  cluster: Json = {},
): Promise<{ proxy: TestProxy; log: LogFile }> {
  const log = new LogFile(t);
  const proxy = await startTestProxy(t, [
    tcpListener('up', {
      proxy: {
        tunneling_config: { hostname: 'db.example.com:5432', headers_to_add: [header], ...tunnel },
        access_log: [log.config('%RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT%\n')],
      },
    }),
    staticCluster('up', [port], cluster),
  ]);
  return { proxy, log };
}

async function readText(stream: Duplex, length: number): Promise<string> {
  let text = '';
  while (text.length < length) {
    const piece = stream.read() as Buffer | null;
    if (piece === null) await once(stream, 'readable');
    else text += piece.toString();
  }
  return text;
}

for (const [protocol, start, cluster] of [
  ['HTTP/1.1', http1Peer, {}],
  ['HTTP/2', http2Peer, HTTP2],
] as const) {
  test(`a TCP connection travels inside a CONNECT over ${protocol}, ends and all`, async (t) => {
    const peer = await start(t);
    const { proxy, log } = await tunnelled(t, peer.port, {}, cluster);
    const client = await byteClient(t, proxy.port());
    client.write('early');
    const { request, stream } = await peer.next;
    assert.equal(request, 'CONNECT db.example.com:5432 127.0.0.1');
    assert.ok(stream);
    assert.equal(await readText(stream, 5), 'early');
    stream.write('answer');
    assert.equal((await readBytes(client, 6)).toString(), 'answer');
    const big = Buffer.alloc(1_000_000, 'x');
    client.write(big);
    assert.equal((await readText(stream, big.length)).length, big.length);
    stream.end();
    assert.equal(await ending(client), 'end');
    client.end();
    assert.deepEqual(await log.lines(1), ['- 1000005 6']);
  });
}

test('a TCP connection travels inside a POST when it shall', async (t) => {
  const peer = await http1Peer(t);
  const { proxy } = await tunnelled(t, peer.port, { use_post: true, post_path: '/tunnel' });
  const client = await byteClient(t, proxy.port());
  client.write('ping');
  assert.equal((await peer.next).request, 'POST /tunnel 127.0.0.1');
  assert.equal((await readBytes(client, 9)).toString(), 'echo ping');
  client.end();
  assert.equal(await ending(client), 'end');
});

test('a TCP connection is closed with UF when the tunnel is refused', async (t) => {
  const peer = await http1Peer(t, 403);
  const { proxy, log } = await tunnelled(t, peer.port, {});
  assert.equal(await ending(await byteClient(t, proxy.port())), 'end');
  assert.match((await log.lines(1))[0] as string, /^UF,URX /);
});

test('a tunnel is given up when its client resets', async (t) => {
  const peer = await http1Peer(t);
  const { proxy, log } = await tunnelled(t, peer.port, {});
  const client = await byteClient(t, proxy.port());
  client.write('x');
  const { stream } = await peer.next;
  assert.ok(stream);
  await readText(stream, 1);
  const closed = new Promise((resolve) => stream.once('close', resolve));
  client.resetAndDestroy();
  await closed;
  assert.match((await log.lines(1))[0] as string, /^DR 1 0/);
});

/** TCP with TLS on either side: bytes, ends and resets are handed on as they are without it. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { connect, createServer, type TLSSocket } from 'node:tls';
import type { Json } from '../../config/resources.ts';
import { staticCluster } from '../support/envoy_resources.ts';
import { downstreamTls, MeshCa, upstreamTls } from '../support/mesh_ca.ts';
import { LogFile, startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { ByteServer, byteClient, ending, readBytes, tcpListener, tcpProxy } from '../support/tcp_resources.ts';

const ca = new MeshCa();
const SERVER = 'spiffe://cluster.local/ns/shop/sa/db';
const CLIENT = 'spiffe://cluster.local/ns/shop/sa/web';
const server = ca.issue(SERVER);
const client = ca.issue(CLIENT);
const terminating: Json = downstreamTls({
  own: server,
  roots: ca.pem,
  prefix: 'spiffe://cluster.local/',
  alpn: ['istio-peer-exchange'],
});

/** Half-open, with the mesh's certificate. */
async function tlsClient(t: Scope, port: number, servername = 'db.example.com'): Promise<TLSSocket> {
  const socket = connect({
    socket: await byteClient(t, port),
    servername,
    ca: ca.pem,
    cert: client.chain,
    key: client.key,
    checkServerIdentity: () => undefined,
  });
  socket.on('error', () => {});
  t.after(() => socket.destroy());
  await once(socket, 'secureConnect');
  return socket;
}

async function tlsServer(t: Scope): Promise<{ port: number; next: Promise<TLSSocket> }> {
  const next = Promise.withResolvers<TLSSocket>();
  const listening = createServer(
    {
      cert: server.chain,
      key: server.key,
      ca: ca.pem,
      requestCert: true,
      rejectUnauthorized: true,
      allowHalfOpen: true,
    },
    (socket) => {
      socket.on('error', () => {});
      t.after(() => socket.destroy());
      next.resolve(socket);
    },
  );
  listening.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  t.after(() => listening.close());
  return { port: (listening.address() as AddressInfo).port, next: next.promise };
}

const chain = (more: Json): Json => ({ filters: [tcpProxy({ cluster: 'up' })], ...more });

test('a chain ends TLS and hands on plain bytes; another leaves TLS alone', async (t) => {
  const plain = await ByteServer.start(t);
  const through = await tlsServer(t);
  const proxy = await startTestProxy(t, [
    tcpListener('', {
      filter_chains: [
        chain({ filter_chain_match: { server_names: ['db.example.com'] }, transport_socket: terminating }),
        { filter_chain_match: { server_names: ['*.example.com'] }, filters: [tcpProxy({ cluster: 'through' })] },
      ],
    }),
    staticCluster('up', [plain.port]),
    staticCluster('through', [through.port]),
  ]);
  const ended = await tlsClient(t, proxy.port());
  ended.write('question');
  const upstream = await plain.next();
  assert.equal((await readBytes(upstream, 8)).toString(), 'question');
  upstream.write('answer');
  assert.equal((await readBytes(ended, 6)).toString(), 'answer');
  const passed = await tlsClient(t, proxy.port(), 'other.example.com');
  passed.write('secret');
  const behind = await through.next;
  assert.equal((await readBytes(behind, 6)).toString(), 'secret');
  assert.match(behind.getPeerCertificate().subjectaltname ?? '', /sa\/web/);
});

test('a chain that ends TLS hands on the end of one side and keeps the other open', async (t) => {
  const plain = await ByteServer.start(t);
  const proxy = await startTestProxy(t, [
    tcpListener('', { filter_chains: [chain({ transport_socket: terminating })] }),
    staticCluster('up', [plain.port]),
  ]);
  const socket = await tlsClient(t, proxy.port());
  socket.end('all');
  const upstream = await plain.next();
  assert.equal((await readBytes(upstream, 3)).toString(), 'all');
  assert.equal(await ending(upstream), 'end');
  upstream.end('and the answer');
  assert.equal((await readBytes(socket, 14)).toString(), 'and the answer');
  assert.equal(await ending(socket), 'end');
});

test('a cluster with TLS is spoken to with TLS, and proves who it is', async (t) => {
  const behind = await tlsServer(t);
  const log = new LogFile(t);
  const proxy = await startTestProxy(t, [
    tcpListener('up', { proxy: { access_log: [log.config('%BYTES_RECEIVED% %BYTES_SENT% %RESPONSE_FLAGS%\n')] } }),
    staticCluster('up', [behind.port], {
      transport_socket: upstreamTls({ own: client, roots: ca.pem, uris: [SERVER] }),
    }),
  ]);
  const socket = await byteClient(t, proxy.port());
  socket.write('hello');
  const upstream = await behind.next;
  assert.match(upstream.getPeerCertificate().subjectaltname ?? '', /sa\/web/);
  assert.equal((await readBytes(upstream, 5)).toString(), 'hello');
  const size = 5_000_000;
  const bytes = Buffer.alloc(size);
  for (let i = 0; i < size; i += 4) bytes.writeUInt32LE(i, i);
  const hash = (data: Buffer): string => createHash('sha256').update(data).digest('hex');
  const [up, down] = await Promise.all([
    readBytes(upstream, size),
    readBytes(socket, size),
    Promise.resolve().then(() => {
      socket.write(bytes);
      upstream.write(bytes);
    }),
  ]);
  assert.equal(hash(up), hash(bytes));
  assert.equal(hash(down), hash(bytes));
  socket.end();
  assert.equal(await ending(upstream), 'end');
  upstream.end();
  assert.equal(await ending(socket), 'end');
  assert.deepEqual(await log.lines(1), ['5000005 5000000 -']);
});

test('a cluster whose server is somebody else is never sent a byte', async (t) => {
  const behind = await tlsServer(t);
  const log = new LogFile(t);
  const proxy = await startTestProxy(t, [
    tcpListener('up', {
      proxy: { access_log: [log.config('%RESPONSE_FLAGS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%"\n')] },
    }),
    staticCluster('up', [behind.port], {
      transport_socket: upstreamTls({ own: client, roots: ca.pem, uris: ['spiffe://cluster.local/ns/x/sa/y'] }),
    }),
  ]);
  const socket = await byteClient(t, proxy.port());
  const ended = ending(socket);
  socket.write('secret');
  assert.match(await ended, /end|ECONNRESET/);
  assert.match((await log.lines(1))[0] as string, /^UF,URX ".+"$/);
});

test('a reset of the client reaches a TLS server as more than an orderly end', async (t) => {
  const behind = await tlsServer(t);
  const proxy = await startTestProxy(t, [
    tcpListener('up'),
    staticCluster('up', [behind.port], {
      transport_socket: upstreamTls({ own: client, roots: ca.pem, uris: [SERVER] }),
    }),
  ]);
  const socket = await byteClient(t, proxy.port());
  socket.write('x');
  const upstream = await behind.next;
  await readBytes(upstream, 1);
  const ended = ending(upstream);
  socket.resetAndDestroy();
  assert.equal(await ended, 'ECONNRESET');
});

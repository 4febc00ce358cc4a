/**
 * A replica as a process of its own, which can be killed as one: a real server (node:http, node:http2, @grpc/grpc-js, or an
 * echo of bytes) behind a socket that misbehaves on command. Started by fault_process.ts; what it served stands in a file.
 */
import grpc from '@grpc/grpc-js';
import { once } from 'node:events';
import { writeSync } from 'node:fs';
import { createServer as createHttp1, type IncomingMessage, type ServerResponse } from 'node:http';
import { createServer as createHttp2, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { createServer as createTls, type TLSSocket } from 'node:tls';
import { FAULT_SERVICE } from './fault_service.ts';
import type { FaultOrder, FaultProtocol, FaultSetup, WireMisdeed } from './fault_process.ts';

const SLOW_MS = 60;
/** Each third piece of what comes. */
const RESET_EVERY = 3;
/** An HTTP/2 PING frame of zeros. */
const PING = Buffer.from([0, 0, 8, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
const NOISE: Readonly<Record<FaultProtocol, Buffer>> = {
  http1: Buffer.from('what is this?\r\n\r\n'),
  http2: Buffer.alloc(64, 0xee),
  grpc: Buffer.alloc(64, 0xee),
  tcp: Buffer.from('noise'),
};
const FLOOD: Readonly<Record<FaultProtocol, Buffer>> = {
  http1: Buffer.from('HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison'.repeat(500)),
  http2: Buffer.concat(Array.from({ length: 20_000 }, () => PING)),
  grpc: Buffer.concat(Array.from({ length: 20_000 }, () => PING)),
  tcp: Buffer.alloc(1_000_000, 'f'),
};

const setup = JSON.parse(process.argv[2] ?? '') as FaultSetup;
let misdeed: WireMisdeed = 'fine';
let turn = 0;
/** Connections whose bytes were swallowed: good for nothing. */
const spoilt = new Set<Socket>();

/** Written before the answer: it stays when this process is killed. */
function note(id: string): void {
  writeSync(3, `${id}\n`);
}

/** With half503 every other answer is one. */
function failsThis(): boolean {
  return misdeed === 'half503' && turn++ % 2 === 0;
}

function answer(incoming: IncomingMessage | Http2ServerRequest, response: ServerResponse | Http2ServerResponse): void {
  const reply = response as ServerResponse;
  note(String(incoming.headers['x-id']));
  incoming.resume();
  incoming.on('error', () => {});
  reply.on('error', () => {});
  if (failsThis()) reply.statusCode = 503;
  reply.end('ok');
}

/** @returns its port. */
async function startInner(protocol: FaultProtocol): Promise<number> {
  if (protocol === 'grpc') {
    const server = new grpc.Server();
    const unary = (call: grpc.ServerUnaryCall<Buffer, Buffer>, reply: grpc.sendUnaryData<Buffer>): void => {
      note(call.request.toString());
      if (failsThis()) reply({ code: grpc.status.UNAVAILABLE, details: 'half of all' });
      else reply(null, Buffer.from('ok'));
    };
    server.addService(FAULT_SERVICE, { Again: unary, Once: unary });
    return new Promise((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) =>
        error === null ? resolve(port) : reject(error),
      );
    });
  }
  const server: Server =
    protocol === 'http1' ? createHttp1(answer) : protocol === 'http2' ? createHttp2(answer) : createServer(echo);
  server.on('clientError', () => {}).on('sessionError', () => {});
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

function echo(socket: Socket): void {
  socket.on('error', () => {});
  socket.pipe(socket);
}

/** `client` is TLS over `raw`, or the same. */
function serve(client: Socket, raw: Socket, port: number): void {
  const inner = connect({ port, host: '127.0.0.1', noDelay: true, allowHalfOpen: true });
  client.setNoDelay(true);
  for (const socket of [client, inner]) socket.on('error', () => {});
  const spoil = (): void => void spoilt.add(raw);
  client.on('data', (bytes: Buffer) => {
    if (spoilt.has(raw)) return;
    switch (misdeed) {
      case 'reset':
        if (turn++ % RESET_EVERY !== 0) break;
        raw.resetAndDestroy();
        return;
      case 'stall':
        return spoil();
      case 'halfClose':
        spoil();
        return void client.end();
      case 'corrupt':
        spoil();
        return void client.write(NOISE[setup.protocol]);
      case 'flood':
      case 'slow':
      case 'half503':
      case 'fine':
        break;
      default:
        misdeed satisfies never;
    }
    inner.write(bytes);
  });
  inner.on('data', (bytes: Buffer) => {
    if (misdeed === 'slow') setTimeout(() => client.write(bytes), SLOW_MS);
    // In one piece with the answer: nothing that is asked later can be meant.
    else if (misdeed === 'flood') client.write(Buffer.concat([bytes, FLOOD[setup.protocol]]));
    else client.write(bytes);
  });
  client.on('end', () => inner.end());
  inner.on('end', () => client.end());
  client.on('close', () => {
    spoilt.delete(raw);
    inner.destroy();
  });
  inner.on('close', () => client.destroy());
}

const inner = await startInner(setup.protocol);
const outer =
  setup.tls === undefined
    ? createServer({ allowHalfOpen: true }, (socket) => serve(socket, socket, inner))
    : createTls({
        ...setup.tls,
        requestCert: true,
        allowHalfOpen: true,
        ALPNProtocols: setup.protocol === 'tcp' ? [] : [setup.protocol === 'http1' ? 'http/1.1' : 'h2'],
      });
outer.on('secureConnection', (socket: TLSSocket & { readonly _parent?: Socket }) =>
  serve(socket, socket._parent ?? socket, inner),
);
outer.on('tlsClientError', () => {});
outer.listen(setup.port, '127.0.0.1');
await once(outer, 'listening');
process.on('message', (order: FaultOrder) => {
  misdeed = order.misdeed;
  turn = 0;
  for (const socket of spoilt) socket.destroy();
  spoilt.clear();
  process.send?.({ done: order.number });
});
process.on('disconnect', () => process.exit(0));
process.send?.({ port: (outer.address() as AddressInfo).port });

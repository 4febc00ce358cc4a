/** gRPC clients and servers of @grpc/grpc-js for tests: one service with a method of each kind, messages are bytes. */
import grpc from '@grpc/grpc-js';
import type { Scope } from './scope.ts';

const bytes = {
  serialize: (value: Buffer): Buffer => value,
  deserialize: (value: Buffer): Buffer => value,
};

function method(name: string, requestStream: boolean, responseStream: boolean): grpc.MethodDefinition<Buffer, Buffer> {
  return {
    path: `/test.Echo/${name}`,
    requestStream,
    responseStream,
    requestSerialize: bytes.serialize,
    requestDeserialize: bytes.deserialize,
    responseSerialize: bytes.serialize,
    responseDeserialize: bytes.deserialize,
  };
}

const ECHO: grpc.ServiceDefinition = {
  Unary: method('Unary', false, false),
  Upload: method('Upload', true, false),
  Download: method('Download', false, true),
  Chat: method('Chat', true, true),
};

export interface EchoServer {
  readonly port: number;
  /** Calls that the client or a proxy cancelled. */
  readonly cancelled: string[];
}

/**
 * Unary answers its request, or status 5 when it is `fail` (with trailers), and never when it is `sleep`. Upload answers
 * all of it, Download its request ten times, Chat every message; its `bye` ends it from the server's side.
 */
export async function startEchoServer(t: Scope): Promise<EchoServer> {
  const cancelled: string[] = [];
  const server = new grpc.Server();
  server.addService(ECHO, {
    Unary(call: grpc.ServerUnaryCall<Buffer, Buffer>, reply: grpc.sendUnaryData<Buffer>) {
      call.on('cancelled', () => cancelled.push('Unary'));
      const text = call.request.toString();
      if (text === 'sleep') return;
      const trailers = new grpc.Metadata();
      trailers.set('x-end', 'yes');
      if (text === 'fail') reply({ code: grpc.status.NOT_FOUND, details: 'no such thing: ü', metadata: trailers });
      else reply(null, call.request, trailers);
    },
    Upload(call: grpc.ServerReadableStream<Buffer, Buffer>, reply: grpc.sendUnaryData<Buffer>) {
      const parts: Buffer[] = [];
      call.on('data', (part: Buffer) => parts.push(part));
      call.on('end', () => reply(null, Buffer.concat(parts)));
      call.on('error', () => {});
    },
    Download(call: grpc.ServerWritableStream<Buffer, Buffer>) {
      for (let count = 0; count < 10; count++) call.write(call.request);
      call.end();
    },
    Chat(call: grpc.ServerDuplexStream<Buffer, Buffer>) {
      call.on('cancelled', () => cancelled.push('Chat'));
      call.on('error', () => {});
      call.on('data', (message: Buffer) => {
        if (message.toString() === 'bye') call.end();
        else call.write(message);
      });
      call.on('end', () => call.end());
    },
  });
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  t.after(() => server.forceShutdown());
  return { port, cancelled };
}

export interface EchoClient {
  unary(request: Buffer, options?: grpc.CallOptions): Promise<Buffer>;
  upload(parts: readonly Buffer[]): Promise<Buffer>;
  download(request: Buffer): Promise<Buffer[]>;
  chat(): grpc.ClientDuplexStream<Buffer, Buffer>;
  readonly raw: grpc.Client;
}

export function echoClient(t: Scope, port: number): EchoClient {
  const client = new grpc.Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure());
  t.after(() => client.close());
  const { serialize, deserialize } = bytes;
  return {
    raw: client,
    unary: (request, options = {}) =>
      new Promise((resolve, reject) => {
        client.makeUnaryRequest(
          '/test.Echo/Unary',
          serialize,
          deserialize,
          request,
          new grpc.Metadata(),
          options,
          (error, value) => (error === null ? resolve(value as Buffer) : reject(error)),
        );
      }),
    upload: (parts) =>
      new Promise((resolve, reject) => {
        const call = client.makeClientStreamRequest(
          '/test.Echo/Upload',
          serialize,
          deserialize,
          new grpc.Metadata(),
          (error, value) => (error === null ? resolve(value as Buffer) : reject(error)),
        );
        for (const part of parts) call.write(part);
        call.end();
      }),
    download: async (request) => {
      const call = client.makeServerStreamRequest('/test.Echo/Download', serialize, deserialize, request);
      const parts: Buffer[] = [];
      for await (const part of call) parts.push(part as Buffer);
      return parts;
    },
    chat: () => client.makeBidiStreamRequest('/test.Echo/Chat', serialize, deserialize),
  };
}

/** Replicas that misbehave on purpose, and a steady load through a proxy that should not notice. */
import { once } from 'node:events';
import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { createServer as createHttp2Server, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import type { Server, Socket } from 'node:net';
import type { Scope } from './scope.ts';

/**
 * half503: every other answer. reset: each third connection is cut in a request. stall: accepts and never answers.
 * slow: 60 ms an answer. halfClose: ends its side without an answer. garbage: bytes that are not HTTP. cut: the answer
 * stops before its body is there. flood: stray answers behind the right one. closeIdle: kept connections close at once.
 */
export type Misdeed = 'fine' | 'half503' | 'reset' | 'stall' | 'slow' | 'halfClose' | 'garbage' | 'flood' | 'closeIdle';

const POISON = 'HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison';

export class Replica {
  misdeed: Misdeed = 'fine';
  /** Requests that came, by `x-id`, with their method. */
  readonly seen = new Map<string, { method: string; times: number }>();
  requests = 0;
  #server: Server | undefined = undefined;
  readonly #sockets = new Set<Socket>();
  port = 0;
  #turn = 0;
  #over = false;

  readonly #http2: boolean;

  private constructor(http2: boolean) {
    this.#http2 = http2;
  }

  static async start(scope: Scope, protocol: 'http1' | 'http2' = 'http1'): Promise<Replica> {
    const replica = new Replica(protocol === 'http2');
    await replica.restart();
    scope.after(() => {
      replica.#over = true;
      replica.kill();
    });
    return replica;
  }

  /** As a process that dies: its connections are reset, nobody listens. */
  kill(): void {
    this.#server?.close();
    this.#server = undefined;
    for (const socket of this.#sockets) socket.resetAndDestroy();
    this.#sockets.clear();
  }

  /** On the same port. */
  async restart(): Promise<void> {
    if (this.#over) return;
    const server: Server = this.#http2
      ? createHttp2Server((incoming, response) => this.#answer2(incoming, response))
      : createServer({ keepAliveTimeout: 5000 }, (incoming, response) => this.#answer(incoming, response));
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => {});
      socket.once('close', () => this.#sockets.delete(socket));
    });
    server.on('clientError', () => {}).on('sessionError', () => {});
    server.listen(this.port, '127.0.0.1');
    await once(server, 'listening');
    this.port = (server.address() as { port: number }).port;
    this.#server = server;
  }

  #note(incoming: { readonly headers: IncomingMessage['headers']; readonly method?: string | undefined }): number {
    this.requests++;
    const id = String(incoming.headers['x-id']);
    const known = this.seen.get(id);
    if (known === undefined) this.seen.set(id, { method: incoming.method ?? '', times: 1 });
    else known.times++;
    return this.#turn++;
  }

  /** HTTP/2: what is about bytes becomes a reset of the stream, or of all. */
  #answer2(incoming: Http2ServerRequest, response: Http2ServerResponse): void {
    const turn = this.#note(incoming);
    incoming.resume();
    const { stream } = incoming;
    stream.on('error', () => {});
    switch (this.misdeed) {
      case 'half503':
        if (turn % 2 === 0) response.statusCode = 503;
        break;
      case 'reset':
        if (turn % 3 === 0) return stream.close(2);
        break;
      case 'stall':
        return;
      case 'slow':
        return void setTimeout(() => response.end('ok'), 60);
      case 'closeIdle':
        // GOAWAY after this answer.
        response.end('ok', () => stream.session?.close());
        return;
      case 'halfClose':
      case 'garbage':
      case 'flood':
        return void stream.session?.destroy();
      case 'fine':
        break;
      default:
        this.misdeed satisfies never;
    }
    response.end('ok');
  }

  #answer(incoming: IncomingMessage, response: ServerResponse): void {
    const turn = this.#note(incoming);
    incoming.resume();
    const { socket } = incoming;
    switch (this.misdeed) {
      case 'half503':
        if (turn % 2 === 0) response.statusCode = 503;
        break;
      case 'reset':
        if (turn % 3 === 0) return void socket.resetAndDestroy();
        break;
      case 'stall':
        return;
      case 'slow':
        return void setTimeout(() => response.end('ok'), 60);
      case 'halfClose':
        return void socket.end();
      case 'garbage':
        return void socket.write('what is this?\r\n\r\n');
      case 'flood':
        // In one piece with the answer: nothing that is asked later can be meant.
        socket.write(`HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok${POISON.repeat(50)}`);
        return;
      case 'closeIdle':
        response.end('ok', () => setImmediate(() => socket.end()));
        return;
      case 'fine':
        break;
      default:
        this.misdeed satisfies never;
    }
    response.end('ok');
  }
}

export interface LoadReport {
  readonly asked: number;
  /** Answers that were not `200 ok`, or errors, with their number. */
  readonly failed: ReadonlyMap<string, number>;
  readonly tookMs: number;
}

export interface LoadOptions {
  readonly port: number;
  readonly requests: number;
  /** At the same time. */
  readonly concurrency: number;
  readonly methods?: readonly string[];
  /** At least this many ms are filled with requests, whatever their number. */
  readonly leastMs?: number;
}

/** Requests with small bodies on kept-alive connections. */
export async function load({
  port,
  requests,
  concurrency,
  methods = ['GET', 'PUT'],
  leastMs = 0,
}: LoadOptions): Promise<LoadReport> {
  const agent = new Agent({ keepAlive: true, maxSockets: concurrency });
  const failed = new Map<string, number>();
  const startMs = performance.now();
  let next = 0;
  const client = async (): Promise<void> => {
    while (next < requests || performance.now() - startMs < leastMs) {
      const id = next++;
      const method = methods[id % methods.length] as string;
      const answer = await ask(agent, port, method, String(id));
      if (answer !== '200 ok') failed.set(`${method} ${answer}`, (failed.get(`${method} ${answer}`) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, client));
  agent.destroy();
  return { asked: next, failed, tookMs: performance.now() - startMs };
}

function ask(agent: Agent, port: number, method: string, id: string): Promise<string> {
  return new Promise((resolve) => {
    const body = method === 'GET' ? undefined : `body of ${id}`;
    const sent = request(
      {
        agent,
        host: '127.0.0.1',
        port,
        method,
        path: '/',
        headers: { 'x-id': id, ...(body !== undefined && { 'content-length': body.length }) },
      },
      (response) => {
        let text = '';
        response.setEncoding('latin1').on('data', (piece: string) => {
          text += piece;
        });
        response.on('end', () => resolve(`${response.statusCode} ${text}`));
        response.on('error', (error) => resolve(error.message));
      },
    );
    sent.on('error', (error) => resolve(error.message));
    sent.end(body);
  });
}

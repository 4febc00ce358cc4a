/** An HTTP/1.1 upstream that misbehaves as the path says, and counts what it got by path. */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Scope } from './scope.ts';

/** Beside these, `held` answers when the test releases it. What a path's segments behind `/do/` say, one after the other for one request after the other; the last one stays. */
type Deed = (request: IncomingMessage, response: ServerResponse, argument: string) => void;

const DEEDS: Readonly<Record<string, Deed>> = {
  /** `ok` */
  ok: (_request, response) => response.end('ok'),
  /** `status:503` */
  status: (_request, response, status) => response.writeHead(Number(status)).end(`says ${status}`),
  /** Headers of a status 200: `header:x-name=value` */
  header: (_request, response, text) => {
    const [name, value] = text.split('=') as [string, string];
    response.writeHead(200, { [name]: decodeURIComponent(value) }).end('with a header');
  },
  /** Status and header: `answer:503,retry-after=1` */
  answer: (_request, response, text) => {
    const [status, header] = text.split(',') as [string, string];
    const [name, value] = header.split('=') as [string, string];
    response.writeHead(Number(status), { [name]: value }).end('an answer');
  },
  /** gRPC, trailers only: `grpc:14` */
  grpc: (_request, response, status) =>
    response.writeHead(200, { 'content-type': 'application/grpc', 'grpc-status': status }).end(),
  /** Closes without a word. */
  reset: (request) => request.socket.resetAndDestroy(),
  close: (request) => request.socket.end(),
  /** Never answers. */
  stall: () => {},
  /** Answers after so many milliseconds: `late:300,200`; with `reset` instead of a status it resets. */
  late: (request, response, text) => {
    const [delayMs, status] = text.split(',') as [string, string];
    setTimeout(() => {
      if (status === 'reset') request.socket.resetAndDestroy();
      else response.writeHead(Number(status)).end(`says ${status} late`);
    }, Number(delayMs));
  },
  /** Sends its head and no more. */
  half: (_request, response) => {
    response.writeHead(200, { 'content-length': '100' });
    response.write('half');
  },
  /** Sends its head and some body, then cuts. */
  cut: (request, response) => {
    response.writeHead(200, { 'content-length': '100' });
    response.write('half', () => request.socket.resetAndDestroy());
  },
  /** Not HTTP. */
  garbage: (request) => request.socket.write('what?\r\n\r\n'),
  /** What it was asked with: `echo:x-name`. */
  echo: (request, response, name) => response.end(String(request.headers[name] ?? '')),
};

export class MisbehavingUpstream {
  readonly #server: Server;
  readonly #seen = new Map<string, string[]>();
  readonly #held: ServerResponse[] = [];

  private constructor() {
    this.#server = createServer((request, response) => this.#answer(request, response));
  }

  static async start(scope: Scope): Promise<MisbehavingUpstream> {
    const upstream = new MisbehavingUpstream();
    upstream.#server.listen(0, '127.0.0.1');
    await once(upstream.#server, 'listening');
    scope.after(() => {
      upstream.#server.close();
      upstream.#server.closeAllConnections();
    });
    return upstream;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  /** Bodies of the requests with that path, in the order of their coming. */
  seen(path: string): readonly string[] {
    return this.#seen.get(path) ?? [];
  }

  /** How many requests wait in `held`. */
  get held(): number {
    return this.#held.length;
  }

  /** Answers those. */
  release(): void {
    for (const response of this.#held.splice(0)) response.end('held');
  }

  /** Closes kept connections, as a server with a short keep-alive time does. */
  closeIdle(): void {
    this.#server.closeIdleConnections();
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const path = request.url ?? '';
    const seen = this.#seen.get(path) ?? [];
    this.#seen.set(path, seen);
    const turn = seen.push('') - 1;
    const steps = path.slice(path.indexOf('/do/') + 4).split('/');
    const [name, argument] = (steps[Math.min(turn, steps.length - 1)] as string).split(/:(.*)/s) as [string, string];
    const deed = name === 'held' ? () => this.#held.push(response) : DEEDS[name];
    if (deed === undefined) throw new Error(`the path asks for "${name}"`);
    // What cuts the request short need not have read it.
    if (name === 'reset' || name === 'close') return deed(request, response, argument);
    let body = '';
    request.setEncoding('latin1').on('data', (text: string) => {
      body += text;
    });
    request.on('end', () => {
      seen[turn] = body;
      deed(request, response, argument);
    });
    request.on('error', () => {});
  }
}

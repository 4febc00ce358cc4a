/** Clients and upstreams on bare sockets: tests see and say every byte. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { Scope } from './scope.ts';

/** Bounds failure only: a machine may stand still for seconds. */
const LONGEST_MS = 30_000;
const LATE = 'still open after 30 s';

/** What the other side sends, collected; bytes as latin1 text. */
export class RawClient {
  readonly socket: Socket;
  received = '';
  closed = false;
  #wake: () => void = () => {};

  constructor(t: Scope, port: number) {
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true });
    this.socket.setEncoding('latin1');
    this.socket.on('data', (text: string) => {
      this.received += text;
      this.#wake();
    });
    this.socket.on('error', () => {});
    this.socket.on('close', () => {
      this.closed = true;
      this.#wake();
    });
    t.after(() => this.socket.destroy());
  }

  send(text: string): this {
    this.socket.write(text, 'latin1');
    return this;
  }

  /** Waits until `ready` says so. @throws when the connection closes before, or after 30 s. */
  async until(ready: (received: string) => boolean): Promise<string> {
    const deadline = setTimeout(() => this.socket.destroy(), LONGEST_MS);
    while (!ready(this.received)) {
      if (this.closed) {
        clearTimeout(deadline);
        throw new Error(`the connection closed; received so far: ${JSON.stringify(this.received)}`);
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    clearTimeout(deadline);
    return this.received;
  }

  /** Everything up to the close. @throws after 30 s. */
  async toEnd(): Promise<string> {
    const deadline = setTimeout(() => this.socket.destroy(new Error(LATE)), LONGEST_MS);
    let late = false;
    this.socket.on('error', (error) => {
      if (error.message === LATE) late = true;
    });
    while (!this.closed) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    clearTimeout(deadline);
    if (late) throw new Error(`the connection is ${LATE}; received: ${JSON.stringify(this.received)}`);
    return this.received;
  }
}

/** One exchange: sends all, reads to the end. */
export function exchange(t: Scope, port: number, text: string): Promise<string> {
  return new RawClient(t, port).send(text).toEnd();
}

/** A connection that an upstream got. */
export interface UpstreamConnection {
  readonly socket: Socket;
  readonly received: () => string;
}

/** An upstream on a bare socket: `answer` is asked after every piece with all that this connection received. */
export class RawUpstream {
  readonly server: Server;
  /** By connection, in the order of their coming. */
  readonly received: string[] = [];
  readonly sockets: Socket[] = [];

  private constructor(server: Server) {
    this.server = server;
  }

  static async start(
    t: Scope,
    answer: (received: string, socket: Socket, connection: number) => void,
  ): Promise<RawUpstream> {
    const upstream = new RawUpstream(createServer());
    upstream.server.on('connection', (socket) => {
      const index = upstream.received.push('') - 1;
      upstream.sockets.push(socket);
      socket.setEncoding('latin1');
      socket.on('error', () => {});
      socket.on('data', (text: string) => {
        upstream.received[index] += text;
        answer(upstream.received[index] as string, socket, index);
      });
    });
    upstream.server.listen(0, '127.0.0.1');
    await once(upstream.server, 'listening');
    t.after(() => {
      for (const socket of upstream.sockets) socket.destroy();
      upstream.server.close();
    });
    return upstream;
  }

  get port(): number {
    return (this.server.address() as { port: number }).port;
  }

  /** All that came, over all connections. */
  get all(): string {
    return this.received.join('');
  }
}

/** An upstream that answers each complete head with 200 and the body `ok`. */
export function answering(body = 'ok'): (received: string, socket: Socket) => void {
  const answered = new WeakMap<Socket, number>();
  return (received, socket) => {
    const heads = received.match(/ HTTP\/1\.1\r\n(?:.+\r\n)*\r\n/g)?.length ?? 0;
    const before = answered.get(socket) ?? 0;
    if (heads <= before) return;
    answered.set(socket, heads);
    for (let i = before; i < heads; i++)
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\n\r\n${body}`);
  };
}

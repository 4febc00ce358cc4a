/** Istio's DNS proxy: UDP and TCP at one address (reference: istio/istio pkg/dns/client). */
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { createServer, isIP, type Server, type Socket } from 'node:net';
import { answerQuestion, failure } from './answers.ts';
import { Forwarder, framed } from './forwarder.ts';
import { NameTable, type NameTableData } from './name_table.ts';
import type { ResolvConf } from './resolv_conf.ts';

const SERVFAIL = 2;
const MAX_TCP_CONNECTIONS = 256;
const TCP_IDLE_MS = 10_000;
const MAX_MESSAGE_BYTES = 65_535;

export interface DnsServerOptions {
  readonly ip: string;
  /** 0: any; the real one is `port`. */
  readonly port: number;
  readonly upstream: ResolvConf;
  readonly timeoutMs: number;
  readonly parallel: boolean;
  random(): number;
}

/** What was counted since the start. Istio's names. */
export interface DnsCounts {
  requests: number;
  upstreamRequests: number;
  failures: number;
}

export class DnsServer {
  readonly counts: DnsCounts = { requests: 0, upstreamRequests: 0, failures: 0 };
  readonly #options: DnsServerOptions;
  readonly #forwarder: Forwarder;
  readonly #udp: UdpSocket;
  readonly #tcp: Server;
  readonly #connections = new Set<Socket>();
  #table: NameTable | undefined = undefined;

  constructor(options: DnsServerOptions) {
    this.#options = options;
    this.#forwarder = new Forwarder({ ...options, servers: options.upstream.servers });
    this.#udp = createSocket(isIP(options.ip) === 6 ? 'udp6' : 'udp4');
    this.#udp.on('message', (message, from) => {
      void this.#answer(message, 'udp').then((answer) => {
        if (answer !== undefined) this.#udp.send(answer, from.port, from.address);
      });
    });
    // A peer that is gone ("port unreachable") is no reason to stop.
    this.#udp.on('error', () => {});
    this.#tcp = createServer((socket) => this.#serve(socket));
    this.#tcp.maxConnections = MAX_TCP_CONNECTIONS;
  }

  /** Both are at the same port. Rejects when it is taken. */
  async listen(): Promise<number> {
    const { ip, port } = this.#options;
    await new Promise<void>((resolve, reject) => {
      this.#tcp.once('error', reject);
      this.#tcp.listen(port, ip, () => {
        this.#tcp.off('error', reject);
        resolve();
      });
    });
    const address = this.#tcp.address();
    const taken = address !== null && typeof address === 'object' ? address.port : port;
    await new Promise<void>((resolve, reject) => {
      this.#udp.once('error', reject);
      this.#udp.bind(taken, ip, () => {
        this.#udp.off('error', reject);
        resolve();
      });
    });
    this.#tcp.on('error', () => {});
    return taken;
  }

  setTable(data: NameTableData): void {
    this.#table = new NameTable(data, this.#options.upstream.search);
  }

  close(): void {
    this.#udp.close();
    this.#tcp.close();
    for (const socket of this.#connections) socket.destroy();
  }

  async #answer(message: Buffer, protocol: 'udp' | 'tcp'): Promise<Buffer | undefined> {
    this.counts.requests++;
    const verdict = answerQuestion(message, this.#table, protocol === 'udp', this.#options.random);
    switch (verdict.kind) {
      case 'answer':
        return verdict.bytes;
      case 'drop':
        return undefined;
      case 'forward': {
        this.counts.upstreamRequests++;
        const answer = await this.#forwarder.forward(Buffer.from(message), protocol);
        if (answer !== undefined) return answer;
        this.counts.failures++;
        return failure(message, SERVFAIL);
      }
      default:
        return verdict satisfies never;
    }
  }

  /** Questions one behind the other on a connection are answered in their order. */
  #serve(socket: Socket): void {
    this.#connections.add(socket);
    socket.setTimeout(TCP_IDLE_MS, () => socket.destroy());
    let received: Buffer = Buffer.alloc(0);
    let last: Promise<void> = Promise.resolve();
    socket.on('data', (bytes: Buffer) => {
      received = received.length === 0 ? bytes : Buffer.concat([received, bytes]);
      while (received.length >= 2) {
        const length = received.readUInt16BE(0);
        if (received.length < length + 2) break;
        const message = Buffer.from(received.subarray(2, length + 2));
        received = received.subarray(length + 2);
        socket.pause();
        last = last
          .then(() => this.#answer(message, 'tcp'))
          .then((answer) => {
            if (answer !== undefined && !socket.destroyed) socket.write(framed(answer));
          });
        void last.then(() => socket.resume());
      }
      if (received.length > MAX_MESSAGE_BYTES + 2) socket.destroy();
    });
    socket.on('error', () => {});
    socket.on('close', () => this.#connections.delete(socket));
  }
}

/** Asks the servers that the workload would have asked: one socket a question, so that answers are hard to guess. */
import { createSocket } from 'node:dgram';
import { connect, isIP } from 'node:net';
import type { ResolvConf } from './resolv_conf.ts';

/** Questions under way; beyond, SERVFAIL. */
const MAX_QUESTIONS = 1024;
const MAX_ANSWER_BYTES = 65_535;

export interface ForwarderOptions {
  readonly servers: ResolvConf['servers'];
  /** For one server. Istio DNS_FORWARD_TIMEOUT, default 5,000. */
  readonly timeoutMs: number;
  /** Asks all servers at once and takes the first answer. Istio DNS_FORWARD_PARALLEL, default false. */
  readonly parallel: boolean;
  random(): number;
}

type Ask = (server: ResolvConf['servers'][number], question: Buffer, signal: AbortSignal) => Promise<Buffer>;

export class Forwarder {
  readonly #options: ForwarderOptions;
  #open = 0;

  constructor(options: ForwarderOptions) {
    this.#options = options;
  }

  /** undefined: nobody answered. */
  async forward(question: Buffer, protocol: 'udp' | 'tcp'): Promise<Buffer | undefined> {
    const { servers, parallel } = this.#options;
    if (this.#open >= MAX_QUESTIONS || servers.length === 0) return undefined;
    this.#open++;
    const ask = protocol === 'udp' ? askUdp : askTcp;
    try {
      const shuffled = shuffle(servers, this.#options.random);
      if (parallel) return await this.#race(shuffled, question, ask);
      for (const server of shuffled) {
        const answer = await this.#one(server, question, ask).catch(() => undefined);
        if (answer !== undefined) return answer;
      }
      return undefined;
    } finally {
      this.#open--;
    }
  }

  #one(server: ResolvConf['servers'][number], question: Buffer, ask: Ask): Promise<Buffer> {
    return ask(server, question, AbortSignal.timeout(this.#options.timeoutMs));
  }

  async #race(servers: ResolvConf['servers'], question: Buffer, ask: Ask): Promise<Buffer | undefined> {
    const won = new AbortController();
    try {
      const timeout = AbortSignal.timeout(this.#options.timeoutMs);
      const signal = AbortSignal.any([won.signal, timeout]);
      return await Promise.any(servers.map((server) => ask(server, question, signal)));
    } catch {
      return undefined;
    } finally {
      won.abort();
    }
  }
}

export function shuffle<T>(items: readonly T[], random: () => number): T[] {
  const out = [...items];
  for (let last = out.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [out[last], out[other]] = [out[other] as T, out[last] as T];
  }
  return out;
}

/** The same id, and the question repeated: anything else is not for us. */
function answers(question: Buffer, answer: Buffer): boolean {
  return (
    answer.length >= 12 && answer.readUInt16BE(0) === question.readUInt16BE(0) && (answer.readUInt8(2) & 0x80) !== 0
  );
}

function askUdp({ ip, port }: ResolvConf['servers'][number], question: Buffer, signal: AbortSignal): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(isIP(ip) === 6 ? 'udp6' : 'udp4');
    let done = false;
    const end = (settle: () => void): void => {
      if (done) return;
      done = true;
      signal.removeEventListener('abort', abort);
      socket.close();
      settle();
    };
    const abort = (): void => end(() => reject(new Error('no answer in time')));
    signal.addEventListener('abort', abort, { once: true });
    socket.on('error', (error) => end(() => reject(error)));
    socket.on('message', (answer) => {
      if (answers(question, answer)) end(() => resolve(answer));
    });
    // Connected: only that server's datagrams are taken, and "port unreachable" is heard of.
    socket.connect(port, ip, () => {
      if (!done) socket.send(question);
    });
  });
}

function askTcp({ ip, port }: ResolvConf['servers'][number], question: Buffer, signal: AbortSignal): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: ip, port });
    let received: Buffer = Buffer.alloc(0);
    const abort = (): void => void socket.destroy(new Error('no answer in time'));
    signal.addEventListener('abort', abort, { once: true });
    socket.on('connect', () => socket.write(framed(question)));
    socket.on('data', (bytes: Buffer) => {
      received = Buffer.concat([received, bytes]);
      if (received.length < 2) return;
      const length = received.readUInt16BE(0);
      if (received.length < length + 2 || length > MAX_ANSWER_BYTES) return;
      const answer = received.subarray(2, length + 2);
      if (answers(question, answer)) resolve(answer);
      socket.destroy();
    });
    socket.on('error', reject);
    socket.on('close', () => {
      signal.removeEventListener('abort', abort);
      reject(new Error('the server closed the connection'));
    });
  });
}

/** Two bytes of length before the message (RFC 1035 §4.2.2). */
export function framed(message: Buffer): Buffer {
  const out = Buffer.allocUnsafe(message.length + 2);
  out.writeUInt16BE(message.length, 0);
  message.copy(out, 2);
  return out;
}

/** A name server over UDP and TCP that answers as it is told, badly too, and notes what it was asked. */
import { createSocket, type RemoteInfo, type Socket as UdpSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import {
  AUTHORITATIVE_ANSWER,
  decode,
  encode,
  type Packet,
  streamDecode,
  streamEncode,
  TRUNCATED_RESPONSE,
} from 'dns-packet';
import type { Scope } from './scope.ts';

/**
 * silent: nothing comes. slow: 300 ms later. overTcp: cut over UDP, whole over TCP. wrongId, wrongName: an answer to a question that nobody asked, to the address `lie`. truncated: an
 * empty answer with TC over UDP, nothing over TCP. empty: NOERROR without a record. garbage: bytes that are no message.
 */
export type DnsMood =
  | 'fine'
  | 'silent'
  | 'slow'
  | 'overTcp'
  | 'servfail'
  | 'nxdomain'
  | 'refused'
  | 'wrongId'
  | 'wrongName'
  | 'truncated'
  | 'empty'
  | 'garbage';

const SLOW_MS = 300;
/** What is told instead of the truth by wrongId and wrongName: nobody listens there. */
const LIE = '127.0.0.99';
/** RFC 1035 §4.1.1; dns-packet has the names only for reading. */
const RCODES: Readonly<Partial<Record<DnsMood, number>>> = { servfail: 2, nxdomain: 3, refused: 5 };

export class LyingDns {
  mood: DnsMood = 'fine';
  /** Of each name, lower-case; every other name has none. */
  readonly addresses = new Map<string, readonly string[]>();
  ttlSeconds = 1;
  /** Names about which nothing is ever said. */
  readonly silentFor = new Set<string>();
  /** Questions for A records, in order. */
  readonly asked: string[] = [];
  readonly #udp: UdpSocket;
  readonly #tcp: Server;
  #isOver = false;

  private constructor(udp: UdpSocket, tcp: Server) {
    this.#udp = udp;
    this.#tcp = tcp;
  }

  static async start(scope: Scope): Promise<LyingDns> {
    for (;;) {
      const dns = new LyingDns(createSocket('udp4'), createServer());
      if (await dns.#listen()) {
        scope.after(() => dns.#close());
        return dns;
      }
      dns.#close();
    }
  }

  /** The same number over both: a cut answer is asked for again over TCP. @returns false: somebody has one of them. */
  async #listen(): Promise<boolean> {
    this.#udp.on('message', (message, from) => this.#overUdp(message, from));
    this.#udp.bind(0, '127.0.0.1');
    await once(this.#udp, 'listening');
    this.#tcp.on('connection', (socket) => {
      socket.on('error', () => {});
      socket.on('data', (bytes: Buffer) => {
        const question = streamDecode(bytes);
        const reply = question && this.mood !== 'truncated' && this.#reply(question, false);
        if (reply) socket.end(streamEncode(decode(reply)));
      });
    });
    this.#tcp.listen(this.port, '127.0.0.1');
    return once(this.#tcp, 'listening').then(
      () => true,
      () => false,
    );
  }

  #close(): void {
    this.#isOver = true;
    this.#udp.close();
    this.#tcp.close();
  }

  get port(): number {
    return this.#udp.address().port;
  }

  #overUdp(message: Buffer, from: RemoteInfo): void {
    const question = decode(message);
    if (question.questions?.[0]?.type === 'A') this.asked.push(question.questions[0].name.toLowerCase());
    const reply = this.#reply(question, true);
    if (reply === undefined) return;
    const send = (): void => {
      if (!this.#isOver) this.#udp.send(reply, from.port, from.address);
    };
    if (this.mood === 'slow') setTimeout(send, SLOW_MS);
    else send();
  }

  #reply(question: Packet, overUdp: boolean): Buffer | undefined {
    const [asked] = question.questions ?? [];
    const name = asked?.name.toLowerCase() ?? '';
    if (this.silentFor.has(name)) return undefined;
    const { mood } = this;
    const cut = mood === 'truncated' || (mood === 'overTcp' && overUdp);
    const lies = mood === 'wrongId' || mood === 'wrongName';
    const known = lies ? [LIE] : (this.addresses.get(name) ?? []);
    const answers = asked?.type === 'A' && mood !== 'empty' && !cut ? known : [];
    const rcode = RCODES[mood] ?? (this.addresses.has(name) || lies ? 0 : 3);
    switch (mood) {
      case 'silent':
        return undefined;
      case 'garbage':
        return Buffer.from('this is no answer');
      default:
        return encode({
          type: 'response',
          id: mood === 'wrongId' ? (question.id ?? 0) ^ 0x5555 : (question.id ?? 0),
          flags: AUTHORITATIVE_ANSWER | (cut ? TRUNCATED_RESPONSE : 0) | rcode,
          questions: mood === 'wrongName' ? [{ type: 'A', name: 'other.example' }] : (question.questions ?? []),
          answers:
            rcode === 0
              ? answers.map((data) => ({
                  type: 'A' as const,
                  name: mood === 'wrongName' ? 'other.example' : name,
                  ttl: this.ttlSeconds,
                  data,
                }))
              : [],
        });
    }
  }
}

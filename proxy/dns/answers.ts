/** Questions answered from the mesh's names; the wire form is dns-packet's. */
import {
  AUTHORITATIVE_ANSWER,
  decode,
  encode,
  type Packet,
  type Question,
  RECURSION_AVAILABLE,
  TRUNCATED_RESPONSE,
} from 'dns-packet';
import ipaddr from 'ipaddr.js';
import { shuffle } from './forwarder.ts';
import type { NameTable } from './name_table.ts';

const TTL_S = 30;
const SERVFAIL = 2;
const FORMERR = 1;
const NOTIMP = 4;
const RECURSION_DESIRED = 0x0100;
const HEADER_BYTES = 12;
const QUESTION_COUNT_AT = 4;
const ANSWER_COUNT_AT = 6;
const MAX_LABEL_BYTES = 63;
const TYPE_AND_CLASS_BYTES = 4;
/** Owner as a pointer, type, class, TTL, length of the data. */
const RECORD_HEADER_BYTES = 12;
const POINTER = 0xc000;
/** The question's name stands right behind the header. */
const QUESTION_POINTER = POINTER | HEADER_BYTES;
const CLASS_IN = 1;
const A = 1;
const CNAME = 5;
const AAAA = 28;
/** Without EDNS (RFC 1035 §4.2.1); what we take at most with it. */
const PLAIN_UDP_BYTES = 512;
const MAX_UDP_BYTES = 4096;

export type Verdict =
  | { readonly kind: 'answer'; readonly bytes: Buffer }
  /** The mesh does not know the name: whoever the workload asked before knows. */
  | { readonly kind: 'forward' }
  /** Not even the id can be read: nothing is answered. */
  | { readonly kind: 'drop' };

/**
 * @param table undefined: there is none yet, everything is SERVFAIL
 * @param limited whether the answer must fit a datagram
 */
export function answerQuestion(
  message: Buffer,
  table: NameTable | undefined,
  limited: boolean,
  random: () => number,
): Verdict {
  if (message.length < HEADER_BYTES) return { kind: 'drop' };
  // An answer is no question: two proxies would send each other's for ever.
  if ((message.readUInt8(2) & 0x80) !== 0) return { kind: 'drop' };
  let packet: Packet;
  try {
    packet = decode(message);
  } catch {
    return { kind: 'answer', bytes: failure(message, FORMERR) };
  }
  if (((packet.flags ?? 0) & 0x7800) !== 0) return { kind: 'answer', bytes: failure(message, NOTIMP) };
  const [question, ...others] = packet.questions ?? [];
  if (question === undefined || others.length > 0) return { kind: 'answer', bytes: failure(message, FORMERR) };
  if (table === undefined) return { kind: 'answer', bytes: failure(message, SERVFAIL) };
  if ((question.class ?? 'IN') !== 'IN' || (question.type !== 'A' && question.type !== 'AAAA'))
    return { kind: 'forward' };
  const found = table.lookup(question.name);
  if (found === undefined) return { kind: 'forward' };
  const addresses = shuffle(question.type === 'A' ? found.v4 : found.v6, random);
  const maxBytes = limited ? udpLimit(packet) : Number.POSITIVE_INFINITY;
  return {
    kind: 'answer',
    bytes: encodeAnswer(packet, question, found.kind === 'alias' ? found.target : undefined, addresses, maxBytes),
  };
}

/** An error code, and the question as it came: resolvers take an answer without it for somebody else's. */
export function failure(message: Buffer, code: number): Buffer {
  const flags = 0x8000 | (message.readUInt16BE(2) & RECURSION_DESIRED) | RECURSION_AVAILABLE | code;
  const end = message.readUInt16BE(QUESTION_COUNT_AT) === 1 ? questionEnd(message) : -1;
  const out = Buffer.from(message.subarray(0, end < 0 ? HEADER_BYTES : end));
  out.writeUInt16BE(flags, 2);
  out.fill(0, end < 0 ? QUESTION_COUNT_AT : ANSWER_COUNT_AT, HEADER_BYTES);
  return out;
}

/** Where the first question ends; −1: it is not whole, or its name points elsewhere. */
function questionEnd(message: Buffer): number {
  for (let at = HEADER_BYTES; at < message.length; ) {
    const length = message.readUInt8(at);
    at += 1 + length;
    if (length > MAX_LABEL_BYTES) return -1;
    if (length === 0) return at + TYPE_AND_CLASS_BYTES <= message.length ? at + TYPE_AND_CLASS_BYTES : -1;
  }
  return -1;
}

function udpLimit({ additionals }: Packet): number {
  for (const record of additionals ?? []) {
    if (record.type === 'OPT') return Math.min(Math.max(record.udpPayloadSize, PLAIN_UDP_BYTES), MAX_UDP_BYTES);
  }
  return PLAIN_UDP_BYTES;
}

/** Names are written once and pointed at (RFC 1035 §4.1.4): more addresses fit a datagram. */
function encodeAnswer(
  packet: Packet,
  question: Question,
  alias: string | undefined,
  addresses: readonly string[],
  maxBytes: number,
): Buffer {
  const head = encode({
    type: 'response',
    id: packet.id ?? 0,
    flags: AUTHORITATIVE_ANSWER | RECURSION_AVAILABLE | ((packet.flags ?? 0) & RECURSION_DESIRED),
    questions: [question],
  });
  const records: Buffer[] = [];
  let owner = QUESTION_POINTER;
  if (alias !== undefined) {
    const target = encodeName(alias);
    records.push(record(owner, CNAME, target));
    owner = POINTER | (head.length + RECORD_HEADER_BYTES);
  }
  let length = head.length + (records[0]?.length ?? 0);
  let cut = false;
  for (const address of addresses) {
    const made = record(owner, question.type === 'A' ? A : AAAA, Buffer.from(ipaddr.parse(address).toByteArray()));
    cut = length + made.length > maxBytes;
    if (cut) break;
    records.push(made);
    length += made.length;
  }
  head.writeUInt16BE(records.length, ANSWER_COUNT_AT);
  if (cut) head.writeUInt16BE(head.readUInt16BE(2) | TRUNCATED_RESPONSE, 2);
  return Buffer.concat([head, ...records]);
}

function encodeName(name: string): Buffer {
  const labels = name.split('.').map((label) => {
    const bytes = Buffer.from(label, 'latin1');
    return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  });
  return Buffer.concat([...labels, Buffer.alloc(1)]);
}

function record(owner: number, type: number, data: Buffer): Buffer {
  const out = Buffer.allocUnsafe(RECORD_HEADER_BYTES + data.length);
  out.writeUInt16BE(owner, 0);
  out.writeUInt16BE(type, 2);
  out.writeUInt16BE(CLASS_IN, 4);
  out.writeUInt32BE(TTL_S, 6);
  out.writeUInt16BE(data.length, 10);
  data.copy(out, RECORD_HEADER_BYTES);
  return out;
}

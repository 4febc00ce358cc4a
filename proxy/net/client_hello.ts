/** Reads a ClientHello from a connection's first bytes, without ending TLS. Source: RFC 8446 §4.1.2 and §5.1, RFC 6066 §3, RFC 7301. */

export interface ClientHello {
  /** host_name of the server_name extension, lower-case; of the outer hello where the inner one is encrypted. */
  readonly serverName: string | undefined;
  /** As offered, in order; empty: no ALPN. */
  readonly applicationProtocols: readonly string[];
  /** The message itself, from its type on. Borrowed. */
  readonly message: Buffer;
}

/** none: this is not TLS, or no valid ClientHello. too large: longer than is accepted. A number: how many bytes are needed to go on. */
export type ClientHelloResult = ClientHello | 'none' | 'malformed' | 'too large' | number;

const HANDSHAKE_RECORD = 22;
const CLIENT_HELLO = 1;
const RECORD_HEADER = 5;
const MAX_RECORD_BYTES = 16_384;
const MESSAGE_HEADER = 4;
const EXTENSION_SERVER_NAME = 0;
const EXTENSION_ALPN = 16;
const HOST_NAME = 0;
const MAX_SERVER_NAME_BYTES = 255;

/**
 * Pure: all bytes so far in, a verdict out. The message may lie in any number of records, each with at least one byte.
 * `maxBytes` limits the message, not its records' headers.
 */
export function readClientHello(bytes: Buffer, maxBytes: number): ClientHelloResult {
  let wanted = MESSAGE_HEADER;
  let message = 0;
  let records = 0;
  let offset = 0;
  while (message < wanted) {
    const header = recordHeader(bytes, offset);
    if (header === 'none') return records === 0 ? 'none' : 'malformed';
    if (header < 0) return offset + RECORD_HEADER;
    const start = offset + RECORD_HEADER;
    const there = Math.min(header, bytes.length - start);
    if (message < MESSAGE_HEADER) {
      // Decides on what is no hello before it is complete.
      const type = byteOfMessage(bytes, 0);
      if (type !== undefined && type !== CLIENT_HELLO) return records === 0 ? 'none' : 'malformed';
      const length = messageLength(bytes, message + there);
      if (length !== undefined) {
        if (length > maxBytes) return 'too large';
        wanted = MESSAGE_HEADER + length;
      }
    }
    if (there < header && message + there < wanted) return start + Math.min(header, wanted - message);
    message += there;
    offset = start + header;
    records++;
  }
  return parseHello(records === 1 ? bytes.subarray(RECORD_HEADER, RECORD_HEADER + wanted) : joined(bytes, wanted));
}

/** The record's length; −1: more bytes are needed. */
function recordHeader(bytes: Buffer, offset: number): number | 'none' {
  const left = bytes.length - offset;
  if (left < 1) return -1;
  if (bytes[offset] !== HANDSHAKE_RECORD) return 'none';
  if (left >= 2 && bytes[offset + 1] !== 3) return 'none';
  if (left < RECORD_HEADER) return -1;
  const length = bytes.readUInt16BE(offset + 3);
  return length === 0 || length > MAX_RECORD_BYTES ? 'none' : length;
}

/** A byte of the message's first four, wherever the records have put it. */
function byteOfMessage(bytes: Buffer, position: number): number | undefined {
  let offset = 0;
  let before = 0;
  while (offset + RECORD_HEADER < bytes.length) {
    const length = bytes.readUInt16BE(offset + 3);
    const at = offset + RECORD_HEADER + position - before;
    if (position - before < length) return at < bytes.length ? bytes[at] : undefined;
    before += length;
    offset += RECORD_HEADER + length;
  }
  return undefined;
}

function messageLength(bytes: Buffer, available: number): number | undefined {
  if (available < MESSAGE_HEADER) return undefined;
  const part = (position: number): number => byteOfMessage(bytes, position) ?? 0;
  return (part(1) << 16) | (part(2) << 8) | part(3);
}

function joined(bytes: Buffer, wanted: number): Buffer {
  const message = Buffer.allocUnsafe(wanted);
  let offset = 0;
  let filled = 0;
  while (filled < wanted) {
    const length = bytes.readUInt16BE(offset + 3);
    filled += bytes.copy(message, filled, offset + RECORD_HEADER, offset + RECORD_HEADER + length);
    offset += RECORD_HEADER + length;
  }
  return message;
}

function parseHello(message: Buffer): ClientHello | 'malformed' {
  const hello = new Reader(message, MESSAGE_HEADER, message.length);
  hello.skip(2 + 32);
  const session = hello.vector(1);
  const suites = hello.vector(2);
  const compressions = hello.vector(1);
  if (session.length > 32 || suites.length < 2 || suites.length % 2 !== 0 || compressions.length < 1)
    return 'malformed';
  if (hello.failed) return 'malformed';
  // Before TLS 1.2 there may be no extensions at all.
  if (hello.length === 0) return { serverName: undefined, applicationProtocols: [], message };
  const extensions = hello.vector(2);
  if (hello.failed || hello.length > 0) return 'malformed';
  return parseExtensions(extensions, message);
}

function parseExtensions(extensions: Reader, message: Buffer): ClientHello | 'malformed' {
  let serverName: string | undefined;
  let applicationProtocols: readonly string[] = [];
  const seen = new Set<number>();
  while (extensions.length > 0) {
    const type = extensions.number(2);
    const body = extensions.vector(2);
    if (extensions.failed || seen.has(type)) return 'malformed';
    seen.add(type);
    if (type === EXTENSION_SERVER_NAME) {
      const name = parseServerName(body);
      if (name === undefined) return 'malformed';
      serverName = name;
    } else if (type === EXTENSION_ALPN) {
      const protocols = parseProtocols(body);
      if (protocols === undefined) return 'malformed';
      applicationProtocols = protocols;
    }
  }
  return { serverName, applicationProtocols, message };
}

function parseServerName(body: Reader): string | undefined {
  const list = body.vector(2);
  const type = list.number(1);
  const name = list.vector(2);
  if (body.failed || list.failed || body.length > 0 || type !== HOST_NAME) return undefined;
  if (name.length === 0 || name.length > MAX_SERVER_NAME_BYTES) return undefined;
  const text = name.text();
  // A NUL would end the name for whoever compares it in C.
  return text.includes('\0') ? undefined : text.toLowerCase();
}

function parseProtocols(body: Reader): string[] | undefined {
  const list = body.vector(2);
  if (body.failed || body.length > 0 || list.length === 0) return undefined;
  const protocols: string[] = [];
  while (list.length > 0) {
    const protocol = list.vector(1);
    if (list.failed || protocol.length === 0) return undefined;
    protocols.push(protocol.text());
  }
  return protocols;
}

/** Reads length-prefixed vectors; a read beyond the end fails once and for all. */
export class Reader {
  failed = false;
  readonly #bytes: Buffer;
  #offset: number;
  readonly #end: number;

  constructor(bytes: Buffer, offset: number, end: number) {
    this.#bytes = bytes;
    this.#offset = offset;
    this.#end = end;
  }

  get length(): number {
    return this.#end - this.#offset;
  }

  skip(count: number): void {
    if (count > this.length) this.failed = true;
    else this.#offset += count;
  }

  number(size: 1 | 2): number {
    if (size > this.length) {
      this.failed = true;
      return 0;
    }
    const value = this.#bytes.readUIntBE(this.#offset, size);
    this.#offset += size;
    return value;
  }

  /** What stands behind a length of `size` bytes. */
  vector(size: 1 | 2): Reader {
    const length = this.number(size);
    const start = this.#offset;
    this.skip(length);
    return new Reader(this.#bytes, start, this.failed ? start : start + length);
  }

  text(): string {
    return this.#bytes.latin1Slice(this.#offset, this.#end);
  }
}

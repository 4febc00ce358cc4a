/** Heads of HTTP/1.1 messages: bytes to lines, lines to fields. Strict where RFC 9112 lets a recipient be strict. */
import { CodecError } from '../http/codec.ts';
import { parseContentLength } from '../http/content_length.ts';
import type { Headers } from '../http/headers.ts';

const BAD = 0;
const TEXT = 1;
const CR = 2;
const LF = 3;

/** What a byte may be in a head: field text (tab, printable, obs-text), CR, LF; all else is refused (RFC 9110 §5.5). */
const BYTE_CLASS = new Uint8Array(256);
for (let byte = 0; byte < 256; byte++) BYTE_CLASS[byte] = byte === 9 || (byte >= 32 && byte !== 127) ? TEXT : BAD;
BYTE_CLASS[13] = CR;
BYTE_CLASS[10] = LF;

/** tchar of RFC 9110 §5.6.2, by character code. */
const TOKEN = new Uint8Array(128);
for (const char of "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") {
  TOKEN[char.charCodeAt(0)] = 1;
}

/** Fields that framing depends on. */
export const FieldKind = {
  other: 0,
  contentLength: 1,
  transferEncoding: 2,
  connection: 3,
  host: 4,
  upgrade: 5,
  keepAlive: 6,
} as const;

interface KnownName {
  /** As on the wire. */
  readonly spelling: string;
  readonly lower: string;
  readonly kind: number;
  /** Others of the same length and first letter, and how many. */
  readonly next: KnownName | undefined;
  readonly behind: number;
}

const KINDS: Readonly<Record<string, number>> = {
  'content-length': FieldKind.contentLength,
  'transfer-encoding': FieldKind.transferEncoding,
  connection: FieldKind.connection,
  host: FieldKind.host,
  upgrade: FieldKind.upgrade,
  'keep-alive': FieldKind.keepAlive,
};

/**
 * Names by their spelling on the wire, in buckets by length and first letter: a name that was seen before is neither
 * cut out of the head nor hashed. Bounded, buckets too: peers choose names, and a long bucket would be slow for all.
 */
const buckets: (KnownName | undefined)[] = new Array((64 << 7) + 128);
const MAX_BUCKET = 8;
const MAX_KNOWN_NAME_LENGTH = 64;

export function isToken(text: string): boolean {
  if (text === '') return false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 127 || TOKEN[code] === 0) return false;
  }
  return true;
}

/** The field name that stands in `head` from `start` to `end`; undefined: not a token. */
function known(head: string, start: number, end: number): KnownName | undefined {
  const length = end - start;
  const first = head.charCodeAt(start);
  const bucket = length <= MAX_KNOWN_NAME_LENGTH && first < 128 ? (length << 7) | first : -1;
  if (bucket >= 0) {
    for (let name = buckets[bucket]; name !== undefined; name = name.next) {
      if (head.startsWith(name.spelling, start)) return name;
    }
  }
  const spelling = head.slice(start, end);
  if (!isToken(spelling)) return undefined;
  const lower = spelling.toLowerCase();
  const kind = Object.hasOwn(KINDS, lower) ? (KINDS[lower] as number) : FieldKind.other;
  const next = bucket < 0 ? undefined : buckets[bucket];
  const behind = next === undefined ? 0 : next.behind + 1;
  if (bucket < 0 || behind >= MAX_BUCKET) return { spelling, lower, kind, next, behind };
  // A slice keeps the whole head it was cut from: what stays is a copy.
  const kept = Buffer.from(spelling, 'latin1').latin1Slice();
  const made = { spelling: kept, lower: lower === spelling ? kept : lower, kind, next, behind };
  buckets[bucket] = made;
  return made;
}

/**
 * Checks bytes of a head and looks for its end (an empty line).
 * @returns the index behind the head's last LF; −1: not there yet; −2: a byte that must not be in a head.
 */
export function findHeadEnd(bytes: Buffer, from: number): number {
  const { length } = bytes;
  for (let i = from; i < length; i++) {
    const kind = BYTE_CLASS[bytes[i] as number];
    if (kind === TEXT) continue;
    if (kind === CR) {
      if (i + 1 < length && bytes[i + 1] !== 10) return -2;
      continue;
    }
    if (kind === BAD || i === 0 || bytes[i - 1] !== 13) return -2;
    if (i >= 3 && bytes[i - 2] === 10 && bytes[i - 3] === 13) return i + 1;
  }
  return -1;
}

/** What a head says about framing and about the connection. */
export class HeadFacts {
  contentLength = -1;
  chunked = false;
  close = false;
  keepAlive = false;
  upgradeToken = false;
  hasUpgrade = false;
  /** To h2c or TLS: offers, which nobody waits for (curl --http2 makes one with every request). */
  upgradeIgnored = false;
  host: string | undefined = undefined;
  keepAliveTimeoutMs: number | undefined = undefined;

  reset(): void {
    this.contentLength = -1;
    this.chunked = false;
    this.close = false;
    this.keepAlive = false;
    this.upgradeToken = false;
    this.hasUpgrade = false;
    this.upgradeIgnored = false;
    this.host = undefined;
    this.keepAliveTimeoutMs = undefined;
  }
}

const badRequest = (details: string, message: string): CodecError => new CodecError(400, details, message);

/**
 * Reads field lines of `head` from `position` to the empty line into `headers`, framing into `facts`. Host and
 * Transfer-Encoding are kept out of the map.
 */
export function parseFields(
  head: string,
  position: number,
  headers: Headers,
  facts: HeadFacts,
  maxCount: number,
): CodecError | undefined {
  let at = position;
  let count = 0;
  while (at < head.length) {
    const lineEnd = head.indexOf('\r\n', at);
    if (lineEnd === at || lineEnd < 0) return undefined;
    if (++count > maxCount) return new CodecError(431, 'http1.too_many_headers', `more than ${maxCount} header fields`);
    const colon = head.indexOf(':', at);
    if (colon < 0 || colon > lineEnd) return badRequest('http1.codec_error', 'a header line without a colon');
    const name = known(head, at, colon);
    if (name === undefined)
      return badRequest('http1.invalid_characters', 'a header name with a character that names cannot have');
    let start = colon + 1;
    let end = lineEnd;
    while (start < end && isBlank(head.charCodeAt(start))) start++;
    while (end > start && isBlank(head.charCodeAt(end - 1))) end--;
    const value = head.slice(start, end);
    if (name.kind !== FieldKind.other) {
      const error = noteFraming(name.kind, value, facts);
      if (error !== undefined) return error;
    }
    if (name.kind !== FieldKind.host && name.kind !== FieldKind.transferEncoding) {
      headers.appendAsReceived(name.lower, name.spelling, value);
    }
    at = lineEnd + 2;
  }
  return undefined;
}

function isBlank(code: number): boolean {
  return code === 32 || code === 9;
}

function noteFraming(kind: number, value: string, facts: HeadFacts): CodecError | undefined {
  switch (kind) {
    case FieldKind.contentLength: {
      if (facts.contentLength >= 0) return badRequest('http1.content_length_repeated', 'more than one Content-Length');
      const length = parseContentLength(value);
      if (length < 0)
        return badRequest('http1.invalid_content_length', `Content-Length "${value.slice(0, 40)}" is not a number`);
      facts.contentLength = length;
      return undefined;
    }
    case FieldKind.transferEncoding:
      if (facts.chunked) return badRequest('http1.transfer_encoding_repeated', 'more than one Transfer-Encoding');
      if (value.toLowerCase() !== 'chunked') {
        return new CodecError(
          501,
          'http1.invalid_transfer_encoding',
          `Transfer-Encoding "${value.slice(0, 40)}": only chunked is understood`,
        );
      }
      facts.chunked = true;
      return undefined;
    case FieldKind.connection:
      // What nearly everyone says.
      if (value === 'keep-alive') {
        facts.keepAlive = true;
        return undefined;
      }
      for (const token of value.split(',')) {
        const lower = token.trim().toLowerCase();
        if (lower === 'close') facts.close = true;
        else if (lower === 'keep-alive') facts.keepAlive = true;
        else if (lower === 'upgrade') facts.upgradeToken = true;
      }
      return undefined;
    case FieldKind.host:
      if (facts.host !== undefined) return badRequest('http1.duplicate_host', 'more than one Host');
      facts.host = value;
      return undefined;
    case FieldKind.upgrade: {
      const protocol = value.toLowerCase();
      if (protocol === 'h2c' || protocol.startsWith('tls/')) facts.upgradeIgnored = true;
      else facts.hasUpgrade = true;
      return undefined;
    }
    case FieldKind.keepAlive: {
      const match = /(?:^|[,;\s])timeout=(\d{1,7})/i.exec(value);
      if (match !== null) facts.keepAliveTimeoutMs = Number(match[1]) * 1000;
      return undefined;
    }
    default:
      return undefined;
  }
}

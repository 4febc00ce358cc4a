/**
 * What tells one TLS client from another by how its ClientHello is put together.
 * Sources: JA3 (salesforce/ja3), JA4 (FoxIO-LLC/ja4, technical details); values of GREASE (RFC 8701) count nowhere.
 */
import { createHash } from 'node:crypto';
import { Reader } from './client_hello.ts';

export interface HelloFingerprints {
  /** Hex MD5; '' where nobody asked for it. */
  readonly ja3: string;
  /** `t13d1516h2_8daaf6152771_b186095e22b6`; '' where nobody asked for it. */
  readonly ja4: string;
}

const MESSAGE_HEADER = 4;
const RANDOM_BYTES = 32;
const SERVER_NAME = 0;
const SUPPORTED_GROUPS = 10;
const POINT_FORMATS = 11;
const SIGNATURE_ALGORITHMS = 13;
const ALPN = 16;
const SUPPORTED_VERSIONS = 43;
const JA4_VERSIONS: ReadonlyMap<number, string> = new Map([
  [0x0304, '13'],
  [0x0303, '12'],
  [0x0302, '11'],
  [0x0301, '10'],
  [0x0300, 's3'],
  [0x0002, 's2'],
]);

/** What the fingerprints are made of, in the order of the message, without GREASE. */
interface HelloParts {
  readonly version: number;
  readonly suites: readonly number[];
  readonly extensions: readonly number[];
  readonly groups: readonly number[];
  readonly pointFormats: readonly number[];
  readonly signatureAlgorithms: readonly number[];
  readonly supportedVersions: readonly number[];
  /** The first protocol offered; '' for none. latin1. */
  readonly protocol: string;
}

/** `message` is one that `readClientHello` has accepted. */
export function fingerprintsOf(
  message: Buffer,
  wanted: { readonly ja3: boolean; readonly ja4: boolean },
): HelloFingerprints {
  const parts = partsOf(message);
  return { ja3: wanted.ja3 ? ja3(parts) : '', ja4: wanted.ja4 ? ja4(parts) : '' };
}

function partsOf(message: Buffer): HelloParts {
  const hello = new Reader(message, MESSAGE_HEADER, message.length);
  const version = hello.number(2);
  hello.skip(RANDOM_BYTES);
  hello.vector(1);
  const suites = numbers(hello.vector(2), 2);
  hello.vector(1);
  const ids: number[] = [];
  let groups: number[] = [];
  let pointFormats: number[] = [];
  let signatureAlgorithms: number[] = [];
  let supportedVersions: number[] = [];
  let protocol = '';
  const extensions = hello.length === 0 ? hello : hello.vector(2);
  while (extensions.length > 0 && !extensions.failed) {
    const id = extensions.number(2);
    const body = extensions.vector(2);
    if (isGrease(id)) continue;
    ids.push(id);
    if (id === SUPPORTED_GROUPS) groups = numbers(body.vector(2), 2);
    else if (id === POINT_FORMATS) pointFormats = numbers(body.vector(1), 1);
    else if (id === SIGNATURE_ALGORITHMS) signatureAlgorithms = numbers(body.vector(2), 2);
    else if (id === SUPPORTED_VERSIONS) supportedVersions = numbers(body.vector(1), 2);
    else if (id === ALPN) protocol = body.vector(2).vector(1).text();
  }
  return { version, suites, extensions: ids, groups, pointFormats, signatureAlgorithms, supportedVersions, protocol };
}

function numbers(list: Reader, size: 1 | 2): number[] {
  const out: number[] = [];
  while (list.length > 0 && !list.failed) {
    const value = list.number(size);
    if (!list.failed && !(size === 2 && isGrease(value))) out.push(value);
  }
  return out;
}

/** 0x0a0a, 0x1a1a, … 0xfafa. */
function isGrease(value: number): boolean {
  return (value & 0x0f0f) === 0x0a0a && value >> 8 === (value & 0xff);
}

function ja3({ version, suites, extensions, groups, pointFormats }: HelloParts): string {
  const fields = [version, suites.join('-'), extensions.join('-'), groups.join('-'), pointFormats.join('-')];
  return createHash('md5').update(fields.join(',')).digest('hex');
}

function ja4(parts: HelloParts): string {
  const { suites, extensions, signatureAlgorithms, supportedVersions } = parts;
  const version = supportedVersions.length > 0 ? Math.max(...supportedVersions) : parts.version;
  const name = extensions.includes(SERVER_NAME) ? 'd' : 'i';
  const head = `t${JA4_VERSIONS.get(version) ?? '00'}${name}${count(suites)}${count(extensions)}${ends(parts.protocol)}`;
  const listed = hexList(extensions.filter((id) => id !== SERVER_NAME && id !== ALPN).sort(ascending));
  const algorithms = signatureAlgorithms.map(hex4).join(',');
  const second = algorithms === '' ? listed : `${listed}_${algorithms}`;
  return `${head}_${truncated(hexList([...suites].sort(ascending)))}_${truncated(listed === '' ? '' : second)}`;
}

const ascending = (a: number, b: number): number => a - b;
const hex4 = (value: number): string => value.toString(16).padStart(4, '0');
const hexList = (values: readonly number[]): string => values.map(hex4).join(',');

function count(values: readonly number[]): string {
  return String(Math.min(99, values.length)).padStart(2, '0');
}

/** First and last character of a protocol's name, or of its hex form where they are no letters or digits. */
function ends(protocol: string): string {
  if (protocol === '') return '00';
  const [first = '', last = ''] = [protocol[0], protocol.at(-1)];
  if (/^[0-9A-Za-z]{2}$/.test(first + last)) return first + last;
  const hex = Buffer.from(protocol, 'latin1').toString('hex');
  return `${hex[0]}${hex.at(-1)}`;
}

function truncated(text: string): string {
  return text === '' ? '000000000000' : createHash('sha256').update(text).digest('hex').slice(0, 12);
}

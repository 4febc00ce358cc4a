/** envoy.service.auth.v3.CheckRequest as bytes. By hand: data threads do without the 380 KB of descriptors for one message. */
import type { RequestHeaders } from '../../http/headers.ts';
import type { ConnectionInfo, SocketAddress } from '../../net/connection_info.ts';
import { encodeStruct } from '../../telemetry/peer_metadata.ts';
import { message } from '../../telemetry/protobuf_writer.ts';
import type { CheckBody } from './verdict.ts';

export interface CheckFacts {
  readonly connection: ConnectionInfo;
  readonly remoteAddress: SocketAddress;
  /** undefined: a TCP connection. */
  readonly http:
    | {
        readonly headers: RequestHeaders;
        readonly id: string;
        readonly protocol: string;
        readonly timeMs: number;
        readonly includes: (name: string) => boolean;
        readonly body: (CheckBody & { readonly asBytes: boolean }) | undefined;
      }
    | undefined;
  readonly contextExtensions: Readonly<Record<string, string>>;
  readonly metadata: Readonly<Record<string, Record<string, unknown>>>;
  readonly routeMetadata: Readonly<Record<string, Record<string, unknown>>>;
  readonly includeTlsSession: boolean;
}

/** The whole message; fields by the numbers of envoy.service.auth.v3.AttributeContext. */
export function encodeCheckRequest(facts: CheckFacts): Buffer {
  const { connection, http } = facts;
  const { tls } = connection;
  const parts: Buffer[] = [
    message(1, peer(facts.remoteAddress, tls?.peerUriSans[0] ?? tls?.peerDnsSans[0] ?? tls?.peerSubject ?? '')),
    message(2, peer(connection.localAddress, tls?.localUriSans[0] ?? '')),
  ];
  if (http !== undefined)
    parts.push(message(4, Buffer.concat([message(1, timestamp(http.timeMs)), message(2, httpRequest(http))])));
  for (const [name, value] of Object.entries(facts.contextExtensions)) parts.push(message(10, entry(name, value)));
  parts.push(message(11, metadataContext(facts.metadata)));
  if (Object.keys(facts.routeMetadata).length > 0) parts.push(message(13, metadataContext(facts.routeMetadata)));
  if (facts.includeTlsSession && connection.requestedServerName !== undefined) {
    parts.push(message(12, text(1, connection.requestedServerName)));
  }
  return message(1, Buffer.concat(parts));
}

/** AttributeContext.Peer: address 1, principal 4. */
function peer(address: SocketAddress, principal: string): Buffer {
  // Address.socket_address 1 { protocol 1, address 2, port_value 3 }; Address.pipe 2 { path 1 }.
  const place =
    address.port === 0 && address.ip.includes('/')
      ? message(2, text(1, address.ip))
      : message(1, Buffer.concat([text(2, address.ip), integer(3, address.port)]));
  return Buffer.concat([message(1, place), text(4, principal)]);
}

function httpRequest({ headers, id, protocol, includes, body }: NonNullable<CheckFacts['http']>): Buffer {
  const parts: Buffer[] = [text(1, id), text(2, headers.method)];
  for (const [name, value] of headerMap(headers, includes)) parts.push(message(3, entry(name, value)));
  if (body !== undefined) parts.push(message(3, entry('x-envoy-auth-partial-body', String(body.partial))));
  parts.push(text(4, headers.path), text(5, headers.authority), text(6, headers.scheme));
  const length = headers.get('content-length');
  parts.push(integer(9, length !== undefined && /^\d{1,15}$/.test(length) ? Number(length) : -1));
  parts.push(text(10, protocol));
  if (body !== undefined && body.bytes.length > 0) parts.push(message(body.asBytes ? 12 : 11, body.bytes));
  return Buffer.concat(parts);
}

/** One value a name, repeated ones joined (attacks.md row 41); pseudo-headers by their names. */
function headerMap(headers: RequestHeaders, includes: (name: string) => boolean): Map<string, string> {
  const out = new Map<string, string>();
  for (const name of [':authority', ':method', ':path', ':scheme']) {
    const value = headers.get(name);
    if (value !== undefined && value !== '' && includes(name)) out.set(name, value);
  }
  const { fields } = headers;
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] as string;
    if (!includes(name)) continue;
    const before = out.get(name);
    const value = fields[i + 1] as string;
    out.set(name, before === undefined ? value : `${before},${value}`);
  }
  return out;
}

/** google.protobuf.Timestamp. */
function timestamp(timeMs: number): Buffer {
  const seconds = Math.floor(timeMs / 1000);
  return Buffer.concat([integer(1, seconds), integer(2, Math.round((timeMs - seconds * 1000) * 1e6))]);
}

/** envoy.config.core.v3.Metadata.filter_metadata. */
function metadataContext(namespaces: CheckFacts['metadata']): Buffer {
  return Buffer.concat(
    Object.entries(namespaces).map(([name, fields]) =>
      message(1, Buffer.concat([text(1, name), message(2, encodeStruct(fields))])),
    ),
  );
}

function entry(name: string, value: string): Buffer {
  return Buffer.concat([text(1, name), text(2, value)]);
}

/** Protobuf strings are UTF-8; bytes of a header that are not become escapes, never an unreadable message. */
function text(field: number, value: string): Buffer {
  return value === '' ? EMPTY : message(field, Buffer.from(value, 'utf8'));
}

const EMPTY = Buffer.alloc(0);

/** A varint field; 0 is left out. Negative ones take ten bytes. */
function integer(field: number, value: number): Buffer {
  if (value === 0) return EMPTY;
  const bytes: number[] = [field << 3];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest >= 128n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  bytes.push(Number(rest));
  return Buffer.from(bytes);
}

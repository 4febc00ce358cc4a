/** One request or connection as Envoy's access log service is told of it. Source: envoy.data.accesslog.v3. */
import { reachedHost, directRemote } from '../../http/format_addresses.ts';
import type { FormatInput } from '../../http/formatter.ts';
import type { Headers, RequestHeaders } from '../../http/headers.ts';
import type { StreamInfo } from '../../http/stream_info.ts';
import type { SocketAddress } from '../../net/connection_info.ts';
import { encodeStruct } from '../peer_metadata.ts';
import type { ProtobufWriter } from '../protobuf_writer.ts';
import type { TagReader } from '../tracing/custom_tags.ts';
import type { GrpcLogConfig } from './grpc_log_config.ts';
import { writeResponseFlags } from './response_flag_fields.ts';
import { writeTls } from './tls_properties.ts';

export interface EntryParts
  extends Pick<GrpcLogConfig, 'entries' | 'requestHeaders' | 'responseHeaders' | 'responseTrailers' | 'filterState'> {
  readonly customTags: readonly (readonly [string, TagReader])[];
}

const PROTOCOLS: Readonly<Record<string, number>> = { 'HTTP/1.0': 1, 'HTTP/1.1': 2, 'HTTP/2': 3, 'HTTP/3': 4 };
/** envoy.config.core.v3.RequestMethod */
const METHODS = ['', 'GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH'];
/** envoy.data.accesslog.v3.AccessLogType, in the words of %ACCESS_LOG_TYPE%. */
const LOG_TYPES = [
  'NotSet',
  'TcpUpstreamConnected',
  'TcpPeriodic',
  'TcpConnectionEnd',
  'DownstreamStart',
  'DownstreamPeriodic',
  'DownstreamEnd',
];
const STRING_VALUE = 'type.googleapis.com/google.protobuf.StringValue';
const STRUCT = 'type.googleapis.com/google.protobuf.Struct';

/** HTTPAccessLogEntry or TCPAccessLogEntry, without a tag of its own. */
export function writeEntry(out: ProtobufWriter, input: FormatInput, parts: EntryParts): void {
  const { info, requestHeaders } = input;
  const common = out.begin(1);
  writeCommon(out, input, parts);
  out.end(common);
  if (parts.entries === 'tcp') {
    const connection = out.begin(2);
    out.integer(1, info.bytesReceived);
    out.integer(2, info.bytesSent);
    out.end(connection);
    return;
  }
  out.integer(2, PROTOCOLS[info.protocol] ?? 0);
  const request = out.begin(3);
  if (requestHeaders !== undefined) writeRequest(out, requestHeaders);
  out.integer(12, info.bytesReceived);
  writeHeaders(out, 13, requestHeaders, parts.requestHeaders);
  out.integer(14, info.upstreamHeaderBytesSent);
  out.integer(15, info.headerBytesReceived);
  out.end(request);
  const response = out.begin(4);
  writeResponse(out, input, parts);
  out.end(response);
}

function writeRequest(out: ProtobufWriter, headers: RequestHeaders): void {
  out.integer(1, Math.max(0, METHODS.indexOf(headers.method)));
  out.string(2, headers.scheme);
  out.string(3, headers.authority);
  out.string(5, headers.path);
  out.string(6, headers.get('user-agent'));
  out.string(7, headers.get('referer'));
  out.string(8, headers.get('x-forwarded-for'));
  out.string(9, headers.get('x-request-id'));
  out.string(10, headers.get('x-envoy-original-path'));
  out.integer(11, headers.byteSize);
}

function writeResponse(out: ProtobufWriter, input: FormatInput, parts: EntryParts): void {
  const { info, responseHeaders } = input;
  if (info.responseCode > 0) out.wrapped(1, info.responseCode);
  out.integer(2, responseHeaders?.byteSize ?? 0);
  out.integer(3, info.bytesSent);
  writeHeaders(out, 4, responseHeaders, parts.responseHeaders);
  writeHeaders(out, 5, input.responseTrailers, parts.responseTrailers);
  out.string(6, info.responseCodeDetails);
  out.integer(7, info.upstreamHeaderBytesReceived);
  out.integer(8, info.headerBytesSent);
}

function writeCommon(out: ProtobufWriter, input: FormatInput, parts: EntryParts): void {
  const { info } = input;
  const { connection } = info;
  writeAddress(out, 2, info.remoteAddress);
  writeAddress(out, 3, connection.localAddress);
  if (connection.tls !== undefined) writeTls(out, 4, connection.tls, connection.requestedServerName);
  writeSeconds(out, 5, info.startTimeMs);
  writeSince(out, 6, info, info.requestCompleteMs);
  writeSince(out, 7, info, info.upstreamFirstByteSentMs);
  writeSince(out, 8, info, info.upstreamLastByteSentMs);
  writeSince(out, 9, info, info.upstreamFirstByteReceivedMs);
  writeSince(out, 10, info, info.upstreamLastByteReceivedMs);
  writeSince(out, 11, info, info.firstByteSentMs);
  if (info.firstByteSentMs > 0) writeSince(out, 12, info, info.endMs);
  writeAddress(out, 13, reachedHost(info) ?? info.upstreamHost);
  writeAddress(out, 14, info.upstreamLocalAddress);
  out.string(15, info.upstreamCluster);
  if (info.flags !== undefined) writeResponseFlags(out, 16, info.flags);
  if (info.dynamicMetadata !== undefined) writeMetadata(out, 17, info.dynamicMetadata);
  out.string(18, info.upstreamTransportFailureReason);
  out.string(19, info.routeName);
  writeAddress(out, 20, directRemote(info));
  for (const name of parts.filterState) writeFilterState(out, 21, name, connection.filterState?.get(name));
  for (const [tag, read] of parts.customTags) writePair(out, 22, tag, read(input) ?? '');
  writeSince(out, 23, info, info.endMs);
  out.integer(24, info.upstreamRequestAttemptCount);
  out.string(25, info.connectionTerminationDetails ?? connection.terminationDetails);
  out.string(26, info.requestId);
  out.flag(27, info.accessLogType === 'TcpUpstreamConnected');
  out.string(28, connection.transportFailureReason);
  out.integer(29, info.headerBytesSent + info.bytesSent);
  out.integer(30, info.headerBytesReceived + info.bytesReceived);
  if (info.upstreamConnection !== undefined) {
    out.integer(31, info.upstreamHeaderBytesSent + info.bytesReceived);
    out.integer(32, info.upstreamHeaderBytesReceived + (info.upstreamHeaderBytesReceived > 0 ? info.bytesSent : 0));
  }
  out.integer(33, Math.max(0, LOG_TYPES.indexOf(info.accessLogType)));
}

/** envoy.config.core.v3.Address: a socket address, or a pipe. */
function writeAddress(out: ProtobufWriter, field: number, address: SocketAddress | undefined): void {
  if (address === undefined) return;
  const start = out.begin(field);
  const isPipe = address.port === 0 && address.ip.includes('/');
  const inner = out.begin(isPipe ? 2 : 1);
  if (isPipe) out.string(1, address.ip);
  else {
    out.string(2, address.ip);
    out.integer(3, address.port);
  }
  out.end(inner);
  out.end(start);
}

/** 0: that point was not reached. */
function writeSince(out: ProtobufWriter, field: number, { startMs }: StreamInfo, atMs: number): void {
  if (atMs > 0) writeSeconds(out, field, Math.max(0, atMs - startMs));
}

/** google.protobuf.Timestamp and Duration. */
function writeSeconds(out: ProtobufWriter, field: number, ms: number): void {
  const start = out.begin(field);
  const seconds = Math.floor(ms / 1000);
  out.integer(1, seconds);
  out.integer(2, Math.min(999_999_999, Math.round((ms - seconds * 1000) * 1e6)));
  out.end(start);
}

function writeHeaders(out: ProtobufWriter, field: number, from: Headers | undefined, names: readonly string[]): void {
  if (from === undefined) return;
  for (const name of names) {
    const value = from.joined(name);
    if (value !== undefined) writePair(out, field, name, value);
  }
}

/** An entry of map<string, string>. */
function writePair(out: ProtobufWriter, field: number, key: string, value: string): void {
  const start = out.begin(field);
  out.string(1, key);
  out.string(2, value);
  out.end(start);
}

/** envoy.config.core.v3.Metadata.filter_metadata */
function writeMetadata(
  out: ProtobufWriter,
  field: number,
  metadata: ReadonlyMap<string, Record<string, unknown>>,
): void {
  const start = out.begin(field);
  for (const [namespace, fields] of metadata) {
    const entry = out.begin(1);
    out.string(1, namespace);
    out.bytes(2, encodeStruct(fields));
    out.end(entry);
  }
  out.end(start);
}

/** As an Any: text as StringValue, anything else as Struct. */
function writeFilterState(out: ProtobufWriter, field: number, name: string, value: unknown): void {
  if (value === undefined || value === null) return;
  const entry = out.begin(field);
  out.string(1, name);
  const any = out.begin(2);
  out.string(1, typeof value === 'object' ? STRUCT : STRING_VALUE);
  if (typeof value === 'object') out.bytes(2, encodeStruct(value as Record<string, unknown>));
  else {
    const text = out.begin(2);
    out.string(1, String(value));
    out.end(text);
  }
  out.end(any);
  out.end(entry);
}

/** The commands of format strings, each compiled once to a function. */
import { tlsValues } from './tls_commands.ts';
import { hostname } from 'node:os';
import { ConfigError } from '../config_error.ts';
import { queryParameter } from '../router/hash_policy.ts';
import { LONG_FLAGS } from '../response_flags.ts';
import type { FormatInput } from './formatter.ts';
import type { Headers } from './headers.ts';
import type { Metadata, StreamInfo } from './stream_info.ts';

/** undefined: absent. */
export type Command = (input: FormatInput) => string | number | boolean | object | undefined;

type Maker = (argument: string) => Command;

const fixed =
  (read: (info: StreamInfo, input: FormatInput) => ReturnType<Command>): Maker =>
  () =>
  (input) =>
    read(input.info, input);

const COMMANDS: Readonly<Record<string, Maker>> = {
  START_TIME: (argument) => timeCommand(argument, (info) => info.startTimeMs),
  START_TIME_LOCAL: (argument) => timeCommand(argument, (info) => info.startTimeMs),
  EMIT_TIME: (argument) => timeCommand(argument, () => Date.now()),
  REQ: (argument) => headerCommand(argument, (input) => input.requestHeaders),
  RESP: (argument) => headerCommand(argument, (input) => input.responseHeaders),
  TRAILER: (argument) => headerCommand(argument, (input) => input.responseTrailers),
  REQ_WITHOUT_QUERY: (argument) => {
    const read = headerCommand(argument, (input) => input.requestHeaders);
    return (input) => {
      const value = read(input);
      return typeof value === 'string' ? value.split('?', 1)[0] : value;
    };
  },
  PATH: (argument) => {
    const [query = '', which = 'ORIG_OR_PATH'] = argument.split(':');
    const original = ({ info, requestHeaders }: FormatInput): string | undefined =>
      requestHeaders?.get('x-envoy-original-path') ?? info.originalPath;
    return (input) => {
      const path =
        which === 'PATH'
          ? input.requestHeaders?.path
          : (original(input) ?? (which === 'ORIG' ? undefined : input.requestHeaders?.path));
      return query === 'NQ' ? path?.split('?', 1)[0] : path;
    };
  },
  QUERY_PARAM: (argument) => (input) => {
    const value = input.requestHeaders === undefined ? undefined : queryParameter(input.requestHeaders.path, argument);
    return value === undefined ? undefined : percentDecoded(value);
  },
  PROTOCOL: fixed((info) => info.protocol),
  RESPONSE_CODE: fixed((info) => info.responseCode),
  RESPONSE_CODE_DETAILS: fixed((info) => info.responseCodeDetails.replaceAll(' ', '_')),
  CONNECTION_TERMINATION_DETAILS: fixed(
    (info) => info.connectionTerminationDetails ?? info.connection.terminationDetails,
  ),
  RESPONSE_FLAGS: fixed((info) => info.flags?.join(',') ?? '-'),
  RESPONSE_FLAGS_LONG: fixed((info) => info.flags?.map((flag) => LONG_FLAGS[flag]).join(',') ?? '-'),
  BYTES_RECEIVED: fixed((info) => info.bytesReceived),
  BYTES_SENT: fixed((info) => info.bytesSent),
  DURATION: fixed((info) => wholeMs(info.startMs, info.endMs)),
  REQUEST_DURATION: fixed((info) => wholeMs(info.startMs, info.requestCompleteMs)),
  REQUEST_TX_DURATION: fixed((info) => wholeMs(info.startMs, info.upstreamLastByteSentMs)),
  RESPONSE_DURATION: fixed((info) => wholeMs(info.startMs, info.upstreamFirstByteReceivedMs)),
  RESPONSE_TX_DURATION: fixed((info) =>
    info.upstreamFirstByteReceivedMs === 0 ? undefined : wholeMs(info.upstreamFirstByteReceivedMs, info.endMs),
  ),
  UPSTREAM_HOST: fixed((info) => info.upstreamHost?.text),
  UPSTREAM_HOST_NAME: fixed((info) => info.upstreamHost?.text),
  UPSTREAM_REMOTE_ADDRESS: fixed((info) => reachedHost(info)?.text),
  UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: fixed((info) => reachedHost(info)?.ip),
  UPSTREAM_REMOTE_PORT: fixed((info) => reachedHost(info)?.port),
  UPSTREAM_CLUSTER: fixed((info) => info.upstreamClusterStatName || info.upstreamCluster),
  UPSTREAM_CLUSTER_RAW: fixed((info) => info.upstreamCluster),
  UPSTREAM_LOCAL_ADDRESS: fixed((info) => info.upstreamLocalAddress?.text),
  UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: fixed((info) => info.upstreamLocalAddress?.ip),
  UPSTREAM_LOCAL_PORT: fixed((info) => info.upstreamLocalAddress?.port),
  UPSTREAM_TRANSPORT_FAILURE_REASON: fixed((info) => info.upstreamTransportFailureReason?.replaceAll(' ', '_')),
  UPSTREAM_REQUEST_ATTEMPT_COUNT: fixed((info) => info.upstreamRequestAttemptCount),
  UPSTREAM_PROTOCOL: fixed((info) => info.upstreamProtocol),
  DOWNSTREAM_REMOTE_ADDRESS: fixed((info) => info.remoteAddress.text),
  DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: fixed((info) => info.remoteAddress.ip),
  DOWNSTREAM_REMOTE_PORT: fixed((info) => info.remoteAddress.port),
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS: fixed(
    ({ connection }) => (connection.directRemoteAddress ?? connection.remoteAddress).text,
  ),
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT: fixed(
    ({ connection }) => (connection.directRemoteAddress ?? connection.remoteAddress).ip,
  ),
  DOWNSTREAM_LOCAL_ADDRESS: fixed(({ connection }) => connection.localAddress.text),
  DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: fixed(({ connection }) => connection.localAddress.ip),
  DOWNSTREAM_LOCAL_PORT: fixed(({ connection }) => connection.localAddress.port),
  ...Object.fromEntries([...tlsValues].map(([name, value]) => [name, fixed(value)])),
  DOWNSTREAM_TRANSPORT_FAILURE_REASON: fixed(({ connection }) =>
    connection.transportFailureReason?.replaceAll(' ', '_'),
  ),
  REQUESTED_SERVER_NAME: fixed(({ connection }) => connection.requestedServerName),
  CONNECTION_ID: fixed(({ connection }) => connection.id),
  STREAM_ID: fixed((info) => info.requestId),
  ROUTE_NAME: fixed((info) => info.routeName),
  HOSTNAME: () => {
    const name = hostname();
    return () => name;
  },
  ENVIRONMENT: (argument) => {
    const [name = '', length] = argument.split(':');
    const value = process.env[name];
    const text = length === undefined ? value : value?.slice(0, Number(length));
    return () => text;
  },
  DYNAMIC_METADATA: (argument) => metadataCommand(argument, (info, namespace) => info.dynamicMetadata?.get(namespace)),
  CLUSTER_METADATA: (argument) => metadataCommand(argument, (info, name) => info.upstreamClusterMetadata?.[name]),
  UPSTREAM_METADATA: (argument) => metadataCommand(argument, (info, name) => info.upstreamHostMetadata?.[name]),
  ROUTE_METADATA: (argument) => metadataCommand(argument, (info, name) => info.routeMetadata?.[name]),
  METADATA: (argument) => {
    const [kind = '', ...rest] = argument.split(':');
    const source = {
      CLUSTER: 'upstreamClusterMetadata',
      ROUTE: 'routeMetadata',
      UPSTREAM_HOST: 'upstreamHostMetadata',
    } as const;
    if (!Object.hasOwn(source, kind))
      return metadataCommand(rest.join(':'), (info, name) => info.dynamicMetadata?.get(name));
    const field = source[kind as keyof typeof source];
    return metadataCommand(rest.join(':'), (info, name) => (info[field] as Metadata | undefined)?.[name]);
  },
  FILTER_STATE: (argument) => {
    const [key = ''] = argument.split(':');
    return ({ info }) => info.connection.filterState?.get(key) as ReturnType<Command>;
  },
};

/** The host once a connection to it is there. */
function reachedHost(info: StreamInfo): StreamInfo['upstreamHost'] {
  return info.upstreamLocalAddress === undefined ? undefined : info.upstreamHost;
}

/** What is no escape stays as it is. */
function percentDecoded(text: string): string {
  return text.replace(/(?:%[0-9a-f]{2})+/gi, (escapes) =>
    Buffer.from(escapes.replaceAll('%', ''), 'hex').toString('latin1'),
  );
}

/** Documented by Envoy 1.40, and nothing here to answer with: they print as absent. */
const UNANSWERED = new Set([
  'BYTES_RETRANSMITTED',
  'PACKETS_RETRANSMITTED',
  'UPSTREAM_WIRE_BYTES_RECEIVED',
  'UPSTREAM_WIRE_BYTES_SENT',
  'UPSTREAM_HEADER_BYTES_RECEIVED',
  'UPSTREAM_HEADER_BYTES_SENT',
  'DOWNSTREAM_WIRE_BYTES_RECEIVED',
  'DOWNSTREAM_WIRE_BYTES_SENT',
  'DOWNSTREAM_HEADER_BYTES_RECEIVED',
  'DOWNSTREAM_HEADER_BYTES_SENT',
  'UPSTREAM_CONNECTION_ID',
  'UPSTREAM_HOST_NAME_WITHOUT_PORT',
  'UPSTREAM_HOSTS_ATTEMPTED',
  'UPSTREAM_CONNECTION_POOL_READY_DURATION',
  'DOWNSTREAM_DETECTED_CLOSE_TYPE',
  'DOWNSTREAM_LOCAL_CLOSE_REASON',
  'ROUNDTRIP_DURATION',
  'COMMON_DURATION',
  'GRPC_STATUS',
  'GRPC_STATUS_NUMBER',
  'FILTER_CHAIN_NAME',
  'UNIQUE_ID',
  'ACCESS_LOG_TYPE',
  'UPSTREAM_FILTER_STATE',
  'UPSTREAM_CLUSTER_NAME',
  'LOCAL_REPLY_BODY',
  'TRACE_ID',
  'SPAN_ID',
  'JA3_FINGERPRINT',
  'JA4_FINGERPRINT',
  'TLS_JA3_FINGERPRINT',
  'CEL',
  'VIRTUAL_CLUSTER_NAME',
  'DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID',
  'DOWNSTREAM_DIRECT_LOCAL_ADDRESS',
]);

/** @throws {ConfigError} for a command that Envoy does not know either. */
export function commandFor(name: string, argument: string, whole: string): Command {
  const maker = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (maker !== undefined) return maker(argument);
  if (UNANSWERED.has(name)) return () => undefined;
  throw new ConfigError('', `"${whole}": there is no command ${name}`);
}

function wholeMs(fromMs: number, toMs: number): number | undefined {
  return toMs === 0 ? undefined : Math.max(0, Math.round(toMs - fromMs));
}

/** `NAME?ALTERNATIVE` */
function headerCommand(argument: string, source: (input: FormatInput) => Headers | undefined): Command {
  const [first = '', second] = argument.toLowerCase().split('?');
  return (input) => {
    const headers = source(input);
    return headers?.get(first) ?? (second === undefined ? undefined : headers?.get(second));
  };
}

function metadataCommand(
  argument: string,
  source: (info: StreamInfo, namespace: string) => Readonly<Record<string, unknown>> | undefined,
): Command {
  const [namespace = '', ...path] = argument.split(':');
  return ({ info }) => {
    let value: unknown = source(info, namespace);
    for (const key of path) {
      if (value === null || typeof value !== 'object' || !Object.hasOwn(value, key)) return undefined;
      value = (value as Record<string, unknown>)[key];
    }
    return value as ReturnType<Command>;
  };
}

let lastSecond = -1;
let lastPrefix = '';

/** ISO 8601 with milliseconds in UTC; the part up to the second is made once a second. */
export function isoTime(epochMs: number): string {
  const second = Math.floor(epochMs / 1000);
  if (second !== lastSecond) {
    lastSecond = second;
    lastPrefix = new Date(second * 1000).toISOString().slice(0, 20);
  }
  const ms = epochMs - second * 1000;
  return `${lastPrefix}${ms < 10 ? '00' : ms < 100 ? '0' : ''}${ms}Z`;
}

function timeCommand(argument: string, source: (info: StreamInfo) => number): Command {
  if (argument === '') return ({ info }) => isoTime(source(info));
  const parts = argument.split(/(%[a-zA-Z%]|%[1-9][f])/).map(timePart);
  return ({ info }) => {
    const epochMs = source(info);
    let text = '';
    for (const part of parts) text += typeof part === 'string' ? part : part(epochMs);
    return text;
  };
}

const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');
const DAYS = 'Sun Mon Tue Wed Thu Fri Sat'.split(' ');

/** One directive of strftime, or text. */
function timePart(part: string): string | ((epochMs: number) => string) {
  if (!part.startsWith('%')) return part;
  const pad = (value: number, width = 2): string => String(value).padStart(width, '0');
  const digits = /^%([1-9])f$/.exec(part)?.[1];
  if (digits !== undefined)
    return (ms) =>
      pad(ms % 1000, 3)
        .padEnd(9, '0')
        .slice(0, Number(digits));
  const date = (read: (date: Date) => string) => (ms: number) => read(new Date(ms));
  switch (part) {
    case '%%':
      return '%';
    case '%s':
      return (ms) => String(Math.floor(ms / 1000));
    case '%f':
      return (ms) => pad(ms % 1000, 3).padEnd(9, '0');
    case '%Y':
      return date((d) => String(d.getUTCFullYear()));
    case '%m':
      return date((d) => pad(d.getUTCMonth() + 1));
    case '%d':
      return date((d) => pad(d.getUTCDate()));
    case '%e':
      return date((d) => String(d.getUTCDate()).padStart(2));
    case '%H':
      return date((d) => pad(d.getUTCHours()));
    case '%M':
      return date((d) => pad(d.getUTCMinutes()));
    case '%S':
      return date((d) => pad(d.getUTCSeconds()));
    case '%b':
      return date((d) => MONTHS[d.getUTCMonth()] as string);
    case '%a':
      return date((d) => DAYS[d.getUTCDay()] as string);
    case '%F':
      return date((d) => d.toISOString().slice(0, 10));
    case '%T':
      return date((d) => d.toISOString().slice(11, 19));
    case '%z':
      return '+0000';
    case '%Z':
      return 'UTC';
    default:
      throw new ConfigError('', `"${part}" is not a time directive that is understood here`);
  }
}

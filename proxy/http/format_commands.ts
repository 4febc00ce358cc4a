/** The commands of format strings, each compiled once to a function. */
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import { ConfigError } from '../config_error.ts';
import { queryParameter } from '../router/hash_policy.ts';
import { routeTime } from '../router/timed_match.ts';
import { LONG_FLAGS } from '../response_flags.ts';
import { streamAttributes } from '../telemetry/cel/attributes.ts';
import { compileCel } from '../telemetry/cel/evaluator.ts';
import { celJson, celText } from '../telemetry/cel/values.ts';
import { connectionCommands } from './connection_commands.ts';
import { directLocal, directRemote, reachedHost, tried, withoutPort, withoutPortCommand } from './format_addresses.ts';
import { clientCertificateValue } from './client_certificate_value.ts';
import { commonDuration, wholeMs } from './format_durations.ts';
import { grpcStatus } from './format_grpc.ts';
import { timeFormat } from './format_time.ts';
import type { FormatInput } from './formatter.ts';
import type { Headers } from './headers.ts';
import type { StreamInfo } from './stream_info.ts';
import { tlsCommands } from './tls_commands.ts';

/** undefined: absent. */
export type Command = (input: FormatInput) => string | number | boolean | object | undefined;

type Maker = (argument: string) => Command;

const fixed =
  (read: (info: StreamInfo, input: FormatInput) => ReturnType<Command>): Maker =>
  () =>
  (input) =>
    read(input.info, input);

type MetadataSource = (info: StreamInfo, namespace: string) => Readonly<Record<string, unknown>> | undefined;

/** %METADATA(TYPE:…)%. */
const METADATA_OF: Readonly<Record<string, MetadataSource>> = {
  DYNAMIC: (info, name) => info.dynamicMetadata?.get(name),
  CLUSTER: (info, name) => info.upstreamClusterMetadata?.[name],
  ROUTE: (info, name) => info.routeMetadata?.[name],
  UPSTREAM_HOST: (info, name) => info.upstreamHostMetadata?.[name],
  LISTENER: ({ connection }, name) => connection.listenerMetadata?.[name],
  LISTENER_FILTER_CHAIN: ({ connection }, name) => connection.filterChainMetadata?.[name],
  VIRTUAL_HOST: (info, name) => info.virtualHostMetadata?.[name],
};

/** `:status` and three digits. */
const STATUS_BYTES = 10;

const COMMANDS: Readonly<Record<string, Maker>> = {
  START_TIME: (argument) => timeFormat(argument, ({ info }: FormatInput) => info.startTimeMs),
  START_TIME_LOCAL: (argument) => timeFormat(argument, ({ info }: FormatInput) => info.startTimeMs),
  EMIT_TIME: (argument) => timeFormat(argument, () => Date.now()),
  EMIT_TIME_LOCAL: (argument) => timeFormat(argument, () => Date.now()),
  REQ: (argument) => headerCommand(argument, (input) => input.requestHeaders),
  RESP: (argument) => headerCommand(argument, (input) => input.responseHeaders),
  TRAILER: (argument) => headerCommand(argument, (input) => input.responseTrailers),
  REQUEST_HEADER: (argument) => headerCommand(argument, (input) => input.requestHeaders),
  RESPONSE_HEADER: (argument) => headerCommand(argument, (input) => input.responseHeaders),
  RESPONSE_TRAILER: (argument) => headerCommand(argument, (input) => input.responseTrailers),
  REQUEST_HEADERS_BYTES: (_) => (input) => input.requestHeaders?.byteSize ?? 0,
  RESPONSE_HEADERS_BYTES: (_) => (input) =>
    input.responseHeaders === undefined ? 0 : input.responseHeaders.byteSize + STATUS_BYTES,
  RESPONSE_TRAILERS_BYTES: (_) => (input) => input.responseTrailers?.byteSize ?? 0,
  GRPC_STATUS: grpcStatus,
  GRPC_STATUS_NUMBER: (_) => grpcStatus('NUMBER'),
  COALESCE: coalesce,
  CEL: (argument) => {
    const evaluate = compileCel(argument, streamAttributes());
    return (input) => celText(evaluate(input));
  },
  TYPED_CEL: (argument) => {
    const evaluate = compileCel(argument, streamAttributes());
    return (input) => celJson(evaluate(input));
  },
  XFCC_VALUE: clientCertificateValue,
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
  QUERY_PARAMS: (_) => (input) => {
    const path = input.requestHeaders?.path ?? '';
    const at = path.indexOf('?');
    if (at < 0) return undefined;
    return path.slice(at + 1);
  },
  PROTOCOL: fixed((info) => info.protocol),
  RESPONSE_CODE: fixed((info) => info.responseCode),
  RESPONSE_CODE_DETAILS: (argument) =>
    argument === 'ALLOW_WHITESPACES'
      ? ({ info }) => info.responseCodeDetails
      : ({ info }) => info.responseCodeDetails.replaceAll(' ', '_'),
  CONNECTION_TERMINATION_DETAILS: fixed(
    (info) => info.connectionTerminationDetails ?? info.connection.terminationDetails,
  ),
  RESPONSE_FLAGS: fixed((info) => info.flags?.join(',') ?? '-'),
  RESPONSE_FLAGS_LONG: fixed((info) => info.flags?.map((flag) => LONG_FLAGS[flag]).join(',') ?? '-'),
  BYTES_RECEIVED: fixed((info) => info.bytesReceived),
  BYTES_SENT: fixed((info) => info.bytesSent),
  DOWNSTREAM_WIRE_BYTES_RECEIVED: fixed((info) => info.headerBytesReceived + info.bytesReceived),
  DOWNSTREAM_WIRE_BYTES_SENT: fixed((info) => info.headerBytesSent + info.bytesSent),
  DOWNSTREAM_HEADER_BYTES_RECEIVED: fixed((info) => info.headerBytesReceived),
  DOWNSTREAM_HEADER_BYTES_SENT: fixed((info) => info.headerBytesSent),
  DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED: (_) => (input) => input.requestHeaders?.byteSize ?? 0,
  DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT: (_) => (input) => input.responseHeaders?.byteSize ?? 0,
  UPSTREAM_WIRE_BYTES_SENT: fixed((info) => info.upstreamHeaderBytesSent + upstreamBody(info, info.bytesReceived)),
  UPSTREAM_WIRE_BYTES_RECEIVED: fixed(
    (info) =>
      info.upstreamHeaderBytesReceived + upstreamBody(info, info.upstreamHeaderBytesReceived > 0 ? info.bytesSent : 0),
  ),
  UPSTREAM_HEADER_BYTES_SENT: fixed((info) => info.upstreamHeaderBytesSent),
  UPSTREAM_HEADER_BYTES_RECEIVED: fixed((info) => info.upstreamHeaderBytesReceived),
  UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT: fixed((info, input) =>
    upstreamBody(info, input.requestHeaders?.byteSize ?? 0),
  ),
  UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED: fixed((info, input) =>
    info.upstreamHeaderBytesReceived > 0 ? (input.responseHeaders?.byteSize ?? 0) : 0,
  ),
  DURATION: fixed((info) => wholeMs(info.startMs, info.endMs)),
  REQUEST_DURATION: fixed((info) => wholeMs(info.startMs, info.requestCompleteMs)),
  REQUEST_TX_DURATION: fixed((info) => wholeMs(info.startMs, info.upstreamLastByteSentMs)),
  RESPONSE_DURATION: fixed((info) => wholeMs(info.startMs, info.upstreamFirstByteReceivedMs)),
  RESPONSE_TX_DURATION: fixed((info) =>
    info.upstreamFirstByteReceivedMs === 0 ? undefined : wholeMs(info.upstreamFirstByteReceivedMs, info.endMs),
  ),
  COMMON_DURATION: commonDuration,
  UPSTREAM_CONNECTION_POOL_READY_DURATION: fixed((info) =>
    info.upstreamReadyMs === 0 ? undefined : wholeMs(info.upstreamAttemptMs, info.upstreamReadyMs),
  ),
  UPSTREAM_HOST: fixed((info) => info.upstreamHost?.text),
  UPSTREAM_HOST_NAME: fixed((info) => info.upstreamHostName || info.upstreamHost?.text),
  UPSTREAM_HOST_NAME_WITHOUT_PORT: fixed((info) => withoutPort(info.upstreamHostName) || info.upstreamHost?.ip),
  UPSTREAM_HOSTS_ATTEMPTED: fixed((info) => tried(info, ({ address }) => address.text)),
  UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT: fixed((info) => tried(info, ({ address }) => address.ip)),
  UPSTREAM_HOST_NAMES_ATTEMPTED: fixed((info) => tried(info, ({ address, hostname: name }) => name || address.text)),
  UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT: fixed((info) =>
    tried(info, ({ address, hostname: name }) => withoutPort(name) || address.ip),
  ),
  UPSTREAM_CONNECTION_ID: fixed((info) => info.upstreamConnection?.id),
  UPSTREAM_CONNECTION_IDS_ATTEMPTED: fixed((info) =>
    info.upstreamConnection === undefined
      ? undefined
      : [...(info.earlierConnectionIds ?? []), info.upstreamConnection.id].join(','),
  ),
  UPSTREAM_REMOTE_ADDRESS: fixed((info) => reachedHost(info)?.text),
  UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: withoutPortCommand((info) => reachedHost(info)),
  UPSTREAM_REMOTE_PORT: fixed((info) => reachedHost(info)?.port),
  UPSTREAM_CLUSTER: fixed((info) => info.upstreamClusterStatName || info.upstreamCluster),
  UPSTREAM_CLUSTER_RAW: fixed((info) => info.upstreamCluster),
  UPSTREAM_LOCAL_ADDRESS: fixed((info) => info.upstreamLocalAddress?.text),
  UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: withoutPortCommand((info) => info.upstreamLocalAddress),
  UPSTREAM_LOCAL_PORT: fixed((info) => info.upstreamLocalAddress?.port),
  UPSTREAM_TRANSPORT_FAILURE_REASON: fixed((info) => info.upstreamTransportFailureReason?.replaceAll(' ', '_')),
  UPSTREAM_REQUEST_ATTEMPT_COUNT: fixed((info) => info.upstreamRequestAttemptCount),
  UPSTREAM_PROTOCOL: fixed((info) => info.upstreamProtocol),
  DOWNSTREAM_REMOTE_ADDRESS: fixed((info) => info.remoteAddress.text),
  DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: withoutPortCommand((info) => info.remoteAddress),
  DOWNSTREAM_REMOTE_PORT: fixed((info) => info.remoteAddress.port),
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS: fixed((info) => directRemote(info).text),
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT: withoutPortCommand(directRemote),
  DOWNSTREAM_DIRECT_REMOTE_PORT: fixed((info) => directRemote(info).port),
  DOWNSTREAM_LOCAL_ADDRESS: fixed(({ connection }) => connection.localAddress.text),
  DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: withoutPortCommand(({ connection }) => connection.localAddress),
  DOWNSTREAM_LOCAL_PORT: fixed(({ connection }) => connection.localAddress.port),
  DOWNSTREAM_DIRECT_LOCAL_ADDRESS: fixed((info) => directLocal(info).text),
  DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT: withoutPortCommand(directLocal),
  DOWNSTREAM_DIRECT_LOCAL_PORT: fixed((info) => directLocal(info).port),
  ...tlsCommands,
  DOWNSTREAM_TRANSPORT_FAILURE_REASON: fixed(({ connection }) =>
    connection.transportFailureReason?.replaceAll(' ', '_'),
  ),
  REQUESTED_SERVER_NAME: requestedServerName,
  CONNECTION_ID: fixed(({ connection }) => connection.id),
  ...connectionCommands,
  STREAM_ID: fixed((info) => info.requestId),
  ROUTE_NAME: fixed((info) => info.routeName),
  VIRTUAL_CLUSTER_NAME: fixed((info) => info.virtualClusterName),
  ROUTE_RESOLUTION_COUNT: fixed((info) => info.routeResolutions),
  ROUTE_RESOLUTION_TIME_US: () => {
    routeTime.wanted = true;
    return ({ info }) => Math.round(info.routeResolutionMs * 1000);
  },
  FILTER_CHAIN_NAME: fixed(({ connection }) => connection.filterChainName),
  ACCESS_LOG_TYPE: fixed((info) => info.accessLogType),
  CUSTOM_FLAGS: fixed((info) => info.customFlags?.join(',')),
  LOCAL_REPLY_BODY: fixed((info) => info.localReplyBody),
  TRACE_ID: fixed((info) => info.traceId),
  SPAN_ID: fixed((info) => info.spanId),
  UNIQUE_ID: () => () => randomUUID(),
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
  DYNAMIC_METADATA: (argument) => metadataCommand(argument, METADATA_OF['DYNAMIC'] as MetadataSource),
  CLUSTER_METADATA: (argument) => metadataCommand(argument, METADATA_OF['CLUSTER'] as MetadataSource),
  UPSTREAM_METADATA: (argument) => metadataCommand(argument, METADATA_OF['UPSTREAM_HOST'] as MetadataSource),
  ROUTE_METADATA: (argument) => metadataCommand(argument, (info, name) => info.routeMetadata?.[name]),
  METADATA: (argument) => {
    const [kind = '', ...rest] = argument.split(':');
    const source = Object.hasOwn(METADATA_OF, kind) ? METADATA_OF[kind] : undefined;
    if (source === undefined) {
      throw new ConfigError('', `"METADATA(${argument})": one of ${Object.keys(METADATA_OF).join(', ')} comes first`);
    }
    return metadataCommand(rest.join(':'), source);
  },
  FILTER_STATE: (argument) => {
    const [key = ''] = argument.split(':');
    return ({ info }) => info.connection.filterState?.get(key) as ReturnType<Command>;
  },
};

/** What is no escape stays as it is. */
function percentDecoded(text: string): string {
  return text.replace(/(?:%[0-9a-f]{2})+/gi, (escapes) =>
    Buffer.from(escapes.replaceAll('%', ''), 'hex').toString('latin1'),
  );
}

/** Known to Envoy 1.40, and nothing here to answer with: they print as absent, as they do there without QUIC and internal listeners. */
export const UNANSWERED: ReadonlySet<string> = new Set([
  'ROUNDTRIP_DURATION',
  'DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID',
  'DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID',
  'UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID',
  'UPSTREAM_FILTER_STATE',
]);

/** @throws {ConfigError} for a command that Envoy does not know either. */
export function commandFor(name: string, argument: string, whole: string): Command {
  const maker = Object.hasOwn(COMMANDS, name) ? COMMANDS[name] : undefined;
  if (maker !== undefined) return maker(argument);
  if (UNANSWERED.has(name)) return () => undefined;
  throw new ConfigError('', `"${whole}": there is no command ${name}`);
}

/** Bytes of bodies pass from one side to the other; none where there was no connection. */
function upstreamBody(info: StreamInfo, bytes: number): number {
  return info.upstreamConnection === undefined ? 0 : bytes;
}

/** `SNI_ONLY`, `SNI_FIRST` or `HOST_FIRST`, and where the host is taken from. */
function requestedServerName(argument: string): Command {
  const [order = 'SNI_ONLY', source = 'ORIG_OR_HOST'] = argument === '' ? [] : argument.split(':');
  if (!['SNI_ONLY', 'SNI_FIRST', 'HOST_FIRST'].includes(order) || !['ORIG', 'HOST', 'ORIG_OR_HOST'].includes(source)) {
    throw new ConfigError(
      '',
      `"REQUESTED_SERVER_NAME(${argument})": SNI_ONLY, SNI_FIRST or HOST_FIRST, then ORIG, HOST or ORIG_OR_HOST are understood`,
    );
  }
  const host = ({ requestHeaders }: FormatInput): string | undefined => {
    const original = source === 'HOST' ? undefined : requestHeaders?.get('x-envoy-original-host');
    return original ?? (source === 'ORIG' ? undefined : requestHeaders?.authority.replace(/:\d+$/, ''));
  };
  return (input) => {
    const name = input.info.connection.requestedServerName;
    if (order === 'SNI_ONLY') return name;
    return order === 'SNI_FIRST' ? (name ?? host(input)) : (host(input) ?? name);
  };
}

/** The first of several commands that has a value: `{"operators": ["A", {"command": "B", "param": "x", "max_length": 5}]}`. */
function coalesce(argument: string): Command {
  const refuse = (says: string): never => {
    throw new ConfigError('', `"COALESCE(${argument.slice(0, 100)})": ${says}`);
  };
  let json: unknown;
  try {
    json = JSON.parse(argument);
  } catch {
    return refuse('its parameter is JSON');
  }
  const operators = (json as { readonly operators?: unknown } | null)?.operators;
  if (!Array.isArray(operators) || operators.length === 0) return refuse('a list of operators is wanted');
  const commands = operators.map((item: unknown): Command => {
    if (typeof item === 'string') return commandFor(item, '', item);
    const { command, param = '', max_length: limit } = (item ?? {}) as Readonly<Record<string, unknown>>;
    if (typeof command !== 'string' || typeof param !== 'string')
      return refuse('each operator is a name, or has a command');
    const found = commandFor(command, param, command);
    if (typeof limit !== 'number') return found;
    return (input) => {
      const value = found(input);
      return typeof value === 'string' ? value.slice(0, limit) : value;
    };
  });
  return (input) => {
    for (const command of commands) {
      const value = command(input);
      if (value !== undefined && value !== '') return value;
    }
    return undefined;
  };
}

/** `NAME?ALTERNATIVE` */
function headerCommand(argument: string, source: (input: FormatInput) => Headers | undefined): Command {
  const [first = '', second] = argument.toLowerCase().split('?');
  return (input) => {
    const headers = source(input);
    return headers?.get(first) ?? (second === undefined ? undefined : headers?.get(second));
  };
}

function metadataCommand(argument: string, source: MetadataSource): Command {
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

/**
 * Envoy's attributes of a stream, for CEL. Times and durations are milliseconds: `duration("1s")` and
 * `timestamp("…")` are too, so comparisons hold. Source: Envoy docs, "Attributes".
 */
import type { FormatInput } from '../../http/formatter.ts';
import { grpcStatusOfHttp } from '../../http/local_reply.ts';
import type { Headers } from '../../http/headers.ts';
import type { SocketAddress, TlsInfo } from '../../net/connection_info.ts';
import type { CelSource } from './evaluator.ts';
import { CEL_ERROR, type CelObject } from './values.ts';

type Read = (input: FormatInput) => unknown;
type Attributes = Readonly<Record<string, Read>>;

const header =
  (name: string): Read =>
  ({ requestHeaders }) =>
    requestHeaders?.joined(name);

/** `:method`, `:path`, `:authority`, `:scheme`. */
const REQUEST_PSEUDO_FIELDS = 4;

/** Envoy counts `:method` and the like among the fields. */
const headers = (map: Headers | undefined, pseudoFields = 0): CelObject | undefined =>
  map === undefined
    ? undefined
    : { get: (name) => map.joined(name.toLowerCase()), size: () => map.fields.length / 2 + pseudoFields };

const metadata = (value: Readonly<Record<string, unknown>> | undefined): unknown =>
  value === undefined ? undefined : { filter_metadata: value };

const address = (value: SocketAddress | undefined): string | undefined => value?.text;
const path: Read = ({ requestHeaders }) => requestHeaders?.path;

const REQUEST: Attributes = {
  path,
  url_path: ({ requestHeaders }) => requestHeaders?.path.split(/[?#]/, 1)[0],
  query: ({ requestHeaders }) => {
    const at = requestHeaders?.path.indexOf('?') ?? -1;
    return at < 0 ? '' : requestHeaders?.path.slice(at + 1).split('#', 1)[0];
  },
  host: ({ requestHeaders }) => requestHeaders?.authority,
  scheme: ({ requestHeaders }) => requestHeaders?.scheme,
  method: ({ requestHeaders }) => requestHeaders?.method,
  headers: ({ requestHeaders }) => headers(requestHeaders, REQUEST_PSEUDO_FIELDS),
  referer: header('referer'),
  useragent: header('user-agent'),
  time: ({ info }) => info.startTimeMs,
  id: ({ info, requestHeaders }) => info.requestId ?? requestHeaders?.get('x-request-id'),
  protocol: ({ info }) => (info.protocol === '' ? undefined : info.protocol),
  duration: ({ info }) => (info.endMs === 0 ? undefined : info.endMs - info.startMs),
  size: ({ info, requestHeaders }) => {
    const length = requestHeaders?.get('content-length');
    return length !== undefined && /^\d+$/.test(length) ? Number(length) : info.bytesReceived;
  },
  total_size: ({ info, requestHeaders }) => info.bytesReceived + (requestHeaders?.byteSize ?? 0),
};

const RESPONSE: Attributes = {
  code: ({ info }) => (info.responseCode === 0 ? undefined : info.responseCode),
  code_details: ({ info }) => (info.responseCodeDetails === '' ? undefined : info.responseCodeDetails),
  flags: ({ info }) => flagBits(info.flags),
  grpc_status: (input) => {
    const status = input.responseTrailers?.get('grpc-status') ?? input.responseHeaders?.get('grpc-status');
    if (status !== undefined && /^\d+$/.test(status)) return Number(status);
    const { responseCode } = input.info;
    return responseCode === 0 ? undefined : grpcStatusOfHttp(responseCode);
  },
  headers: ({ responseHeaders }) => headers(responseHeaders, 1),
  trailers: ({ responseTrailers }) => headers(responseTrailers),
  size: ({ info }) => info.bytesSent,
  total_size: ({ info, responseHeaders, responseTrailers }) =>
    info.bytesSent + (responseHeaders?.byteSize ?? 0) + (responseTrailers?.byteSize ?? 0),
  backend_latency: ({ info }) =>
    info.upstreamFirstByteSentMs === 0 || info.upstreamLastByteReceivedMs === 0
      ? undefined
      : info.upstreamLastByteReceivedMs - info.upstreamFirstByteSentMs,
};

/** Envoy's CoreResponseFlag, by position. */
const FLAG_BITS =
  'LH UH UT LR UR UF UC UO NR DI FI RL UAEX RLSE DC URX SI IH DPE UMSDR RFCF NFCF DT UPE NC OM DF DO DR UDO'.split(' ');

function flagBits(flags: readonly string[] | undefined): number {
  let bits = 0;
  for (const flag of flags ?? []) {
    const bit = FLAG_BITS.indexOf(flag);
    if (bit >= 0) bits += 2 ** bit;
  }
  return bits;
}

function tlsAttributes(side: (input: FormatInput) => TlsInfo | undefined): Attributes {
  return {
    tls_version: (input) => side(input)?.version,
    subject_local_certificate: (input) => side(input)?.localSubject || undefined,
    subject_peer_certificate: (input) => side(input)?.peerSubject || undefined,
    dns_san_local_certificate: (input) => side(input)?.localDnsSans[0],
    dns_san_peer_certificate: (input) => side(input)?.peerDnsSans[0],
    uri_san_local_certificate: (input) => side(input)?.localUriSans[0],
    uri_san_peer_certificate: (input) => side(input)?.peerUriSans[0],
    sha256_peer_certificate_digest: (input) => side(input)?.peerFingerprint || undefined,
  };
}

const ROOTS: Readonly<Record<string, Attributes>> = {
  request: REQUEST,
  response: RESPONSE,
  source: {
    address: ({ info }) => address(info.remoteAddress),
    port: ({ info }) => info.remoteAddress.port,
  },
  destination: {
    address: ({ info }) => address(info.connection.localAddress),
    port: ({ info }) => info.connection.localAddress.port,
  },
  connection: {
    id: ({ info }) => info.connection.id,
    mtls: ({ info }) => info.connection.tls?.mutual === true,
    requested_server_name: ({ info }) => info.connection.requestedServerName ?? '',
    termination_details: ({ info }) => info.connectionTerminationDetails ?? info.connection.terminationDetails,
    transport_failure_reason: ({ info }) => info.connection.transportFailureReason,
    ...tlsAttributes(({ info }) => info.connection.tls),
  },
  upstream: {
    address: ({ info }) => address(info.upstreamHost),
    port: ({ info }) => info.upstreamHost?.port,
    local_address: ({ info }) => address(info.upstreamLocalAddress),
    transport_failure_reason: ({ info }) => info.upstreamTransportFailureReason,
    request_attempt_count: ({ info }) => info.upstreamRequestAttemptCount,
    ...tlsAttributes(({ info }) => info.upstreamTls),
  },
  xds: {
    cluster_name: ({ info }) => info.upstreamCluster,
    cluster_metadata: ({ info }) => metadata(info.upstreamClusterMetadata),
    route_name: ({ info }) => info.routeName,
    route_metadata: ({ info }) => metadata(info.routeMetadata),
    virtual_host_name: ({ info }) => info.virtualHostName,
    virtual_host_metadata: ({ info }) => metadata(info.virtualHostMetadata),
    listener_metadata: ({ info }) => metadata(info.connection.listenerMetadata),
    upstream_host_metadata: ({ info }) => metadata(info.upstreamHostMetadata),
    filter_chain_name: ({ info }) => info.connection.filterChainName,
  },
};

const NOTHING: ReadonlyMap<string, unknown> = new Map();

/** A protobuf map is there, and `has` is false, while it is empty. */
function dynamicMetadata(map: ReadonlyMap<string, unknown>): CelObject {
  return {
    get: (name) => (name === 'filter_metadata' ? map : undefined),
    has: (name) => name === 'filter_metadata' && map.size > 0,
  };
}

/** Roots that are one value. */
const WHOLE: Attributes = {
  metadata: ({ info }) => dynamicMetadata(info.dynamicMetadata ?? NOTHING),
  filter_state: ({ info }) => info.connection.filterState ?? new Map(),
  upstream_filter_state: () => new Map(),
};

const absent =
  (read: Read): Read =>
  (input) =>
    read(input) ?? CEL_ERROR;

/** Roots besides Envoy's: istio.stats adds `node`, `source_peer` and the like. */
export function streamAttributes(more: Attributes = {}): CelSource<FormatInput> {
  return {
    root(name) {
      if (Object.hasOwn(more, name)) return absent(more[name] as Read);
      if (Object.hasOwn(WHOLE, name)) return absent(WHOLE[name] as Read);
      const root = Object.hasOwn(ROOTS, name) ? ROOTS[name] : undefined;
      if (root === undefined) return undefined;
      return (input) => ({ get: (field: string) => (Object.hasOwn(root, field) ? root[field]?.(input) : undefined) });
    },
    field(rootName, name) {
      const root = Object.hasOwn(ROOTS, rootName) ? ROOTS[rootName] : undefined;
      const read = root !== undefined && Object.hasOwn(root, name) ? root[name] : undefined;
      return read === undefined ? undefined : absent(read);
    },
  };
}

/** What one stream has been through: filled along the way, read by access log, statistics and header formatters. */
import type { ConnectionInfo, SocketAddress, TlsInfo } from '../net/connection_info.ts';
import type { GrpcMessages } from './grpc_message_counter.ts';
import type { ResponseFlag } from '../failures.ts';
import type { OverrideHost } from '../load_balancers/load_balancer.ts';
import type { Peer } from '../telemetry/peer.ts';
import type { AlpnOverride } from '../upstream/cluster.ts';

/** Milliseconds are `performance.now()` values unless the name says otherwise; 0 means not reached. */
export class StreamInfo {
  readonly connection: ConnectionInfo;
  /** The client's address: what x-forwarded-for says where it is trusted, else the connection's. */
  remoteAddress: SocketAddress;
  /** Epoch milliseconds of the first byte. */
  readonly startTimeMs: number;
  readonly startMs: number;
  protocol: 'HTTP/1.0' | 'HTTP/1.1' | 'HTTP/2' | '' = 'HTTP/1.1';
  /** 0 until response headers were sent; stays 0 when the client left before. */
  responseCode = 0;
  responseCodeDetails = '';
  flags: ResponseFlag[] | undefined = undefined;
  /** Body bytes. */
  bytesReceived = 0;
  bytesSent = 0;
  /** Wire bytes, heads included. */
  headerBytesReceived = 0;
  headerBytesSent = 0;
  requestHeadMs = 0;
  requestCompleteMs = 0;
  upstreamFirstByteSentMs = 0;
  upstreamLastByteSentMs = 0;
  upstreamFirstByteReceivedMs = 0;
  upstreamLastByteReceivedMs = 0;
  firstByteSentMs = 0;
  endMs = 0;
  upstreamHost: SocketAddress | undefined = undefined;
  /** As the cluster calls it: a DNS name, or ''. */
  upstreamHostName = '';
  /** Hosts tried before `upstreamHost`. */
  earlierHosts: TriedHost[] | undefined = undefined;
  /** The connection on which the request went last. */
  upstreamConnection: ConnectionInfo | undefined = undefined;
  earlierConnectionIds: number[] | undefined = undefined;
  /** When the last attempt was made, and when it had its connection. */
  upstreamAttemptMs = 0;
  upstreamReadyMs = 0;
  /** Of heads, on the wire to and from the host. */
  upstreamHeaderBytesSent = 0;
  upstreamHeaderBytesReceived = 0;
  upstreamLocalAddress: SocketAddress | undefined = undefined;
  /** The cluster's name as configured (%UPSTREAM_CLUSTER_RAW%). */
  upstreamCluster: string | undefined = undefined;
  /** alt_stat_name if any (%UPSTREAM_CLUSTER%). */
  upstreamClusterStatName: string | undefined = undefined;
  upstreamTransportFailureReason: string | undefined = undefined;
  /** Of the connection to the host; undefined: plain text, or none yet. */
  upstreamTls: TlsInfo | undefined = undefined;
  upstreamProtocol: string | undefined = undefined;
  /** Who the client and the server say they are; undefined: they said nothing that could be read. */
  downstreamPeer: Peer | undefined = undefined;
  upstreamPeer: Peer | undefined = undefined;
  /** Offered instead of the cluster's ALPN list; set by istio.alpn. */
  upstreamAlpn: AlpnOverride | undefined = undefined;
  /** Where the first attempt goes, if that host is there; set by stateful_session. */
  overrideHost: OverrideHost | undefined = undefined;
  upstreamRequestAttemptCount = 0;
  /** `istio` and other metadata of the chosen cluster and host, for labels. */
  upstreamClusterMetadata: Metadata | undefined = undefined;
  upstreamHostMetadata: Metadata | undefined = undefined;
  routeName = '';
  virtualHostName = '';
  virtualHostMetadata: Metadata | undefined = undefined;
  routeMetadata: Metadata | undefined = undefined;
  requestId: string | undefined = undefined;
  /** The request's own x-envoy-* headers count. */
  internal = false;
  /** Dynamic metadata by namespace. */
  dynamicMetadata: Map<string, Record<string, unknown>> | undefined = undefined;
  /** Path before rewriting. */
  originalPath: string | undefined = undefined;
  connectionTerminationDetails: string | undefined = undefined;
  /** Of an answer that was made here. */
  localReplyBody = '';
  virtualClusterName = '';
  /** To another protocol, or CONNECT: counted while it lasts. */
  upgraded = false;
  /** Hexadecimal, of the span; '' without tracing. */
  traceId = '';
  spanId = '';
  routeResolutions = 0;
  /** Spent on finding the route, all times together; measured only when a format asks (`routeTime.wanted`). */
  routeResolutionMs = 0;
  /** Counted by grpc_stats. */
  grpcMessages: GrpcMessages | undefined = undefined;
  /** Events that filters name (%CUSTOM_FLAGS%). */
  customFlags: string[] | undefined = undefined;
  /** When the access log writes: envoy.data.accesslog.v3.AccessLogType in the words of %ACCESS_LOG_TYPE%. */
  accessLogType = 'DownstreamEnd';

  constructor(connection: ConnectionInfo, startTimeMs: number, startMs: number) {
    this.connection = connection;
    this.remoteAddress = connection.remoteAddress;
    this.startTimeMs = startTimeMs;
    this.startMs = startMs;
  }

  /** Another attempt goes elsewhere. Source: Envoy Router::Filter::overrideHostToSelect. */
  hostOfSession(): OverrideHost | undefined {
    return this.upstreamRequestAttemptCount > 1 ? undefined : this.overrideHost;
  }

  headReceived(wireBytes: number, nowMs: number): void {
    this.headerBytesReceived = wireBytes;
    this.requestHeadMs = nowMs;
  }

  clusterChosen(cluster: {
    readonly name: string;
    readonly altStatName: string;
    readonly metadata: Metadata | undefined;
  }): void {
    this.upstreamCluster = cluster.name;
    this.upstreamClusterStatName = cluster.altStatName;
    this.upstreamClusterMetadata = cluster.metadata;
  }

  hostChosen(host: TriedHost & { readonly metadata: Metadata | undefined }, nowMs: number): void {
    if (this.upstreamHost !== undefined) {
      this.earlierHosts ??= [];
      this.earlierHosts.push({ address: this.upstreamHost, hostname: this.upstreamHostName });
    }
    this.upstreamHost = host.address;
    this.upstreamHostName = host.hostname;
    this.upstreamHostMetadata = host.metadata;
    this.upstreamAttemptMs = nowMs;
  }

  connectionReady(connection: ConnectionInfo, protocol: string, nowMs: number): void {
    if (this.upstreamConnection !== undefined) {
      this.earlierConnectionIds ??= [];
      this.earlierConnectionIds.push(this.upstreamConnection.id);
    }
    this.upstreamConnection = connection;
    this.upstreamLocalAddress = connection.localAddress;
    this.upstreamTls = connection.tls;
    this.upstreamProtocol = protocol;
    this.upstreamReadyMs = nowMs;
    this.upstreamFirstByteSentMs = nowMs;
  }

  /** Of several attempts at the same time this one has the answer: it is the one that is told of. */
  answeredBy(
    host: TriedHost & { readonly metadata: Metadata | undefined },
    connection: ConnectionInfo,
    protocol: string,
    readyMs: number,
  ): void {
    this.upstreamHost = host.address;
    this.upstreamHostName = host.hostname;
    this.upstreamHostMetadata = host.metadata;
    this.upstreamConnection = connection;
    this.upstreamLocalAddress = connection.localAddress;
    this.upstreamTls = connection.tls;
    this.upstreamProtocol = protocol;
    this.upstreamReadyMs = readyMs;
    this.upstreamFirstByteSentMs = readyMs;
  }

  /** What the route table found. */
  routed(
    route:
      | {
          readonly name: string;
          readonly virtualHostName: string;
          readonly virtualHostMetadata: Metadata | undefined;
          readonly metadata: Metadata | undefined;
        }
      | undefined,
  ): void {
    this.routeResolutions++;
    if (route === undefined) return;
    this.routeName = route.name;
    this.virtualHostName = route.virtualHostName;
    this.virtualHostMetadata = route.virtualHostMetadata;
    this.routeMetadata = route.metadata;
  }

  /** A local reply. */
  answeredHere(details: string, body: string): void {
    this.responseCodeDetails = details;
    this.localReplyBody = body;
  }

  addFlag(flag: ResponseFlag): void {
    if (flag === '') return;
    if (this.flags === undefined) this.flags = [flag];
    else if (!this.flags.includes(flag)) this.flags.push(flag);
  }
}

/** A host that a request was sent to, or would have been. */
export interface TriedHost {
  readonly address: SocketAddress;
  readonly hostname: string;
}

/** filter_metadata by namespace, protobuf Struct as plain JSON. */
export type Metadata = Readonly<Record<string, Readonly<Record<string, unknown>>>>;

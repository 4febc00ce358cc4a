/** The contract between whoever sends requests upstream (router, internal calls) and the connections to one host. */
import type { ResetReason, StreamDecoder, StreamEncoder } from '../http/codec.ts';
import type { Http2Config } from '../http/http2_config.ts';
import type { ConnectionInfo } from '../net/connection_info.ts';
import type { DeadlineList } from '../net/deadlines.ts';
import type { OriginalSource } from '../net/original_source.ts';
import type { SocketOptions } from '../net/socket_options.ts';
import type { UpstreamTransport } from '../net/tls/upstream_tls.ts';
import type { Breaker } from './circuit_breakers.ts';
import type { ClusterStatistics } from './cluster_statistics.ts';
import type { Host } from './host.ts';

/** What a connection speaks, as the access log prints it (%UPSTREAM_PROTOCOL%). */
export type HttpProtocol = 'HTTP/1.1' | 'HTTP/2';

/** A request that wants a connection, and then the decoder of its response. */
export interface PoolRequest extends StreamDecoder {
  /** It has met dead connections: it wants a new one. */
  readonly distrustsIdle?: boolean;
  /** `reused`: the connection has served before, so the peer may have closed it unseen. */
  poolReady(encoder: StreamEncoder, connection: ConnectionInfo, reused: boolean, protocol: HttpProtocol): void;
  poolFailed(reason: ResetReason, detail: string): void;
}

/** The connections of one thread to one host. */
export interface Pool {
  /** Connections of any state. */
  readonly connections: number;
  readonly isEmpty: boolean;
  /** Answers at once when a connection has room, else later, or with poolFailed. */
  request(request: PoolRequest): void;
  /** The request no longer wants what it asked for. @returns whether it was still waiting. */
  cancel(request: PoolRequest): boolean;
  /** The host has gone: idle connections close now, busy ones after their responses. */
  drain(): void;
  /** Everything ends now. */
  destroy(): void;
}

export interface PoolOptions {
  /** Asked before a new connection: whether there is too much to do for one. */
  sheds(): boolean;
  /** auto: each connection speaks what ALPN chose, HTTP/1.1 without. */
  readonly protocol: 'http1' | 'http2' | 'auto' | 'tcp';
  readonly host: Host;
  readonly breaker: Breaker;
  readonly statistics: ClusterStatistics;
  readonly connectTimeout: DeadlineList;
  readonly connectTimeoutMs: number;
  /** undefined: connections stay until the peer closes them. */
  readonly idleTimeout: DeadlineList | undefined;
  /** 0: no limit. */
  readonly maxRequestsPerConnection: number;
  readonly maxHeadersCount: number;
  /** undefined: connections last as long as they are used. */
  readonly maxConnectionDuration: DeadlineList | undefined;
  readonly http2: Http2Config;
  readonly socket: SocketOptions;
  /** undefined: the bytes as they are. */
  readonly transport: UpstreamTransport | undefined;
  /** What a connection begins with, before TLS too. */
  readonly first: ((own: ConnectionInfo) => Buffer) | undefined;
  /** Whose address connections come from; undefined: as `socket` says. */
  readonly from: OriginalSource | undefined;
  readonly deadlines: { list(durationMs: number): DeadlineList };
  nowMs(): number;
}

/**
 * One proxied TCP connection.
 *
 *   connecting ─ opened ─► relaying ─ both ended, reset, idle, too old ─► over
 *      │ ▲                                                               ▲
 *      │ └─ failed, attempts left ─┘                                     │
 *      └─ no cluster, no host, over a limit, attempts used up ───────────┘
 */
import type { ResponseFlag } from '../failures.ts';
import type { ResetReason } from '../http/codec.ts';
import { RequestHeaders } from '../http/headers.ts';
import type { Metadata, StreamInfo } from '../http/stream_info.ts';
import { xxHash64OfText } from '../load_balancers/xx_hash64.ts';
import type { ByteStream } from '../net/byte_stream.ts';
import type { ConnectionInfo, SocketAddress } from '../net/connection_info.ts';
import { Deadline } from '../net/deadlines.ts';
import type { ConnectionOwner, TerminalConnection } from '../net/network_filter.ts';
import type { Cluster, ClusterRequest } from '../upstream/cluster.ts';
import type { Host } from '../upstream/host.ts';
import { Relay, type RelayObserver, type Side } from './relay.ts';
import { CLUSTER_STATE_KEY, DYNAMIC_HOST_KEY, DYNAMIC_PORT_KEY } from './state_keys.ts';
import type { TunnelConfig } from './tcp_proxy_config.ts';
import type { TcpProxyRuntime } from './tcp_proxy_runtime.ts';
import {
  TcpUpstream,
  tunnelRequest,
  TunnelUpstream,
  type UpstreamAttempt,
  type UpstreamCallbacks,
} from './tcp_upstream.ts';

/** What a client may send before there is an upstream; then it is not read until there is one. */
const MAX_EARLY_BYTES = 65_536;
/** TCP has no headers to choose a host by. */
const NO_HEADERS = new RequestHeaders();

export class TcpProxyConnection implements ConnectionOwner, ClusterRequest, RelayObserver, UpstreamCallbacks {
  onClosed: (() => void) | undefined = undefined;
  readonly requestHeaders: RequestHeaders;
  readonly originalDestination: SocketAddress;
  readonly metadataMatch: Metadata | undefined;
  hashHigh = 0;
  hashLow = 0;
  hasHash = false;
  attempt = 0;
  readonly #down: ByteStream;
  readonly #runtime: TcpProxyRuntime;
  readonly #info: StreamInfo;
  readonly #clusterName: string;
  #cluster: Cluster | undefined = undefined;
  #host: Host | undefined = undefined;
  #chosen: Host | undefined = undefined;
  #upstream: UpstreamAttempt | undefined = undefined;
  #relay: Relay | undefined = undefined;
  #upstreamInfo: ConnectionInfo | undefined = undefined;
  #early: Buffer[] | undefined = undefined;
  #earlyBytes = 0;
  #earlyEnd = false;
  #earlyPaused = false;
  #backoff: NodeJS.Timeout | undefined = undefined;
  #idle: Deadline | undefined = undefined;
  #deadlines: Deadline[] = [];
  #draining = false;
  /** We have said that it ends. */
  #ending = false;
  /** It has ended. */
  #done = false;

  constructor(down: ByteStream, runtime: TcpProxyRuntime, connection: TerminalConnection) {
    this.#down = down;
    this.#runtime = runtime;
    this.#info = connection.info;
    this.originalDestination = down.info.localAddress;
    this.requestHeaders = dynamicHost(down.info.filterState);
    const chosen = runtime.choose();
    const named = down.info.filterState?.get(CLUSTER_STATE_KEY);
    this.#clusterName = typeof named === 'string' ? named : chosen.cluster;
    this.metadataMatch = chosen.metadataMatch;
    this.#hash();
    runtime.statistics.cxTotal.inc();
    down.onData = (bytes) => this.#receivedEarly(bytes);
    down.onEnd = () => {
      this.#earlyEnd = true;
    };
    down.onClose = () => this.#leftEarly();
    const { maxDurationMs } = runtime;
    if (maxDurationMs > 0) this.#limitDuration(maxDurationMs);
    this.#connect();
  }

  get activeCount(): number {
    return this.#ending ? 0 : 1;
  }

  /** Goes on for the drain time, then ends. */
  drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    const { drainTimeMs, deadlines } = this.#runtime.services;
    if (drainTimeMs === 0) this.#end('flush');
    else this.#after(drainTimeMs, deadlines, () => this.#end('flush'));
  }

  destroy(): void {
    this.#end('reset');
  }

  shouldSkip(_host: Host): boolean {
    return false;
  }

  // ── connecting ──────────────────────────────────────────────────────────────────────────────────────────────────

  #connect(): void {
    const { services, config } = this.#runtime;
    const cluster = services.clusters.get(this.#clusterName);
    if (cluster === undefined) {
      this.#runtime.statistics.cxNoRoute.inc();
      this.#info.upstreamCluster = this.#clusterName;
      return this.#fail('NC');
    }
    this.#cluster = cluster;
    this.#info.upstreamCluster = cluster.name;
    this.#info.upstreamClusterStatName = cluster.altStatName;
    this.#info.upstreamClusterMetadata = cluster.metadata;
    if (this.attempt >= config.maxConnectAttempts) {
      cluster.statistics.cxConnectAttemptsExceeded.inc();
      return this.#fail('URX');
    }
    const looking = cluster.resolve?.(this);
    if (looking === undefined) return this.#choose(cluster);
    looking.then((failure) => {
      if (this.#ending || this.#done) return;
      if (failure === undefined) this.#choose(cluster);
      else this.#fail(failure.flag);
    });
  }

  #choose(cluster: Cluster): void {
    const { config } = this.#runtime;
    const host = cluster.chooseHost(this);
    if (host === undefined) {
      cluster.statistics.cxNoneHealthy.inc();
      return this.#fail('UH');
    }
    this.#host = host;
    this.#info.upstreamHost = host.address;
    this.#info.upstreamHostMetadata = host.metadata;
    this.attempt++;
    this.#info.upstreamRequestAttemptCount = this.attempt;
    const owner = cluster.ownerOf?.(host) ?? cluster;
    this.#cluster = owner;
    if (config.tunnel === undefined) this.#open(owner, host);
    else this.#tunnel(owner, host, config.tunnel);
  }

  #open(cluster: Cluster, host: Host): void {
    const options = cluster.connectionOptions(host, 'default', undefined, this.#info.connection);
    if (!options.breaker.tryAcquire('connections')) {
      cluster.statistics.cxOverflow.inc();
      return this.#fail('UO');
    }
    this.#chosen = host;
    const upstream = new TcpUpstream(options, this);
    this.#upstream = upstream;
    upstream.start();
  }

  #tunnel(cluster: Cluster, host: Host, tunnel: TunnelConfig): void {
    const pool = cluster.pool(host, 'default', 'HTTP/1.1', undefined, this.#info.connection);
    const input = {
      info: this.#info,
      requestHeaders: undefined,
      responseHeaders: undefined,
      responseTrailers: undefined,
    };
    const request = tunnelRequest(tunnel.method, tunnel.hostname.format(input), tunnel.path);
    tunnel.headers?.apply(request, input);
    const upstream = new TunnelUpstream(pool, request, this);
    this.#upstream = upstream;
    upstream.start();
  }

  opened(stream: ByteStream): void {
    this.#upstream = undefined;
    if (this.#host !== undefined) this.#cluster?.outlier?.connected(this.#host);
    if (this.#chosen !== undefined) this.#cluster?.outlier?.connected(this.#chosen);
    const info = this.#info;
    info.upstreamConnection = stream.info;
    info.upstreamLocalAddress = stream.info.localAddress;
    info.upstreamTls = stream.info.tls;
    this.#upstreamInfo = stream.info;
    info.upstreamConnection = stream.info;
    const relay = new Relay(this.#down, stream, this);
    this.#relay = relay;
    const { idle, config, accessLogs } = this.#runtime;
    if (idle !== undefined) {
      this.#idle = new Deadline(() => {
        this.#runtime.statistics.idleTimeout.inc();
        this.#closesBecause('tcp_session_idle_timeout');
        this.#end('flush');
      });
      this.#deadlines.push(this.#idle);
      idle.arm(this.#idle);
    }
    if (config.logOnConnected) {
      info.accessLogType = 'TcpUpstreamConnected';
      for (const log of accessLogs) log.log(this.#logInput());
    }
    const early = this.#early;
    this.#early = undefined;
    for (const bytes of early ?? []) relay.fromClient(bytes);
    if (this.#earlyEnd) relay.clientEnded();
    if (this.#earlyPaused) this.#down.readDisable(false);
  }

  failed(reason: ResetReason, detail: string): void {
    this.#upstream = undefined;
    if (this.#chosen !== undefined && reason !== 'overflow') {
      this.#cluster?.outlier?.local(this.#chosen, 'connect_failed');
    }
    const { config } = this.#runtime;
    if (detail !== '') this.#info.upstreamTransportFailureReason = detail;
    this.#info.addFlag(reason === 'overflow' ? 'UO' : 'UF');
    if (reason === 'overflow') return this.#fail('UO');
    if (this.#host !== undefined) {
      this.#cluster?.outlier?.local(this.#host, reason === 'connection timeout' ? 'timeout' : 'connect_failed');
    }
    const { backoffBaseMs: base, backoffMaxMs: most } = config;
    if (base === 0 || this.attempt >= config.maxConnectAttempts) return this.#connect();
    const ceiling = Math.min(most, base * 2 ** (this.attempt - 1));
    const delayMs = Math.floor(this.#runtime.services.random() * ceiling);
    this.#backoff = setTimeout(() => this.#connect(), delayMs);
  }

  /** Both sides. */
  #closesBecause(reason: string): void {
    this.#down.info.localCloseReason = reason;
    if (this.#upstreamInfo !== undefined) this.#upstreamInfo.localCloseReason = reason;
  }

  #fail(flag: ResponseFlag): void {
    this.#down.info.localCloseReason = `tcp_initializion_failure:${FAILURE_NUMBERS[flag] ?? CONNECT_FAILED}`;
    this.#info.addFlag(flag);
    this.#end('flush');
  }

  #receivedEarly(bytes: Buffer): void {
    if (this.#ending) return;
    if (this.#early === undefined) {
      this.#early = [];
      this.#runtime.statistics.earlyData.inc();
    }
    this.#early.push(Buffer.from(bytes));
    this.#earlyBytes += bytes.length;
    if (this.#earlyBytes < MAX_EARLY_BYTES || this.#earlyPaused) return;
    this.#earlyPaused = true;
    this.#down.readDisable(true);
  }

  #leftEarly(): void {
    clearTimeout(this.#backoff);
    this.#upstream?.abort();
    this.#upstream = undefined;
    if (!this.#ending && this.#info.flags === undefined) this.#info.addFlag('DC');
    this.over(undefined);
  }

  // ── relaying ────────────────────────────────────────────────────────────────────────────────────────────────────

  sent(bytes: number): void {
    this.#info.bytesReceived += bytes;
    this.#runtime.statistics.rxBytes.add(bytes);
    // A tunnel's pool counts what goes over its connections.
    if (this.#runtime.config.tunnel === undefined) this.#cluster?.statistics.cxTxBytes.add(bytes);
    if (this.#idle !== undefined) this.#runtime.idle?.arm(this.#idle);
  }

  received(bytes: number): void {
    this.#info.bytesSent += bytes;
    this.#runtime.statistics.txBytes.add(bytes);
    if (this.#runtime.config.tunnel === undefined) this.#cluster?.statistics.cxRxBytes.add(bytes);
    if (this.#idle !== undefined) this.#runtime.idle?.arm(this.#idle);
  }

  paused(side: Side): void {
    if (side === 'downstream') this.#runtime.statistics.flowPaused.inc();
  }

  resumed(side: Side): void {
    if (side === 'downstream') this.#runtime.statistics.flowResumed.inc();
  }

  over(cut: { readonly side: Side } | undefined): void {
    if (this.#done) return;
    this.#done = true;
    this.#ending = true;
    for (const deadline of this.#deadlines) deadline.cancel();
    const info = this.#info;
    info.upstreamPeer = this.#upstreamInfo?.peer;
    if (cut !== undefined && info.flags === undefined) info.addFlag(cut.side === 'upstream' ? 'UR' : 'DR');
    info.connectionTerminationDetails ??= info.connection.terminationDetails;
    info.endMs = this.#runtime.services.nowMs();
    info.accessLogType = 'TcpConnectionEnd';
    for (const log of this.#runtime.accessLogs) log.log(this.#logInput());
    this.onClosed?.();
  }

  // ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────────

  #end(how: 'flush' | 'reset'): void {
    if (this.#ending) return;
    this.#ending = true;
    if (this.#relay !== undefined) {
      this.#relay.close(how);
      return;
    }
    clearTimeout(this.#backoff);
    this.#upstream?.abort();
    this.#upstream = undefined;
    this.#down.close(how);
  }

  #limitDuration(limitMs: number): void {
    this.#after(limitMs, this.#runtime.services.deadlines, () => {
      this.#runtime.statistics.maxDuration.inc();
      this.#closesBecause('max_connection_duration_reached');
      this.#info.addFlag('DT');
      this.#end('flush');
    });
  }

  #after(ms: number, deadlines: TcpProxyRuntime['services']['deadlines'], then: () => void): void {
    const deadline = new Deadline(then);
    this.#deadlines.push(deadline);
    deadlines.list(ms).arm(deadline);
  }

  #hash(): void {
    const { hashPolicy } = this.#runtime.config;
    if (hashPolicy === undefined) return;
    const { remoteAddress, filterState } = this.#down.info;
    const key = hashPolicy.kind === 'source_ip' ? remoteAddress.ip : filterState?.get(hashPolicy.key);
    if (typeof key !== 'string' || key === '') return;
    const { high, low } = xxHash64OfText(key);
    this.hashHigh = high;
    this.hashLow = low;
    this.hasHash = true;
  }

  #logInput() {
    return {
      info: this.#info,
      requestHeaders: undefined,
      responseHeaders: undefined,
      responseTrailers: undefined,
    };
  }
}

/** Envoy's UpstreamFailureReason, by number, behind a word as Envoy spells it. */
const CONNECT_FAILED = 0;
const FAILURE_NUMBERS: Readonly<Partial<Record<ResponseFlag, number>>> = { UH: 1, UO: 2, NC: 3 };

/** As the authority of a request: that is what such clusters go by. */
function dynamicHost(state: ReadonlyMap<string, unknown> | undefined): RequestHeaders {
  const host = state?.get(DYNAMIC_HOST_KEY);
  const port = state?.get(DYNAMIC_PORT_KEY);
  if (typeof host !== 'string' || typeof port !== 'number') return NO_HEADERS;
  const headers = new RequestHeaders();
  headers.authority = `${host}:${port}`;
  return headers;
}

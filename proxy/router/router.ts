/** The router: route → cluster → host → pool, and the response back. Envoy: envoy.extensions.filters.http.router.v3. */
import { type Failure, failureOfReset, failures } from '../failures.ts';
import type { ResetReason } from '../http/codec.ts';
import type { Headers, RequestHeaders, ResponseHeaders } from '../http/headers.ts';
import type { RequestSink, TerminalContext, TerminalFilter } from '../http/terminal.ts';
import type { ConnectionInfo } from '../net/connection_info.ts';
import { Deadline, type Deadlines } from '../net/deadlines.ts';
import type { Counter } from '../telemetry/statistics.ts';
import type { Cluster, ClusterRequest, TransportWish } from '../upstream/cluster.ts';
import type { ClusterLookup } from '../upstream/cluster_lookup.ts';
import { KeptBody } from './kept_body.ts';
import { rewriteHost } from './rewrite.ts';
import type { ForwardAction, HashOutput, Route } from './route.ts';
import { UpstreamRequest, type UpstreamRequestOwner } from './upstream_request.ts';

export interface RouterConfig {
  /** Default false: x-envoy-upstream-service-time and its kind are added. */
  readonly suppressEnvoyHeaders: boolean;
}

export interface RouterStatistics {
  readonly rqTotal: Counter;
  readonly noRoute: Counter;
  readonly noCluster: Counter;
  readonly rqRedirect: Counter;
  readonly rqDirectResponse: Counter;
}

export interface RouterDeps {
  readonly clusters: ClusterLookup;
  readonly deadlines: Deadlines;
  readonly statistics: RouterStatistics;
  nowMs(): number;
}

/** Until a connection is there, at most this much body waits before reading stops. */
const EARLY_BODY_BYTES = 65_536;
/** Bodies up to this size can be sent again when a kept-alive connection turns out to be dead. */
const REPLAY_BYTES = 65_536;
/** How often a request moves to another connection because the one it got was dead. */
const MAX_DEAD_CONNECTIONS = 3;

const IDEMPOTENT = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE']);

/** Makes the terminal filter of a connection manager on one thread. */
export function createRouter(config: RouterConfig, deps: RouterDeps): TerminalFilter {
  return { open: (stream) => new RoutedRequest(stream, config, deps) };
}

class RoutedRequest implements RequestSink, UpstreamRequestOwner, ClusterRequest, TransportWish {
  readonly #stream: TerminalContext;
  readonly #config: RouterConfig;
  readonly #deps: RouterDeps;
  requestHeaders!: RequestHeaders; // Set by headers(), the first call of every request.
  body!: KeptBody; // Set with them.
  responsePauses = 0;
  #route: Route | undefined = undefined;
  #forward!: ForwardAction; // Set with the route, before anything is sent.
  #cluster: Cluster | undefined = undefined;
  #attempt: UpstreamRequest | undefined = undefined;
  #deadConnections = 0;
  #downstreamPaused = false;
  #responseStarted = false;
  #done = false;
  #timeout: Deadline | undefined = undefined;
  #hash: HashOutput | undefined = undefined;
  hasHash = false;

  constructor(stream: TerminalContext, config: RouterConfig, deps: RouterDeps) {
    this.#stream = stream;
    this.#config = config;
    this.#deps = deps;
  }

  // ── LoadBalancerContext ─────────────────────────────────────────────────────────────────────────────────────────

  get hashHigh(): number {
    return this.#hash?.high ?? 0;
  }

  get hashLow(): number {
    return this.#hash?.low ?? 0;
  }

  get attempt(): number {
    return 0;
  }

  get metadataMatch() {
    return this.#forward.metadataMatch;
  }

  // ── TransportWish ───────────────────────────────────────────────────────────────────────────────────────────────

  get upstreamAlpn(): readonly string[] | undefined {
    return this.#stream.info.upstreamAlpn;
  }

  get authority(): string {
    return this.requestHeaders.authority;
  }

  get originalDestination(): { readonly ip: string; readonly port: number } {
    return this.#stream.connection.localAddress;
  }

  shouldSkip(): boolean {
    return false;
  }

  // ── from the stream ─────────────────────────────────────────────────────────────────────────────────────────────

  headers(headers: RequestHeaders, endStream: boolean): void {
    const stream = this.#stream;
    const { statistics } = this.#deps;
    this.requestHeaders = headers;
    this.body = new KeptBody(endStream);
    statistics.rqTotal.inc();
    const route = stream.route();
    if (route === undefined) {
      statistics.noRoute.inc();
      return this.#fail(failures.noRoute);
    }
    this.#route = route;
    if (route.directResponse !== undefined) return this.#answerDirectly(route);
    if (route.redirect !== undefined) return this.#redirect(route);
    const forward = route.forward as ForwardAction; // Exactly one of the three is there.
    this.#forward = forward;
    const name = forward.clusterName(headers);
    const cluster = name === undefined ? undefined : this.#deps.clusters.get(name);
    if (cluster === undefined) {
      statistics.noCluster.inc();
      const failure: Failure = { ...failures.clusterNotFound, status: forward.clusterNotFoundStatus };
      return this.#fail(failure);
    }
    this.#cluster = cluster;
    stream.info.upstreamCluster = cluster.name;
    stream.info.upstreamClusterStatName = cluster.altStatName;
    stream.info.upstreamClusterMetadata = cluster.metadata;
    if (forward.idleTimeoutMs !== undefined) stream.setIdleTimeout(forward.idleTimeoutMs);
    if (forward.hashPolicy !== undefined) {
      this.#hash = { high: 0, low: 0, setCookies: undefined };
      this.hasHash = forward.hashPolicy.hash(headers, stream.info, this.#hash);
    }
    stream.info.originalPath = headers.path;
    if (forward.includeAttemptCountInRequest) headers.set('x-envoy-attempt-count', '1');
    route.finalizeRequestHeaders(headers, stream);
    if (endStream) this.#armTimeout();
    const resolving = cluster.resolve?.(headers);
    if (resolving === undefined) this.#connect();
    else {
      resolving.then(
        (failure) => {
          if (this.#done) return;
          if (failure !== undefined) this.#fail(failure);
          else this.#connect();
        },
        () => this.#fail(failures.dnsFailure),
      );
    }
  }

  data(bytes: Buffer, endStream: boolean): void {
    if (this.#done) return;
    const { body } = this;
    if (endStream) {
      body.complete = true;
      this.#armTimeout();
    }
    const attempt = this.#attempt;
    const connected = attempt?.connected === true;
    if (body.replayable && !this.#responseStarted) {
      body.keep(bytes);
      if (connected && body.bytes > REPLAY_BYTES) body.release();
    }
    if (attempt === undefined || !connected) {
      if (body.bytes >= EARLY_BODY_BYTES) this.#pauseDownstream();
    } else if (!attempt.data(bytes, endStream) && !endStream) this.#pauseDownstream();
  }

  trailers(trailers: Headers): void {
    if (this.#done) return;
    this.body.complete = true;
    this.body.trailers = trailers;
    this.#armTimeout();
    this.#attempt?.trailers(trailers);
  }

  readDisable(disabled: boolean): void {
    this.responsePauses += disabled ? 1 : -1;
    this.#attempt?.readDisable(disabled);
  }

  abandon(): void {
    if (this.#done) return;
    this.#finish();
    this.#attempt?.abandon();
  }

  // ── from the attempt ────────────────────────────────────────────────────────────────────────────────────────────

  attemptReady(attempt: UpstreamRequest, connection: ConnectionInfo): void {
    const { info } = this.#stream;
    // A body in a request that must not be sent twice need not be kept once it is on its way.
    if (!attempt.reused || !IDEMPOTENT.has(this.requestHeaders.method)) this.body.replayable = false;
    info.upstreamLocalAddress = connection.localAddress;
    info.upstreamProtocol = attempt.protocol;
    if (info.upstreamFirstByteSentMs === 0) info.upstreamFirstByteSentMs = this.#deps.nowMs();
  }

  attemptSent(_attempt: UpstreamRequest, room: boolean): void {
    const { body } = this;
    if (!body.replayable) body.release();
    if (room || body.complete) this.#resumeDownstream();
  }

  attemptUnwritable(): void {
    this.#fail(failures.upstreamProtocolError);
  }

  attemptRefused(_attempt: UpstreamRequest, reason: ResetReason, detail: string): void {
    if (detail !== '') this.#stream.info.upstreamTransportFailureReason = detail;
    const failure = failureOfReset(reason);
    this.#fail(detail === '' ? failure : { ...failure, details: withReason(failure.details, detail) });
  }

  attempt1xx(headers: ResponseHeaders): void {
    this.#stream.respond1xx(headers);
  }

  attemptHeaders(attempt: UpstreamRequest, headers: ResponseHeaders, endStream: boolean): void {
    const stream = this.#stream;
    const { info } = stream;
    const nowMs = this.#deps.nowMs();
    this.#responseStarted = true;
    this.body.release();
    info.upstreamFirstByteReceivedMs = nowMs;
    const { statistics } = attempt.cluster;
    statistics.response(headers.status);
    if (headers.status >= 500) attempt.host.counts.rqError++;
    else attempt.host.counts.rqSuccess++;
    statistics.rqTime.record(nowMs - info.upstreamFirstByteSentMs);
    if (!this.#config.suppressEnvoyHeaders) {
      const sinceMs = info.requestCompleteMs === 0 ? 0 : nowMs - info.requestCompleteMs;
      headers.set('x-envoy-upstream-service-time', String(Math.max(0, Math.round(sinceMs))));
    }
    if (this.#forward.includeAttemptCountInResponse) {
      headers.set('x-envoy-attempt-count', String(info.upstreamRequestAttemptCount));
    }
    const cookies = this.#hash?.setCookies;
    if (cookies !== undefined) for (const cookie of cookies) headers.append('set-cookie', cookie);
    info.responseCode = headers.status;
    (this.#route as Route).finalizeResponseHeaders(headers, stream);
    if (headers.status === 101 || stream.upgrade !== undefined) this.#timeout?.cancel();
    if (endStream) this.#responseEnded(attempt);
    stream.respondHeaders(headers, endStream);
  }

  attemptData(attempt: UpstreamRequest, chunk: Buffer, endStream: boolean): void {
    if (endStream) this.#responseEnded(attempt);
    this.#stream.respondData(chunk, endStream);
  }

  attemptTrailers(attempt: UpstreamRequest, trailers: Headers): void {
    this.#responseEnded(attempt);
    this.#stream.respondTrailers(trailers);
  }

  attemptReset(attempt: UpstreamRequest, reason: ResetReason): void {
    if (!this.#responseStarted && reason === 'connection termination' && this.#mayMove(attempt)) {
      this.#deadConnections++;
      attempt.cluster.statistics.rqRetry.inc();
      this.#connect();
      return;
    }
    this.#fail(failureOfReset(reason));
  }

  attemptDrained(): void {
    this.#resumeDownstream();
  }

  // ── inside ──────────────────────────────────────────────────────────────────────────────────────────────────────

  #connect(): void {
    const cluster = this.#cluster as Cluster;
    const { info } = this.#stream;
    this.#attempt = undefined;
    // A move off a dead connection is the same attempt.
    if (this.#deadConnections === 0) info.upstreamRequestAttemptCount++;
    const host = cluster.chooseHost(this);
    if (host === undefined) {
      cluster.statistics.cxNoneHealthy.inc();
      return this.#fail(failures.noHealthyUpstream);
    }
    info.upstreamHost = host.address;
    info.upstreamHostMetadata = host.metadata;
    if (this.#forward.autoHostRewrite && host.hostname !== '') rewriteHost(this.requestHeaders, host.hostname);
    const pool = cluster.pool(host, this.#forward.priority, info.protocol, this);
    if (typeof pool === 'string') {
      info.upstreamTransportFailureReason = pool;
      return this.#fail(failures.upstreamConnectFailure);
    }
    this.#attempt = new UpstreamRequest(this, cluster, host, pool);
    this.#attempt.start();
  }

  /** Whether a request on a dead kept-alive connection may go to another one: sent twice only where that is harmless. */
  #mayMove(attempt: UpstreamRequest): boolean {
    return (
      attempt.reused &&
      this.#deadConnections < MAX_DEAD_CONNECTIONS &&
      IDEMPOTENT.has(this.requestHeaders.method) &&
      this.body.replayable
    );
  }

  #pauseDownstream(): void {
    if (this.#downstreamPaused) return;
    this.#downstreamPaused = true;
    this.#stream.pauseRequest(true);
  }

  #resumeDownstream(): void {
    if (!this.#downstreamPaused) return;
    this.#downstreamPaused = false;
    this.#stream.pauseRequest(false);
  }

  #armTimeout(): void {
    const timeoutMs = this.#forward.timeoutMs;
    if (timeoutMs <= 0 || this.#responseStarted || this.#stream.upgrade !== undefined) return;
    this.#timeout = new Deadline(() => {
      this.#cluster?.statistics.rqTimeout.inc();
      if (this.#attempt !== undefined) this.#attempt.host.counts.rqTimeout++;
      this.#fail(failures.upstreamTimeout);
    });
    this.#deps.deadlines.list(timeoutMs).arm(this.#timeout);
  }

  #answerDirectly(route: Route): void {
    const action = route.directResponse as NonNullable<Route['directResponse']>;
    this.#deps.statistics.rqDirectResponse.inc();
    this.#done = true;
    const stream = this.#stream;
    const { scheme, authority, path } = this.requestHeaders;
    stream.sendLocalReply(action.status, '', 'direct_response', action.body, (headers) => {
      // "Created" and redirects name a place: the request's own (Envoy's newUri).
      if (action.status === 201 || (action.status >= 300 && action.status < 400)) {
        headers.set('location', `${scheme}://${authority}${path}`);
      }
      route.finalizeResponseHeaders(headers, stream);
    });
  }

  #redirect(route: Route): void {
    const action = route.redirect as NonNullable<Route['redirect']>;
    this.#deps.statistics.rqRedirect.inc();
    this.#done = true;
    const stream = this.#stream;
    const location = action.location(this.requestHeaders);
    stream.sendLocalReply(action.status, '', 'direct_response', '', (headers) => {
      headers.set('location', location);
      route.finalizeResponseHeaders(headers, stream);
    });
  }

  /** The upstream has said everything. */
  #responseEnded(attempt: UpstreamRequest): void {
    this.#stream.info.upstreamLastByteReceivedMs = this.#deps.nowMs();
    this.#finish();
    attempt.complete();
    this.#resumeDownstream();
  }

  #fail(failure: Failure): void {
    if (this.#done) return;
    this.#finish();
    this.#attempt?.abandon();
    if (failure.status >= 500) this.#cluster?.statistics.response(failure.status);
    if (failure.status >= 500 && this.#attempt !== undefined) this.#attempt.host.counts.rqError++;
    this.#stream.fail(failure);
  }

  #finish(): void {
    this.#done = true;
    this.body.release();
    this.#timeout?.cancel();
  }
}

/** Envoy puts the transport's reason into the details: `…{remote_connection_failure|delayed_connect_error:_…}`. */
function withReason(details: string, reason: string): string {
  return details.endsWith('}') ? `${details.slice(0, -1)}|${reason.replaceAll(' ', '_')}}` : details;
}

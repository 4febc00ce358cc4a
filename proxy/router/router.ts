/** The router: route → cluster → host → pool, and the response back. Envoy: envoy.extensions.filters.http.router.v3. */
import { afterResponseStarted, afterRetry, type Failure, failureOfReset, failures, withReason } from '../failures.ts';
import type { ResetReason } from '../http/codec.ts';
import type { Headers, RequestHeaders, ResponseHeaders } from '../http/headers.ts';
import type { RequestSink, TerminalContext, TerminalFilter } from '../http/terminal.ts';
import type { ConnectionInfo } from '../net/connection_info.ts';
import { Deadline } from '../net/deadlines.ts';
import type { Cluster } from '../upstream/cluster.ts';
import type { Host } from '../upstream/host.ts';
import { answerItself } from './direct_answers.ts';
import { reportAnswer, reportTrailers } from './outlier_reports.ts';
import { HedgedAttempts } from './hedged_attempts.ts';
import { KeptBody } from './kept_body.ts';
import { Mirror } from './mirror.ts';
import { RequestLimits } from './request_limits.ts';
import { RequestWish } from './request_wish.ts';
import { retriesHeaders, retriesReset } from './retry_policy.ts';
import { countSentAgain, IDEMPOTENT, mayMove } from './retry_ledger.ts';
import { RetryState } from './retry_state.ts';
import type { RouterConfig, RouterDeps } from './router_deps.ts';
import { poolOf } from './pool_choice.ts';
import { rewriteHost } from './rewrite.ts';
import type { Route } from './route.ts';
import { type AttemptLimit, UpstreamRequest, type UpstreamRequestOwner } from './upstream_request.ts';

/** Until a connection is there, at most this much body waits before reading stops. */
const EARLY_BODY_BYTES = 65_536;
/** Bodies up to this size can be sent again when a kept-alive connection turns out to be dead. */
const REPLAY_BYTES = 65_536;
/** How often a request moves to another connection because the one it got was dead. */
const MAX_DEAD_CONNECTIONS = 3;

/** Makes the terminal filter of a connection manager on one thread. */
export function createRouter(config: RouterConfig, deps: RouterDeps): TerminalFilter {
  return { open: (stream) => new RoutedRequest(stream, config, deps) };
}

class RoutedRequest extends RequestWish implements RequestSink, UpstreamRequestOwner {
  readonly #config: RouterConfig;
  readonly #deps: RouterDeps;
  body!: KeptBody; // Set by headers(), the first call of every request.
  limits!: RequestLimits; // Set with the cluster.
  responsePauses = 0;
  #route: Route | undefined = undefined;
  #cluster: Cluster | undefined = undefined;
  /** The newest. */
  #attempt: UpstreamRequest | undefined = undefined;
  #hedged: HedgedAttempts | undefined = undefined;
  #deadConnections = 0;
  #mirror: Mirror | undefined = undefined;
  #backOff: Deadline | undefined = undefined;
  #downstreamPaused = false;
  #responseStarted = false;
  #done = false;
  #timeout: Deadline | undefined = undefined;

  constructor(stream: TerminalContext, config: RouterConfig, deps: RouterDeps) {
    super(stream);
    this.#config = config;
    this.#deps = deps;
  }

  // ── from the stream ─────────────────────────────────────────────────────────────────────────────────────────────

  headers(headers: RequestHeaders, endStream: boolean): void {
    const stream = this.stream;
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
    if (route.forward === undefined) {
      this.#done = true;
      if (route.redirect !== undefined) statistics.rqRedirect.inc();
      else statistics.rqDirectResponse.inc();
      answerItself(route, headers, stream);
      return;
    }
    const { forward } = route;
    this.forward = forward;
    const name = forward.clusterName(headers);
    const cluster = name === undefined ? undefined : this.#deps.clusters.get(name);
    if (cluster === undefined) {
      statistics.noCluster.inc();
      return this.#fail({ ...failures.clusterNotFound, status: forward.clusterNotFoundStatus });
    }
    stream.info.clusterChosen(cluster);
    if (this.#deps.sheds()) return this.#fail(failures.overload);
    this.#cluster = cluster;
    if (forward.idleTimeoutMs !== undefined) stream.setIdleTimeout(forward.idleTimeoutMs);
    this.hashBy(forward.hashPolicy);
    stream.info.originalPath = headers.path;
    this.limits = new RequestLimits(forward, headers, stream, cluster.maxStreamDurationMs, this.#deps.deadlines);
    this.#tellExpectedTimeout();
    if (forward.includeAttemptCountInRequest) headers.set('x-envoy-attempt-count', '1');
    route.finalizeRequestHeaders(headers, stream);
    if (forward.mirrors.length > 0) {
      const limitBytes = forward.bufferLimitBytes ?? stream.bufferLimitBytes;
      this.#mirror = Mirror.of(forward.mirrors, headers, this.#deps.random, this.limits.globalMs, limitBytes);
    }
    if (endStream) this.#requestComplete();
    const resolving = cluster.resolve?.(this);
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
    if (this.#mirror?.data(bytes) === false) this.#cluster?.statistics.retryOrShadowAbandoned.inc();
    if (endStream) {
      body.complete = true;
      this.#requestComplete();
    }
    const attempt = this.#attempt;
    const connected = attempt?.connected === true;
    if (body.replayable && !this.#responseStarted) {
      body.keep(bytes);
      if (connected && body.bytes > this.#keepBytes()) this.#stopKeeping();
    }
    if (attempt === undefined || !connected) {
      if (body.bytes >= EARLY_BODY_BYTES) this.#pauseDownstream(true);
    } else if (!attempt.data(bytes, endStream) && !endStream) this.#pauseDownstream(true);
  }

  trailers(trailers: Headers): void {
    if (this.#done) return;
    this.body.complete = true;
    this.body.trailers = trailers;
    this.#requestComplete();
    this.#attempt?.trailers(trailers);
  }

  readDisable(disabled: boolean): void {
    this.responsePauses += disabled ? 1 : -1;
    this.#cluster?.statistics.responsePaused(disabled);
    this.#attempt?.readDisable(disabled);
    this.#hedged?.readDisable(disabled);
  }

  get heldBytes(): number {
    return (this.body?.bytes ?? 0) + (this.#attempt?.queuedBytes ?? 0);
  }

  abandon(): void {
    if (this.#done) return;
    this.#finish();
    this.#attempt?.abandon();
    this.#hedged?.abandon(undefined);
  }

  // ── from the attempt ────────────────────────────────────────────────────────────────────────────────────────────

  attemptReady(attempt: UpstreamRequest, connection: ConnectionInfo): void {
    const { info } = this.stream;
    attempt.sentMs = this.#deps.nowMs();
    // A body that will not be sent again need not be kept once it is on its way.
    const again =
      (attempt.reused && IDEMPOTENT.has(this.requestHeaders.method)) ||
      this.limits.mayRetryAfterSending(this.requestHeaders, attempt.protocol);
    if (!again) this.body.replayable = false;
    info.connectionReady(connection, attempt.protocol, attempt.sentMs);
  }

  attemptSent(_attempt: UpstreamRequest, room: boolean): void {
    const { body } = this;
    this.stream.info.upstreamHeaderBytesSent = this.requestHeaders.wireBytes || this.requestHeaders.byteSize;
    if (!body.replayable) body.release();
    else if (body.bytes > this.#keepBytes()) this.#stopKeeping();
    if (room || body.complete) this.#pauseDownstream(false);
  }

  attemptUnwritable(): void {
    this.#fail(failures.upstreamProtocolError);
  }

  attemptRefused(attempt: UpstreamRequest, reason: ResetReason, detail: string): void {
    if (reason !== 'overflow') attempt.cluster.outlier?.local(attempt.host, 'connect_failed');
    const { policy } = this.limits;
    if (policy !== undefined && retriesReset(policy, reason, false) && this.#again(attempt.host, undefined, '')) return;
    const failure = this.#resetFailure(reason);
    if (this.#othersGoOn(attempt, failure.status)) return;
    if (detail !== '') this.stream.info.upstreamTransportFailureReason = detail;
    this.#fail(withReason(failure, detail));
  }

  attempt1xx(attempt: UpstreamRequest, headers: ResponseHeaders): void {
    if (this.#hedged !== undefined) this.#takeAnswerOf(attempt);
    this.stream.respond1xx(headers);
  }

  attemptHeaders(attempt: UpstreamRequest, headers: ResponseHeaders, endStream: boolean): void {
    const stream = this.stream;
    const { info } = stream;
    const nowMs = this.#deps.nowMs();
    const { outlier } = attempt.cluster;
    const { statistics } = this.#cluster as Cluster;
    if (outlier !== undefined) reportAnswer(outlier, attempt.host, headers);
    const { policy } = this.limits;
    if (policy !== undefined) {
      const hedged = this.#hedged?.has(attempt) === true;
      if (retriesHeaders(policy, headers)) {
        // What was hedged has had its other attempt.
        if (!hedged && this.#again(attempt.host, headers, 'response')) {
          statistics.retriedResponse(headers.status);
          attempt.discard(headers, endStream, this.#deps.deadlines);
          return;
        }
        if (this.#othersGoOn(attempt, undefined)) return attempt.discard(headers, endStream, this.#deps.deadlines);
      } else if (this.retry !== undefined && !hedged) statistics.rqRetrySuccess.inc();
      this.retry?.release();
    }
    if (this.#hedged !== undefined) this.#takeAnswerOf(attempt);
    this.#responseStarted = true;
    this.body.release();
    info.upstreamFirstByteReceivedMs = nowMs;
    info.upstreamHeaderBytesReceived = headers.wireBytes || headers.byteSize;
    statistics.response(headers.status, info.internal);
    if (headers.status >= 500) attempt.host.counts.rqError++;
    else attempt.host.counts.rqSuccess++;
    statistics.responseTime(nowMs - attempt.sentMs, info.internal);
    if (!this.#config.suppressEnvoyHeaders) {
      const sinceMs = info.requestCompleteMs === 0 ? 0 : nowMs - info.requestCompleteMs;
      headers.setOwn('x-envoy-upstream-service-time', String(Math.max(0, Math.round(sinceMs))));
    }
    if (this.forward.includeAttemptCountInResponse) {
      headers.set('x-envoy-attempt-count', String(info.upstreamRequestAttemptCount));
    }
    const cookies = this.hash?.setCookies;
    if (cookies !== undefined) for (const cookie of cookies) headers.append('set-cookie', cookie);
    info.responseCode = headers.status;
    (this.#route as Route).finalizeResponseHeaders(headers, stream);
    if (headers.status === 101 || stream.upgrade !== undefined) this.#timeout?.cancel();
    if (endStream) this.#responseEnded(attempt);
    stream.respondHeaders(headers, endStream);
  }

  attemptData(attempt: UpstreamRequest, chunk: Buffer, endStream: boolean): void {
    if (endStream) this.#responseEnded(attempt);
    this.stream.respondData(chunk, endStream);
  }

  attemptTrailers(attempt: UpstreamRequest, trailers: Headers): void {
    const { outlier } = attempt.cluster;
    if (outlier !== undefined) reportTrailers(outlier, attempt.host, trailers);
    this.#responseEnded(attempt);
    this.stream.respondTrailers(trailers);
  }

  attemptReset(attempt: UpstreamRequest, reason: ResetReason): void {
    const hedged = this.#hedged?.has(attempt) === true;
    if (
      !this.#responseStarted &&
      !hedged &&
      this.#deadConnections < MAX_DEAD_CONNECTIONS &&
      mayMove(this, attempt, reason)
    ) {
      this.#deadConnections++;
      attempt.cluster.statistics.rqRetry.inc();
      this.#ledger('dead_connection');
      this.#connect(true);
      return;
    }
    attempt.cluster.outlier?.local(attempt.host, 'connect_failed');
    const { policy } = this.limits;
    const mayRetry = policy !== undefined && !hedged && retriesReset(policy, reason, true);
    if (mayRetry && this.#again(attempt.host, undefined, 'reset')) return;
    const failure = this.#resetFailure(reason);
    if (!this.#othersGoOn(attempt, failure.status)) this.#fail(failure);
  }

  attemptTimedOut(attempt: UpstreamRequest, limit: AttemptLimit): void {
    const { statistics } = this.#cluster as Cluster;
    // What is not whole yet could only go on to one of them.
    if (limit !== 'duration' && this.limits.hedges && this.body.complete) return this.#hedge(attempt);
    if (limit === 'perTry') statistics.rqPerTryTimeout.inc();
    else if (limit === 'idle') statistics.rqPerTryIdleTimeout.inc();
    else statistics.rqMaxDurationReached.inc();
    attempt.cluster.outlier?.local(attempt.host, 'timeout');
    attempt.abandon();
    const { policy } = this.limits;
    if (policy !== undefined && retriesReset(policy, 'local reset', true)) {
      if (this.#again(attempt.host, undefined, 'timeout')) {
        if (this.forward.includeTimeoutRetryHeader) this.requestHeaders.set('x-envoy-is-timeout-retry', 'true');
        return;
      }
    }
    if (limit === 'duration') {
      const { status } = this.body.complete ? failures.upstreamMaxStreamDuration : failures.maxStreamDuration;
      this.#fail({ ...failures.upstreamMaxStreamDuration, status });
    } else this.#fail(limit === 'perTry' ? failures.perTryTimeout : failures.perTryIdleTimeout);
  }

  attemptDrained(): void {
    this.#pauseDownstream(false);
  }

  // ── inside ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** `move`: off a dead connection, which is the same attempt. */
  #connect(move = false): void {
    const cluster = this.#cluster as Cluster;
    const { info } = this.stream;
    this.#attempt = undefined;
    if (!move) info.upstreamRequestAttemptCount++;
    const host = cluster.chooseHost(this);
    if (host === undefined) {
      cluster.statistics.cxNoneHealthy.inc();
      return this.#fail(failures.noHealthyUpstream);
    }
    info.hostChosen(host, this.#deps.nowMs());
    if (this.forward.autoHostRewrite && host.hostname !== '') rewriteHost(this.requestHeaders, host.hostname);
    const owner = cluster.ownerOf?.(host) ?? cluster;
    const pool = poolOf(owner, host, this.forward, this.stream, this);
    this.#attempt = new UpstreamRequest(this, owner, host, pool);
    this.#attempt.distrustsIdle = move;
    this.#attempt.start();
  }

  #tellExpectedTimeout(): void {
    if (this.#config.suppressEnvoyHeaders) return;
    const { requestCompleteMs } = this.stream.info;
    const elapsedMs = requestCompleteMs === 0 ? 0 : this.#deps.nowMs() - requestCompleteMs;
    this.limits.tellExpected(this.requestHeaders, elapsedMs);
  }

  /** How much of a body is kept while the request may have to be sent again. */
  #keepBytes(): number {
    if (!this.limits.mayRetry) return REPLAY_BYTES;
    return this.forward.bufferLimitBytes ?? this.stream.bufferLimitBytes;
  }

  /** The body is too large to be kept: whatever happens, the request is not sent again. */
  #stopKeeping(): void {
    this.body.release();
    if (this.limits.mayRetry) this.#cluster?.statistics.retryOrShadowAbandoned.inc();
  }

  /** Another attempt is begun beside one that takes too long: whatever the policy asks for, as long as it has attempts left. */
  #hedge(attempt: UpstreamRequest): void {
    attempt.cluster.outlier?.local(attempt.host, 'timeout');
    attempt.overdue = true;
    this.#hedged ??= new HedgedAttempts();
    if (this.#responseStarted || this.limits.policy === undefined || this.limits.policy.on === 0) return;
    if (this.#hedged.has(attempt) || !this.#again(attempt.host, undefined, 'hedge')) return;
    this.#hedged.add(attempt);
    if (this.forward.includeTimeoutRetryHeader) this.requestHeaders.set('x-envoy-is-timeout-retry', 'true');
  }

  /** This attempt has failed; whether others may still have an answer. `status`: what it counts as, where it had none. */
  #othersGoOn(attempt: UpstreamRequest, status: number | undefined): boolean {
    const hedged = this.#hedged;
    if (hedged === undefined || this.#responseStarted) return false;
    hedged.remove(attempt);
    if (this.#attempt === attempt) this.#attempt = undefined;
    if (hedged.size === 0 && this.#attempt === undefined && this.#backOff?.armed !== true) {
      this.#attempt = attempt;
      return false;
    }
    if (status !== undefined && status >= 500) this.#cluster?.statistics.response(status, this.stream.info.internal);
    attempt.host.counts.rqError++;
    return true;
  }

  #takeAnswerOf(attempt: UpstreamRequest): void {
    this.#backOff?.cancel();
    if (this.#attempt !== attempt) {
      this.#attempt?.abandon();
      const { host, connection, protocol, sentMs } = attempt;
      if (connection !== undefined) this.stream.info.answeredBy(host, connection, protocol, sentMs);
    }
    this.#attempt = attempt;
    this.#hedged?.abandon(attempt);
  }

  /**
   * Sends the request again after the back-off, if one more attempt is allowed. `reason`: for the ledger; '': nothing
   * had been sent. @returns false: what happened is the answer.
   */
  #again(host: Host, headers: ResponseHeaders | undefined, reason: string): boolean {
    const { policy } = this.limits;
    const cluster = this.#cluster;
    if (policy === undefined || cluster === undefined || this.#responseStarted || !this.body.replayable) return false;
    this.retry ??= new RetryState({
      policy,
      breaker: cluster.breaker(this.forward.priority),
      statistics: cluster.statistics,
      random: this.#deps.random,
    });
    const answer = this.retry.ask(host, headers);
    if (answer !== 'again') {
      this.stream.info.addFlag(answer === 'overflow' ? 'UO' : 'URX');
      return false;
    }
    if (reason !== '') this.#ledger(reason);
    this.#attempt = undefined;
    this.#backOff = new Deadline(() => this.#tryAgain());
    this.#deps.deadlines.list(Math.max(1, this.retry.delayMs)).arm(this.#backOff);
    return true;
  }

  #tryAgain(): void {
    // The cluster may have been replaced, or be gone.
    const cluster = this.#deps.clusters.get((this.#cluster as Cluster).name);
    if (cluster === undefined) return this.#fail(failures.noHealthyUpstream);
    this.#cluster = cluster;
    if (this.forward.includeAttemptCountInRequest) {
      const count = this.stream.info.upstreamRequestAttemptCount + 1;
      this.requestHeaders.set('x-envoy-attempt-count', String(count));
    }
    this.#tellExpectedTimeout();
    this.#connect();
  }

  #resetFailure(reason: ResetReason): Failure {
    const failure = failureOfReset(reason);
    if (this.#responseStarted) return afterResponseStarted(failure);
    return this.stream.info.upstreamRequestAttemptCount > 1 ? afterRetry(failure) : failure;
  }

  #ledger(reason: string): void {
    countSentAgain(this.#deps, this.requestHeaders, this.#route as Route, reason);
  }

  #pauseDownstream(paused: boolean): void {
    if (this.#downstreamPaused === paused) return;
    this.#downstreamPaused = paused;
    this.#cluster?.statistics.requestBackedUp(paused);
    this.stream.pauseRequest(paused);
  }

  /** The global timeout counts from here on. */
  #requestComplete(): void {
    this.#mirror?.send(this.#deps.clusters, this.#deps.deadlines);
    const list = this.limits.global;
    if (list === undefined || this.#responseStarted || this.stream.upgrade !== undefined) return;
    this.#timeout = new Deadline(() => this.#timedOut());
    list.arm(this.#timeout);
  }

  #timedOut(): void {
    this.#attempt ??= this.#hedged?.pop();
    const attempt = this.#attempt;
    this.#cluster?.statistics.rqTimeout.inc();
    if (attempt?.connected === true && !attempt.overdue) this.#cluster?.outlier?.local(attempt.host, 'timeout');
    if (attempt !== undefined) attempt.host.counts.rqTimeout++;
    this.#hedged?.timedOut(failures.upstreamTimeout.status, this.stream.info.internal);
    this.#fail(failures.upstreamTimeout);
  }

  /** The upstream has said everything. */
  #responseEnded(attempt: UpstreamRequest): void {
    this.stream.info.upstreamLastByteReceivedMs = this.#deps.nowMs();
    this.#finish();
    attempt.complete();
    this.#pauseDownstream(false);
  }

  #fail(failure: Failure): void {
    if (this.#done) return;
    this.#finish();
    this.#attempt?.abandon();
    this.#hedged?.abandon(undefined);
    if (failure.status >= 500) this.#cluster?.statistics.response(failure.status, this.stream.info.internal);
    if (failure.status >= 500 && this.#attempt !== undefined) this.#attempt.host.counts.rqError++;
    this.stream.fail(failure, (headers) => {
      if (this.#route?.forward?.includeAttemptCountInResponse === true) {
        headers.set('x-envoy-attempt-count', String(this.stream.info.upstreamRequestAttemptCount));
      }
      if (failure.flag === 'UO' && !this.#config.suppressEnvoyHeaders) headers.set('x-envoy-overloaded', 'true');
    });
  }

  #finish(): void {
    this.#done = true;
    this.body.release();
    this.#timeout?.cancel();
    this.#backOff?.cancel();
    this.retry?.release();
  }
}

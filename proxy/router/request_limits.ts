/** How often and how long a request may be tried: the route's word, and what an internal request asks for. */
import { isGrpc } from '../http/local_reply.ts';
import type { RequestHeaders } from '../http/headers.ts';
import type { TerminalContext } from '../http/terminal.ts';
import type { HttpProtocol } from '../upstream/pool.ts';
import type { DeadlineList, Deadlines } from '../net/deadlines.ts';
import { mayRetryAfterSending, type RetryPolicy, withRequestHeaders } from './retry_policy.ts';
import type { ForwardAction } from './route.ts';
import { expectedTimeoutMs, streamDurationMs, type Timeouts, timeoutsOf } from './timeouts.ts';

export class RequestLimits {
  readonly policy: RetryPolicy | undefined;
  /** A try that takes too long is not cancelled: another is begun beside it. */
  readonly hedges: boolean;
  readonly #timeouts: Timeouts;
  readonly #deadlines: Deadlines;
  readonly #maxDurationMs: number;

  /** `maxDurationMs`: of a stream to the upstream; 0: for ever. Reads and removes what `headers` ask for. */
  constructor(
    forward: ForwardAction,
    headers: RequestHeaders,
    stream: TerminalContext,
    maxDurationMs: number,
    deadlines: Deadlines,
  ) {
    const { internal } = stream.info;
    let policy = forward.retryPolicy;
    this.hedges = internal ? hedgesByHeader(headers, forward) : forward.hedgeOnPerTryTimeout;
    if (internal) policy = withRequestHeaders(policy, headers);
    if (policy !== undefined && policy.requestHeaders.length > 0) {
      if (!policy.requestHeaders.some((matcher) => matcher.matches(headers))) policy = undefined;
    }
    this.policy = policy;
    if (forward.maxStreamDurationMs !== undefined || forward.grpcTimeoutHeaderMaxMs !== undefined) {
      const durationMs = streamDurationMs(forward, headers);
      if (durationMs !== undefined) stream.setMaxDuration(durationMs);
    }
    this.#timeouts = timeoutsOf(forward, policy, headers, internal);
    this.#deadlines = deadlines;
    this.#maxDurationMs = maxDurationMs;
  }

  /** Whether another attempt may ever be made. */
  get mayRetry(): boolean {
    return this.policy !== undefined && this.policy.retries > 0;
  }

  /** Whether a request that was sent by this protocol may have to be sent again: its body is kept only then. */
  mayRetryAfterSending(headers: RequestHeaders, protocol: HttpProtocol): boolean {
    const { policy } = this;
    if (policy === undefined || !this.mayRetry) return false;
    if (this.hedges && policy.on !== 0) return true;
    return mayRetryAfterSending(policy, isGrpc(headers), protocol === 'HTTP/2');
  }

  get globalMs(): number {
    return this.#timeouts.globalMs;
  }

  /** Of the whole request, from its last byte on; undefined: none. */
  get global(): DeadlineList | undefined {
    return this.#list(this.#timeouts.globalMs);
  }

  get perTry(): DeadlineList | undefined {
    return this.#list(this.#timeouts.perTryMs);
  }

  get perTryIdle(): DeadlineList | undefined {
    return this.#list(this.policy?.perTryIdleTimeoutMs ?? 0);
  }

  get maxDuration(): DeadlineList | undefined {
    return this.#list(this.#maxDurationMs);
  }

  /** x-envoy-expected-rq-timeout-ms of an attempt that begins `elapsedMs` after the request's end. */
  tellExpected(headers: RequestHeaders, elapsedMs: number): void {
    const expectedMs = expectedTimeoutMs(this.#timeouts, elapsedMs, this.hedges);
    if (expectedMs > 0) headers.setOwn('x-envoy-expected-rq-timeout-ms', String(expectedMs));
  }

  #list(ms: number): DeadlineList | undefined {
    return ms > 0 ? this.#deadlines.list(ms) : undefined;
  }
}

function hedgesByHeader(headers: RequestHeaders, { hedgeOnPerTryTimeout }: ForwardAction): boolean {
  const asked = headers.get('x-envoy-hedge-on-per-try-timeout');
  return asked === 'true' || (asked !== 'false' && hedgeOnPerTryTimeout);
}

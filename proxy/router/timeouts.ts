/** Which timeouts a request has. Source: Envoy router.cc FilterUtility::finalTimeout, conn_manager_impl refreshDurationTimeout. */
import type { RequestHeaders } from '../http/headers.ts';
import { isGrpc } from '../http/local_reply.ts';
import type { RetryPolicy } from './retry_policy.ts';
import type { ForwardAction } from './route.ts';

/** In ms; 0: none. */
export interface Timeouts {
  readonly globalMs: number;
  readonly perTryMs: number;
}

export const NO_TIMEOUTS: Timeouts = { globalMs: 0, perTryMs: 0 };

const UNITS_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 0.001, n: 0.000_001 };

/** gRPC's `grpc-timeout`: at most 8 digits and a unit; undefined: absent or not readable. */
export function grpcTimeoutMs(headers: RequestHeaders): number | undefined {
  const value = headers.get('grpc-timeout');
  if (value === undefined || !/^\d{1,8}[HMSmun]$/.test(value)) return undefined;
  return Math.ceil(Number(value.slice(0, -1)) * (UNITS_MS[value.at(-1) as string] as number));
}

/** As gRPC writes it: the finest unit that fits into 8 digits. */
function grpcTimeout(ms: number): string {
  const whole = Math.max(0, Math.round(ms));
  if (whole < 100_000_000) return `${whole}m`;
  const seconds = Math.floor(whole / 1000);
  return seconds < 100_000_000 ? `${seconds}S` : `${Math.min(99_999_999, Math.floor(seconds / 60))}M`;
}

/** `internal`: what the request's own headers ask for counts. Those headers end here. */
export function timeoutsOf(
  forward: ForwardAction,
  policy: RetryPolicy | undefined,
  headers: RequestHeaders,
  internal: boolean,
): Timeouts {
  let globalMs = forward.timeoutMs;
  let perTryMs = policy?.perTryTimeoutMs ?? 0;
  const maxMs = forward.grpcTimeoutMaxMs;
  if (globalMs === 0 && perTryMs === 0 && maxMs === undefined && !internal) return NO_TIMEOUTS;
  if (maxMs !== undefined && isGrpc(headers)) {
    globalMs = capped(grpcTimeoutMs(headers) ?? 0, maxMs);
  }
  if (internal) {
    globalMs = headerMs(headers, 'x-envoy-upstream-rq-timeout-ms') ?? globalMs;
    perTryMs = headerMs(headers, 'x-envoy-upstream-rq-per-try-timeout-ms') ?? perTryMs;
  }
  // A try that may take as long as the whole has no timeout of its own.
  if (perTryMs >= globalMs && globalMs > 0) perTryMs = 0;
  return { globalMs, perTryMs };
}

/** 0 is for ever, on both sides. */
function capped(wantedMs: number, maxMs: number): number {
  if (maxMs === 0) return wantedMs;
  return wantedMs === 0 ? maxMs : Math.min(wantedMs, maxMs);
}

function headerMs(headers: RequestHeaders, name: string): number | undefined {
  const value = headers.get(name);
  if (value === undefined) return undefined;
  headers.remove(name);
  return /^\d{1,10}$/.test(value) ? Number(value) : undefined;
}

/**
 * x-envoy-expected-rq-timeout-ms: how long an attempt that begins now may take; 0: no limit is set. `hedges`: a try may
 * take as long as the whole.
 */
export function expectedTimeoutMs({ globalMs, perTryMs }: Timeouts, elapsedMs: number, hedges: boolean): number {
  const expectedMs = perTryMs > 0 && !hedges ? perTryMs : globalMs;
  if (expectedMs === 0 || globalMs === 0) return expectedMs;
  // Out of time: 0 would be for ever.
  return Math.max(1, Math.min(expectedMs, Math.round(globalMs - elapsedMs)));
}

/** How long the stream may last by its route; undefined: as the connection manager says; 0: for ever. Rewrites grpc-timeout. */
export function streamDurationMs(forward: ForwardAction, headers: RequestHeaders): number | undefined {
  const maxMs = forward.grpcTimeoutHeaderMaxMs;
  const wantedMs = maxMs === undefined ? undefined : grpcTimeoutMs(headers);
  if (maxMs === undefined || wantedMs === undefined) return forward.maxStreamDurationMs;
  const timeoutMs = maxMs > 0 ? Math.min(wantedMs, maxMs) : wantedMs;
  if (isGrpc(headers)) headers.set('grpc-timeout', grpcTimeout(timeoutMs));
  return timeoutMs;
}

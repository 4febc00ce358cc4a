/** The ledger of what was sent more than once, by method, route and reason: whoever asks what a retry did finds it here. */
import type { ResetReason } from '../http/codec.ts';
import type { RequestHeaders } from '../http/headers.ts';
import type { Route } from './route.ts';
import type { RouterDeps } from './router_deps.ts';
import type { UpstreamRequest, UpstreamRequestOwner } from './upstream_request.ts';

/** RFC 9110 §9.2.2: sending twice is as good as once. */
export const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE']);
/** Methods with a line of their own: peers choose methods. */
const KNOWN_METHODS = new Set([...IDEMPOTENT, 'POST', 'PATCH', 'CONNECT']);

/** Whether a request on a dead kept-alive connection may go to another one: sent twice only where that is harmless. */
export function mayMove(
  { body: { none, replayable }, requestHeaders }: Pick<UpstreamRequestOwner, 'body' | 'requestHeaders'>,
  { reused }: UpstreamRequest,
  reason: ResetReason,
): boolean {
  if (!(none || replayable)) return false;
  // Refused is not looked at: GOAWAY came, or the peer has more streams than it wants (RFC 9113 §8.7).
  if (reason === 'remote refused stream reset') return true;
  return reason === 'connection termination' && reused && IDEMPOTENT.has(requestHeaders.method);
}

export function countSentAgain(deps: RouterDeps, { method }: RequestHeaders, route: Route, reason: string): void {
  const name = route.name === '' ? route.virtualHostName : route.name;
  deps.sentAgain(KNOWN_METHODS.has(method) ? method : 'other', name, reason).inc();
}

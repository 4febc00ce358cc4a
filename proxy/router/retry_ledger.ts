/** The ledger of what was sent more than once, by method, route and reason: whoever asks what a retry did finds it here. */
import type { RequestHeaders } from '../http/headers.ts';
import type { Route } from './route.ts';
import type { RouterDeps } from './router_deps.ts';

/** RFC 9110 §9.2.2: sending twice is as good as once. */
export const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE']);
/** Methods with a line of their own: peers choose methods. */
const KNOWN_METHODS = new Set([...IDEMPOTENT, 'POST', 'PATCH', 'CONNECT']);

export function countSentAgain(deps: RouterDeps, { method }: RequestHeaders, route: Route, reason: string): void {
  const name = route.name === '' ? route.virtualHostName : route.name;
  deps.sentAgain(KNOWN_METHODS.has(method) ? method : 'other', name, reason).inc();
}

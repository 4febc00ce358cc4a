/** Looking a request up in a route table, with a look at the clock where an access log asks how long it took. */
import type { RequestHeaders } from '../http/headers.ts';
import type { Route, RouteContext, RouteTable } from './route.ts';

/** From when this thread first compiles %ROUTE_RESOLUTION_TIME_US%. */
export const routeTime = { wanted: false };

export function timedMatch(
  table: RouteTable | undefined,
  request: RequestHeaders,
  context: RouteContext,
): Route | undefined {
  if (!routeTime.wanted) return table?.match(request, context);
  const startMs = performance.now();
  const route = table?.match(request, context);
  context.info.routeResolutionMs += performance.now() - startMs;
  return route;
}

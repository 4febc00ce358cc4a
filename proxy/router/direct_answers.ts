/** What a route answers itself: a redirect or a fixed response. */
import type { RequestHeaders } from '../http/headers.ts';
import type { TerminalContext } from '../http/terminal.ts';
import type { Route } from './route.ts';

export function answerItself(route: Route, request: RequestHeaders, stream: TerminalContext): void {
  const { redirect, directResponse } = route;
  if (redirect !== undefined) {
    const location = redirect.location(request);
    stream.sendLocalReply(redirect.status, '', 'direct_response', '', (headers) => {
      headers.set('location', location);
      route.finalizeResponseHeaders(headers, stream);
    });
  } else if (directResponse !== undefined) {
    const { status, body } = directResponse;
    stream.sendLocalReply(status, '', 'direct_response', body, (headers) => {
      // "Created" and redirects name a place: the request's own (Envoy's newUri).
      if (status === 201 || (status >= 300 && status < 400)) {
        headers.set('location', `${request.scheme}://${request.authority}${request.path}`);
      }
      route.finalizeResponseHeaders(headers, stream);
    });
  }
}

/** Asks an HTTP service: the request's own method and path, the answer's status is the verdict. Source: Envoy source/extensions/filters/common/ext_authz/ext_authz_http_impl.cc. */
import { RequestHeaders } from '../../http/headers.ts';
import type { InternalRequest, InternalResponse } from '../../http/filter.ts';
import type { ExtAuthzConfig, HttpService } from './config.ts';
import type { CheckBody, HeaderChange, Verdict } from './verdict.ts';

/** Go along with whatever is allowed. */
const ALWAYS_ASKED = new Set(['authorization']);
/** Go to the client with whatever is allowed. */
const ALWAYS_ANSWERED = new Set(['www-authenticate', 'location']);
/** Describe the answer's own framing. */
const FRAMING = new Set([
  'content-length',
  'transfer-encoding',
  'connection',
  'keep-alive',
  'host',
  'trailer',
  'upgrade',
]);
const HEADERS_TO_REMOVE = 'x-envoy-auth-headers-to-remove';

export function httpCheckRequest(
  config: ExtAuthzConfig,
  service: HttpService,
  original: RequestHeaders,
  body: CheckBody | undefined,
): InternalRequest {
  const headers = new RequestHeaders();
  headers.method = original.method;
  headers.path = service.pathPrefix + original.path;
  headers.authority = original.authority === '' ? service.host : original.authority;
  headers.scheme = original.scheme;
  const { allowedHeaders, disallowedHeaders } = config;
  const { fields } = original;
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] as string;
    if (FRAMING.has(name) || disallowedHeaders?.(name) === true) continue;
    if (!ALWAYS_ASKED.has(name) && allowedHeaders?.(name) !== true) continue;
    // All values of a repeated field go along (attacks.md row 41), as one.
    const before = headers.get(name);
    const value = fields[i + 1] as string;
    headers.set(name, before === undefined ? value : `${before}${name === 'cookie' ? '; ' : ','}${value}`);
  }
  for (const [name, value] of service.headersToAdd) headers.set(name, value);
  if (body !== undefined) headers.set('x-envoy-auth-partial-body', String(body.partial));
  headers.set('content-length', String(body?.bytes.length ?? 0));
  return {
    headers,
    ...(body !== undefined && body.bytes.length > 0 && { body: body.bytes }),
    timeoutMs: service.timeoutMs,
  };
}

export function httpVerdict(service: HttpService, answer: InternalResponse): Verdict {
  const { status, fields } = answer.headers;
  if (status >= 500) return { kind: 'error', reason: `the authorizer answered ${status}` };
  if (status !== 200) {
    const headers: HeaderChange[] = [];
    for (let i = 0; i < fields.length; i += 2) {
      const name = fields[i] as string;
      if (FRAMING.has(name)) continue;
      const passes = service.clientHeaders === undefined || ALWAYS_ANSWERED.has(name) || service.clientHeaders(name);
      if (passes) headers.push({ name, value: fields[i + 1] as string, how: 'append' });
    }
    return { kind: 'denied', status, headers, body: answer.body.toString() };
  }
  const request: HeaderChange[] = [];
  const response: HeaderChange[] = [];
  const remove: string[] = [];
  for (let i = 0; i < fields.length; i += 2) {
    const name = fields[i] as string;
    const value = fields[i + 1] as string;
    if (name === HEADERS_TO_REMOVE) {
      remove.push(
        ...value
          .split(',')
          .map((item) => item.trim().toLowerCase())
          .filter((item) => item !== ''),
      );
      continue;
    }
    if (FRAMING.has(name)) continue;
    if (service.upstreamHeaders?.(name) === true) request.push({ name, value, how: 'set' });
    else if (service.upstreamHeadersToAppend?.(name) === true) request.push({ name, value, how: 'append' });
    if (service.clientHeadersOnSuccess?.(name) === true) response.push({ name, value, how: 'append' });
  }
  return { kind: 'ok', request, remove, response, querySet: [], queryRemove: [], metadata: undefined };
}

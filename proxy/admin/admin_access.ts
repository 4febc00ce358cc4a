/** Who may ask the admin interface for what, and the log of it. Envoy: envoy.config.bootstrap.v3.Admin. */
import type { IncomingMessage } from 'node:http';
import { RequestHeaders, ResponseHeaders } from '../http/headers.ts';
import { parseStringMatcher, type StringMatcher } from '../http/matchers.ts';
import { StreamInfo } from '../http/stream_info.ts';
import { type ConnectionInfo, plainConnection, socketAddress } from '../net/connection_info.ts';
import { Fields } from '../resource_fields.ts';
import type { AccessLog } from '../telemetry/access_log.ts';

export class AdminAccess {
  readonly #allowed: readonly StringMatcher[];
  readonly #logs: readonly AccessLog[];
  #nextId = 1;

  /** @param admin the bootstrap's, in JSON form. @throws {ConfigError} */
  constructor(admin: unknown, logs: readonly AccessLog[]) {
    this.#allowed = allowedPaths(new Fields(admin ?? {}, 'admin'));
    this.#logs = logs;
  }

  /** `target`: path and query, as Envoy looks at them. */
  mayAsk(target: string): boolean {
    return this.#allowed.length === 0 || this.#allowed.some((matcher) => matcher.matches(target));
  }

  /** The answer is on its way. */
  answered(request: IncomingMessage, startMs: number, status: number, bytesSent: number): void {
    if (this.#logs.length === 0) return;
    const endMs = performance.now();
    const info = new StreamInfo(this.#connectionOf(request, startMs), Date.now() - (endMs - startMs), startMs);
    info.protocol = request.httpVersion === '1.0' ? 'HTTP/1.0' : 'HTTP/1.1';
    info.responseCode = status;
    info.bytesSent = bytesSent;
    info.requestCompleteMs = startMs;
    info.endMs = endMs;
    const responseHeaders = new ResponseHeaders();
    responseHeaders.status = status;
    const requestHeaders = headersOf(request);
    for (const log of this.#logs) log.log({ info, requestHeaders, responseHeaders, responseTrailers: undefined });
  }

  #connectionOf({ socket }: IncomingMessage, startMs: number): ConnectionInfo {
    return plainConnection(
      this.#nextId++,
      socketAddress(socket.localAddress ?? '', socket.localPort ?? 0),
      socketAddress(socket.remoteAddress ?? '', socket.remotePort ?? 0),
      startMs,
    );
  }
}

/** @throws {ConfigError} */
export function allowedPaths(admin: Fields): StringMatcher[] {
  return admin.messages('allow_paths').map(parseStringMatcher);
}

function headersOf({ method, url, rawHeaders }: IncomingMessage): RequestHeaders {
  const headers = new RequestHeaders();
  headers.method = method ?? 'GET';
  headers.path = url ?? '/';
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = (rawHeaders[i] as string).toLowerCase();
    if (name === 'host') headers.authority = rawHeaders[i + 1] as string;
    else headers.appendAsReceived(name, rawHeaders[i] as string, rawHeaders[i + 1] as string);
  }
  return headers;
}

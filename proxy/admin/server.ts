/**
 * The admin interface (loopback), the status port and the metrics port, on the control thread.
 * Source: Envoy docs "Administration interface"; istio.md §2.1, §4.
 */
import { statSync, unlinkSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { isIP, type Socket } from 'node:net';
import { BindError } from '../net/listening_socket.ts';
import type { ListenAddress } from '../proxy_options.ts';
import { redactText } from '../telemetry/redaction.ts';
import type { Counter, Gauge, Statistics } from '../telemetry/statistics.ts';
import { VERSION } from '../version.ts';
import { AgentPort } from './agent_port.ts';
import { ENDPOINTS } from './endpoints.ts';
import { help, helpText, indexPage } from './index_page.ts';
import { formParameters, requestTarget } from './request_target.ts';
import { type AdminAnswer, type AdminServer, type AdminState, text } from './state.ts';

export type AdminKind = 'admin' | 'status' | 'metrics' | 'agent';

/** A client that goes on sending headers, or does not read its answer, holds its connection no longer than this. */
const CLIENT_TIMEOUT_MS = 30_000;
/** Of each of the three ports; beyond, connections are closed and counted. */
export const MAX_ADMIN_CONNECTIONS = 256;
/** Large answers under way at a time: each holds what it tells until it has told it. */
export const MAX_STREAMED_ANSWERS = 16;
const BY_PATH = new Map(ENDPOINTS.map((endpoint) => [endpoint.path, endpoint]));

/** @throws {BindError} */
export function startAdmin(state: AdminState, address: ListenAddress, kind: AdminKind): Promise<AdminServer> {
  const statistics = new AdminStatistics(state.aggregate.own, kind);
  const port = new AdminPort(state, kind, statistics);
  const server = createServer(
    { requestTimeout: CLIENT_TIMEOUT_MS, headersTimeout: CLIENT_TIMEOUT_MS, connectionsCheckingInterval: 5000 },
    (request, response) => void port.serve(request, response),
  );
  server.maxConnections = MAX_ADMIN_CONNECTIONS;
  server.on('clientError', (_error, socket) => {
    // As the parser says: what is no HTTP gets its answer and the end.
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n');
    else socket.destroy();
  });
  statistics.watch(server);
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(new BindError(address.ip, address.port, error)));
    const isPipe = address.ip.startsWith('/');
    if (isPipe) removeSocket(address.ip);
    server.listen(isPipe ? { path: address.ip } : { host: address.ip, port: address.port }, () => {
      const bound = server.address();
      const listening = bound !== null && typeof bound === 'object' ? bound.port : address.port;
      server.unref();
      resolve({
        address: { ip: address.ip, port: listening },
        close: () =>
          new Promise((done) => {
            server.close(() => done());
            server.closeAllConnections();
          }),
      });
    });
  });
}

/** A socket that a process before left behind. Anything else stays: listening fails. */
function removeSocket(path: string): void {
  if (statSync(path, { throwIfNoEntry: false })?.isSocket() === true) unlinkSync(path);
}

class AdminPort {
  readonly #state: AdminState;
  readonly #kind: AdminKind;
  readonly #statistics: AdminStatistics;
  readonly #agent: AgentPort | undefined;
  #streaming = 0;

  constructor(state: AdminState, kind: AdminKind, statistics: AdminStatistics) {
    const metrics = BY_PATH.get('/stats/prometheus');
    const { agent } = state.options;
    this.#agent =
      kind === 'agent' && agent !== undefined && metrics !== undefined
        ? new AgentPort(state, metrics, agent.environment)
        : undefined;
    this.#state = state;
    this.#kind = kind;
    this.#statistics = statistics;
  }

  async serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.#statistics.requests.inc();
    const startMs = performance.now();
    try {
      const answer = await this.#answer(request);
      // A body that nobody reads is in the way of the connection's next request.
      request.resume();
      const bytes = await this.#send(request, response, answer);
      if (this.#kind === 'admin') this.#state.access.answered(request, startMs, response.statusCode, bytes);
    } catch (error) {
      const { stack, message } = error as Error;
      this.#state.options.log.log(
        'error',
        'admin',
        redactText(`${request.url?.slice(0, 200)} failed: ${stack ?? message}`),
      );
      if (!response.headersSent) response.writeHead(500).end('internal error\n');
      else response.destroy();
    }
  }

  async #answer(request: IncomingMessage): Promise<AdminAnswer> {
    const state = this.#state;
    const url = requestTarget(request.url ?? '/');
    if (url === undefined) return text('invalid path\n', 400);
    if (this.#kind === 'status') {
      if (url.pathname !== '/healthz/ready') return text('not found\n', 404);
      return state.state() === 'LIVE' ? text('') : text(`${state.state()}\n`, 503);
    }
    if (this.#kind === 'metrics') {
      const endpoint = BY_PATH.get('/stats/prometheus');
      if (url.pathname !== '/stats/prometheus' || endpoint === undefined) return text('not found\n', 404);
      return endpoint.answer(state, url.searchParams);
    }
    if (this.#agent !== undefined) return this.#agent.answer(request, url);
    const refusal = refuse(request);
    if (refusal !== undefined) return text(refusal, 403);
    const target = url.pathname + url.search;
    if (!state.access.mayAsk(target)) return text(`request to path ${target.slice(0, 200)} not allowed`, 403);
    const { method = 'GET' } = request;
    if (method !== 'GET' && method !== 'HEAD' && method !== 'POST') {
      return text(`Method ${method} not allowed.`, 405);
    }
    if (url.pathname === '/') return indexPage(ENDPOINTS, `Version ${VERSION}, ${state.state()}`);
    if (url.pathname === '/help') return help(ENDPOINTS);
    const endpoint = BY_PATH.get(url.pathname);
    if (endpoint === undefined) return text(`invalid path. ${helpText(ENDPOINTS)}`, 404);
    if (endpoint.mutates && method !== 'POST') return text(`Method ${method} not allowed, POST required.`, 405);
    const form = endpoint.takesForm === true && url.searchParams.size === 0 ? await formParameters(request) : undefined;
    return endpoint.answer(state, form ?? url.searchParams);
  }

  /** @returns how many bytes of body were sent. */
  async #send(request: IncomingMessage, response: ServerResponse, answer: AdminAnswer): Promise<number> {
    const { body } = answer;
    const streamed = typeof body !== 'string';
    const tooMany = streamed && this.#streaming >= MAX_STREAMED_ANSWERS;
    const status = tooMany ? 503 : answer.status;
    this.#statistics.answered(status);
    response.writeHead(status, {
      'content-type': answer.type,
      'cache-control': 'no-cache, max-age=0',
      'x-content-type-options': 'nosniff',
      'content-security-policy':
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'",
    });
    let bytes = 0;
    const end = (whole: string): void => {
      bytes = Buffer.byteLength(whole);
      response.end(whole);
    };
    if (request.method === 'HEAD') response.end();
    else if (tooMany) end(`more than ${MAX_STREAMED_ANSWERS} large answers are under way, try again\n`);
    else if (!streamed) end(body);
    else {
      this.#streaming++;
      try {
        for await (const piece of body) {
          if (response.destroyed) return bytes;
          bytes += Buffer.byteLength(piece);
          if (!response.write(piece) && !(await drained(response))) {
            response.destroy();
            return bytes;
          }
        }
        response.end();
      } finally {
        this.#streaming--;
      }
    }
    return bytes;
  }
}

/** @returns false when the client has gone or reads nothing for too long. */
function drained(response: ServerResponse): Promise<boolean> {
  return new Promise((resolve) => {
    const settle = (well: boolean): void => {
      clearTimeout(timer);
      response.off('drain', onDrain).off('close', onClose);
      resolve(well);
    };
    const onDrain = (): void => settle(true);
    const onClose = (): void => settle(false);
    const timer = setTimeout(() => settle(false), CLIENT_TIMEOUT_MS).unref();
    response.on('drain', onDrain).on('close', onClose);
  });
}

/** DNS rebinding and cross-site requests come with a foreign name in Host or Origin (attacks.md row 58). */
function refuse({ headers }: IncomingMessage): string | undefined {
  const { host = '', origin, 'sec-fetch-site': site } = headers;
  if (!isLocalName(host)) return `Host "${host.slice(0, 80)}" is not this machine: use 127.0.0.1 or localhost\n`;
  if (site === 'cross-site' || site === 'same-site') return 'requests from other sites are refused\n';
  if (origin === undefined) return undefined;
  try {
    if (isLocalName(new URL(origin).host)) return undefined;
  } catch {
    // Not a URL ("null"): foreign.
  }
  return 'requests from other sites are refused\n';
}

function isLocalName(host: string): boolean {
  const name = host.startsWith('[') ? host.slice(1, host.indexOf(']')) : host.replace(/:\d*$/, '');
  // Any address literal is no name that a browser was tricked into resolving.
  return name === 'localhost' || isIP(name) !== 0;
}

/** Envoy's names: `http.admin.…` and `listener.admin.…`. */
class AdminStatistics {
  readonly requests: Counter;
  readonly #classes: readonly (Counter | undefined)[];
  readonly #connections: Counter;
  readonly #active: Gauge;
  readonly #overflow: Counter;

  constructor(statistics: Statistics, kind: AdminKind) {
    this.requests = statistics.counter(`http.${kind}.downstream_rq_total`);
    this.#classes = [2, 4, 5].reduce<(Counter | undefined)[]>((classes, digit) => {
      classes[digit] = statistics.counter(`http.${kind}.downstream_rq_${digit}xx`);
      return classes;
    }, []);
    this.#connections = statistics.counter(`listener.${kind}.downstream_cx_total`);
    this.#active = statistics.gauge(`listener.${kind}.downstream_cx_active`);
    this.#overflow = statistics.counter(`listener.${kind}.downstream_cx_overflow`);
  }

  answered(status: number): void {
    this.#classes[Math.floor(status / 100)]?.inc();
  }

  watch(server: Server): void {
    server.on('connection', (socket: Socket) => {
      this.#connections.inc();
      this.#active.inc();
      socket.once('close', () => this.#active.dec());
    });
    server.on('drop', () => this.#overflow.inc());
  }
}

/**
 * The admin interface (loopback), the status port and the metrics port, on the control thread.
 * Source: Envoy docs "Administration interface"; istio.md §2.1, §4.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { isIP } from 'node:net';
import { BindError } from '../net/listening_socket.ts';
import type { ListenAddress } from '../proxy_options.ts';
import { configEndpoints } from './config_dump.ts';
import { serverEndpoints } from './server_endpoints.ts';
import { type AdminAnswer, type AdminEndpoint, type AdminServer, type AdminState, text } from './state.ts';
import { statsEndpoints } from './stats.ts';

const ENDPOINTS: readonly AdminEndpoint[] = [...configEndpoints, ...serverEndpoints, ...statsEndpoints];
/** An admin client that goes on sending headers or never reads holds no more than its own connection, and not for ever. */
const REQUEST_TIMEOUT_MS = 30_000;
const MAX_CONNECTIONS = 256;

/** @throws {BindError} */
export function startAdmin(
  state: AdminState,
  address: ListenAddress,
  kind: 'admin' | 'status' | 'metrics',
): Promise<AdminServer> {
  const server = createServer(
    { requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS },
    (request, response) => {
      answer(state, kind, request).then(
        (result) => send(response, request, result),
        (error: Error) => {
          state.options.log.log('error', 'admin', `${request.url} failed: ${error.stack ?? error.message}`);
          if (!response.headersSent) response.writeHead(500).end('internal error\n');
          else response.destroy();
        },
      );
    },
  );
  server.maxConnections = MAX_CONNECTIONS;
  server.on('clientError', (_error, socket) => socket.destroy());
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => reject(new BindError(address.ip, address.port, error)));
    server.listen({ host: address.ip, port: address.port }, () => {
      const bound = server.address();
      const port = bound !== null && typeof bound === 'object' ? bound.port : address.port;
      server.unref();
      resolve({
        address: { ip: address.ip, port },
        close: () =>
          new Promise((done) => {
            server.close(() => done());
            server.closeAllConnections();
          }),
      });
    });
  });
}

async function answer(
  state: AdminState,
  kind: 'admin' | 'status' | 'metrics',
  request: IncomingMessage,
): Promise<AdminAnswer> {
  let url: URL;
  try {
    url = new URL(request.url ?? '/', 'http://admin');
  } catch {
    return text('invalid path\n', 400);
  }
  if (kind === 'status') {
    if (url.pathname !== '/healthz/ready') return text('not found\n', 404);
    return state.state() === 'LIVE' ? text('') : text(`${state.state()}\n`, 503);
  }
  if (kind === 'metrics') {
    const endpoint = ENDPOINTS.find(({ path }) => path === '/stats/prometheus');
    if (url.pathname !== '/stats/prometheus' || endpoint === undefined) return text('not found\n', 404);
    return endpoint.answer(state, url.searchParams);
  }
  const refusal = refuse(request);
  if (refusal !== undefined) return text(refusal, 403);
  if (url.pathname === '/' || url.pathname === '/help') return index(url.pathname === '/help');
  const endpoint = ENDPOINTS.find(({ path }) => path === url.pathname);
  if (endpoint === undefined) {
    return text(`invalid path. admin commands are:\n${helpText()}`, 404);
  }
  if (endpoint.mutates && request.method !== 'POST') {
    return text(`Method ${request.method} not allowed, POST required.`, 405);
  }
  return endpoint.answer(state, url.searchParams);
}

/** DNS rebinding and cross-site requests come with a foreign name in Host or Origin (attacks.md row 58). */
function refuse({ headers }: IncomingMessage): string | undefined {
  const { host = '', origin } = headers;
  if (!isLoopbackName(host)) return `Host "${host.slice(0, 80)}" is not this machine: use 127.0.0.1 or localhost\n`;
  if (origin === undefined) return undefined;
  try {
    if (isLoopbackName(new URL(origin).host)) return undefined;
  } catch {
    // Not a URL ("null"): foreign.
  }
  return 'requests from other sites are refused\n';
}

function isLoopbackName(host: string): boolean {
  const name = host.startsWith('[') ? host.slice(1, host.indexOf(']')) : host.replace(/:\d*$/, '');
  // Any address literal is no name that a browser was tricked into resolving.
  return name === 'localhost' || isIP(name) !== 0;
}

async function send(
  response: ServerResponse,
  request: IncomingMessage,
  { status, type, body }: AdminAnswer,
): Promise<void> {
  response.writeHead(status, {
    'content-type': type,
    'cache-control': 'no-cache, max-age=0',
    'x-content-type-options': 'nosniff',
    'content-security-policy': "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
  });
  if (request.method === 'HEAD') {
    response.end();
    return;
  }
  if (typeof body === 'string') {
    response.end(body);
    return;
  }
  for await (const piece of body) {
    if (response.destroyed) return;
    if (!response.write(piece)) await new Promise((resolve) => response.once('drain', resolve).once('close', resolve));
  }
  response.end();
}

function helpText(): string {
  return ENDPOINTS.map(({ path, help, mutates }) => `  ${path}${mutates ? ' (POST)' : ''}: ${help}\n`).join('');
}

function index(plain: boolean): AdminAnswer {
  if (plain) return text(`admin commands are:\n${helpText()}`);
  const rows = ENDPOINTS.map(({ path, help, mutates }) => {
    const action = mutates
      ? `<form method="post" action="${path}"><button>${path}</button></form>`
      : `<a href="${path}">${path}</a>`;
    return `<tr><td>${action}</td><td>${help}</td></tr>`;
  });
  return {
    status: 200,
    type: 'text/html; charset=UTF-8',
    body: `<!doctype html><title>Pillion admin</title><style>body{font:14px sans-serif;margin:2em}td{padding:2px 12px}</style><h1>Pillion admin</h1><table>${rows.join('')}</table>`,
  };
}

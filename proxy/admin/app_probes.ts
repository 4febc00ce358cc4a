/**
 * Runs the application's probes and lifecycle hooks, which the injector has pointed at this port: under STRICT mutual TLS
 * kubelet could not reach the application itself.
 */
import { request as httpRequest, type IncomingHttpHeaders } from 'node:http';
import { connect, isIP } from 'node:net';
import { type AdminAnswer, text } from './state.ts';

/** Kubernetes core/v1 Probe, as far as the injector passes it on. */
interface Prober {
  readonly httpGet?: {
    readonly path?: string;
    readonly port: number;
    readonly host?: string;
    readonly scheme?: string;
    readonly httpHeaders?: readonly { readonly name: string; readonly value: string }[];
  };
  readonly tcpSocket?: { readonly port: number };
  readonly grpc?: { readonly port: number; readonly service?: string | null };
  readonly timeoutSeconds?: number;
}

/** What kubelet reads of an answer. */
const MAX_BODY_BYTES = 10 * 1024;
const MAX_REDIRECTS = 10;
const DEFAULT_TIMEOUT_S = 1;
/** The application is reached from here, so that interception leaves the connection alone. */
const SOURCE_V4 = '127.0.0.6';

/** Of kubelet's request, what is not the application's to see. */
const OWN_HEADERS = new Set(['host', 'connection', 'accept-encoding', 'content-length', 'transfer-encoding']);

export class AppProbes {
  readonly #probers = new Map<string, Prober>();
  readonly #podIp: string;

  /** @param json by path: `{"/app-health/web/readyz":{"httpGet":{…}}}`; '' for none */
  constructor(json: string, podIp: string, complain: (message: string) => void) {
    this.#podIp = podIp;
    if (json === '') return;
    try {
      for (const [path, prober] of Object.entries(JSON.parse(json) as Record<string, Prober>)) {
        const ways = [prober.httpGet, prober.tcpSocket, prober.grpc].filter((way) => way !== undefined && way !== null);
        const port = Number(ways[0]?.port);
        if (ways.length === 1 && port >= 1 && port <= 65_535) this.#probers.set(path, prober);
        else
          complain(
            `Cannot use ISTIO_KUBE_APP_PROBERS "${path}": one of httpGet, tcpSocket and grpc with a port is wanted`,
          );
      }
    } catch (error) {
      complain(`Cannot read ISTIO_KUBE_APP_PROBERS: ${(error as Error).message}`);
    }
  }

  async run(path: string, headers: IncomingHttpHeaders): Promise<AdminAnswer> {
    const prober = this.#probers.get(path);
    if (prober === undefined) return text(`no probe is configured for ${path}\n`, 404);
    const timeoutMs = (prober.timeoutSeconds ?? DEFAULT_TIMEOUT_S) * 1000 || DEFAULT_TIMEOUT_S * 1000;
    try {
      if (prober.httpGet !== undefined) return await this.#http(prober.httpGet, headers, timeoutMs);
      if (prober.tcpSocket !== undefined) await this.#tcp(prober.tcpSocket.port, timeoutMs);
      else if (prober.grpc !== undefined) await this.#grpc(prober.grpc.port, prober.grpc.service ?? '', timeoutMs);
      return text('');
    } catch (error) {
      return text(`${(error as Error).message}\n`, 500);
    }
  }

  #http(get: NonNullable<Prober['httpGet']>, headers: IncomingHttpHeaders, timeoutMs: number): Promise<AdminAnswer> {
    const scheme = get.scheme?.toLowerCase() === 'https' ? 'https' : 'http';
    const host = get.host === undefined || get.host === '' ? this.#podIp : get.host;
    const path = get.path === undefined || get.path === '' ? '/' : get.path.startsWith('/') ? get.path : `/${get.path}`;
    const own: Record<string, string> = {};
    for (const [name, value] of Object.entries(headers)) {
      if (!OWN_HEADERS.has(name) && typeof value === 'string') own[name] = value;
    }
    for (const { name, value } of get.httpHeaders ?? []) own[name.toLowerCase()] = value;
    const url = new URL(`${scheme}://${host.includes(':') ? `[${host}]` : host}:${get.port}${path}`);
    return fetchOnce(url, own, AbortSignal.timeout(timeoutMs), MAX_REDIRECTS);
  }

  #tcp(port: number, timeoutMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = connect({ host: this.#podIp, port, ...sourceFor(this.#podIp) });
      const timer = setTimeout(() => socket.destroy(new Error(`no connection to port ${port} in time`)), timeoutMs);
      socket.once('connect', () => {
        socket.destroy();
        resolve();
      });
      socket.once('error', reject);
      socket.once('close', () => clearTimeout(timer));
    });
  }

  /** grpc.health.v1.Health/Check; anything but SERVING is a failure. */
  async #grpc(port: number, service: string, timeoutMs: number): Promise<void> {
    const { Client, credentials } = await import('@grpc/grpc-js');
    const host = isIP(this.#podIp) === 6 ? `[${this.#podIp}]` : this.#podIp;
    const client = new Client(`${host}:${port}`, credentials.createInsecure());
    try {
      const answer = await new Promise<Buffer>((resolve, reject) =>
        client.makeUnaryRequest(
          '/grpc.health.v1.Health/Check',
          (name: string) => {
            const bytes = Buffer.from(name);
            return bytes.length === 0 ? bytes : Buffer.concat([Buffer.from([0x0a, bytes.length]), bytes]);
          },
          (bytes) => bytes,
          service.slice(0, 127),
          { deadline: Date.now() + timeoutMs },
          (error, value) => (error !== null ? reject(error) : resolve(value ?? Buffer.alloc(0))),
        ),
      );
      // HealthCheckResponse.status, field 1: SERVING is 1.
      if (answer[0] !== 0x08 || answer[1] !== 1) throw new Error(`gRPC service "${service}" is not serving`);
    } finally {
      client.close();
    }
  }
}

function sourceFor(ip: string): { readonly localAddress?: string } {
  return process.platform === 'linux' && isIP(ip) === 4 ? { localAddress: SOURCE_V4 } : {};
}

/** Redirects within the same host are followed, as kubelet does; one elsewhere counts as well. */
function fetchOnce(
  url: URL,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
  redirects: number,
): Promise<AdminAnswer> {
  return new Promise((resolve, reject) => {
    const secure = url.protocol === 'https:';
    const options = {
      headers: { ...headers, connection: 'close' },
      signal,
      agent: false as const,
      ...sourceFor(url.hostname),
      // The application's certificate is its own affair: kubelet does not look at it either.
      ...(secure && { rejectUnauthorized: false }),
    };
    const made = (secure ? process.getBuiltinModule('node:https').request : httpRequest)(url, options, (response) => {
      const { statusCode = 500, headers: answer } = response;
      const { location } = answer;
      if (
        statusCode >= 300 &&
        statusCode < 400 &&
        location !== undefined &&
        redirects > 0 &&
        URL.canParse(location, url)
      ) {
        response.resume();
        const next = new URL(location, url);
        if (next.hostname !== url.hostname) return resolve(text('', 200));
        return resolve(fetchOnce(next, headers, signal, redirects - 1));
      }
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on('data', (chunk: Buffer) => {
        if (bytes < MAX_BODY_BYTES) chunks.push(chunk.subarray(0, MAX_BODY_BYTES - bytes));
        bytes += chunk.length;
        if (bytes >= MAX_BODY_BYTES) response.destroy();
      });
      response.on('close', () => {
        const type = typeof answer['content-type'] === 'string' ? answer['content-type'] : 'text/plain';
        resolve({ status: statusCode, type, body: Buffer.concat(chunks).toString() });
      });
    });
    made.on('error', (error) => reject(signal.aborted ? new Error(`no answer from ${url.host} in time`) : error));
    made.end();
  });
}

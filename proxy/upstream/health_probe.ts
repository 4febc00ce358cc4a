/** Asks one host of a cluster how it is, through the cluster's own transport, on the data thread that was told to. */
import type { StreamEncoder } from '../http/codec.ts';
import { grpcFrame, grpcHead } from '../http/grpc_message.ts';
import { RequestHeaders, type Headers, type ResponseHeaders } from '../http/headers.ts';
import type { ByteStream } from '../net/byte_stream.ts';
import { TcpUpstream } from '../tcp/tcp_upstream.ts';
import type { ClusterRuntime } from './cluster_runtime.ts';
import type { HealthCheck, ProbeAnswer } from './health_check.ts';
import type { Host } from './host.ts';
import type { PoolRequest } from './pool.ts';

const MAX_ANSWER_BYTES = 65_536;

/** Never rejects. '': the question could not be put. */
export function probeHost(
  cluster: ClusterRuntime,
  address: string,
  check: HealthCheck,
  timeoutMs: number,
): Promise<ProbeAnswer> {
  const host = cluster.hosts.find((one) => one.address.text === address);
  if (host === undefined) return Promise.resolve('');
  return new Promise((resolve) => {
    let end = (): void => {};
    let over = false;
    const finish = (answer: ProbeAnswer): void => {
      if (over) return;
      over = true;
      clearTimeout(timer);
      end();
      resolve(answer);
    };
    const timer = setTimeout(() => finish(`no answer within ${timeoutMs} ms`), timeoutMs);
    end = check.kind === 'tcp' ? probeTcp(cluster, host, check, finish) : probeHttp(cluster, host, check, finish);
    // It may have been over before there was anything to end.
    if (over) end();
  });
}

type Finish = (answer: ProbeAnswer) => void;

function probeTcp(
  cluster: ClusterRuntime,
  host: Host,
  check: Extract<HealthCheck, { kind: 'tcp' }>,
  finish: Finish,
): () => void {
  const options = cluster.connectionOptions(host, 'default');
  options.breaker.acquire('connections');
  let stream: ByteStream | undefined;
  const upstream = new TcpUpstream(options, {
    opened(opened) {
      stream = opened;
      if (check.receive.length === 0) return finish(undefined);
      let received = '';
      opened.onData = (bytes) => {
        received = (received + bytes.toString('hex')).slice(-2 * MAX_ANSWER_BYTES);
        // Each piece in its turn, with whatever between.
        let from = 0;
        for (const wanted of check.receive) {
          const at = received.indexOf(wanted, from);
          if (at < 0) return;
          from = at + wanted.length;
        }
        finish(undefined);
      };
      opened.onClose = () => finish('the connection closed before the answer');
      if (check.send !== '') opened.write(Buffer.from(check.send, 'hex'));
    },
    failed: (reason, detail) => finish(detail === '' ? reason : detail),
  });
  upstream.start();
  return () => {
    if (stream === undefined) upstream.abort();
    else stream.close('reset');
  };
}

function probeHttp(
  cluster: ClusterRuntime,
  host: Host,
  check: Exclude<HealthCheck, { kind: 'tcp' }>,
  finish: Finish,
): () => void {
  const isGrpc = check.kind === 'grpc';
  const pool = cluster.pool(host, 'default', isGrpc ? 'HTTP/2' : 'HTTP/1.1');
  const request = new ProbeRequest(
    isGrpc ? grpcProbeHead(check, cluster.name) : httpHead(check, cluster.name),
    isGrpc ? grpcBody(check.service) : undefined,
    (status, headers, body) => {
      if (check.kind === 'http') {
        const fine = check.expected.some(([first, behind]) => status >= first && status < behind);
        finish(fine ? undefined : `it answered ${status}`);
      } else {
        const grpcStatus = headers?.get('grpc-status');
        const serving = status === 200 && (grpcStatus === undefined || grpcStatus === '0') && isServing(body);
        finish(serving ? undefined : `it is not serving (status ${status}, grpc-status ${grpcStatus ?? 'none'})`);
      }
    },
    finish,
  );
  pool.request(request);
  return () => {
    if (!request.abandon()) pool.cancel(request);
  };
}

class ProbeRequest implements PoolRequest {
  readonly #head: RequestHeaders;
  readonly #body: Buffer | undefined;
  readonly #answered: (status: number, end: Headers | undefined, body: Buffer) => void;
  readonly #finish: Finish;
  #encoder: StreamEncoder | undefined = undefined;
  #response: ResponseHeaders | undefined = undefined;
  #received = Buffer.alloc(0);
  #over = false;

  constructor(
    head: RequestHeaders,
    body: Buffer | undefined,
    answered: (status: number, end: Headers | undefined, body: Buffer) => void,
    finish: Finish,
  ) {
    this.#head = head;
    this.#body = body;
    this.#answered = answered;
    this.#finish = finish;
  }

  /** @returns whether it had a connection. */
  abandon(): boolean {
    const had = this.#encoder !== undefined;
    if (had && !this.#over) this.#encoder?.reset('local reset');
    this.#over = true;
    return had;
  }

  poolReady(encoder: StreamEncoder): void {
    if (this.#over) return encoder.reset('local reset');
    this.#encoder = encoder;
    encoder.encodeHeaders(this.#head, this.#body === undefined);
    if (this.#body !== undefined) encoder.encodeData(this.#body, true);
  }

  poolFailed(reason: string, detail: string): void {
    this.#over = true;
    // Our own limits say nothing about the host.
    this.#finish(reason === 'overflow' ? '' : detail === '' ? reason : detail);
  }

  decode1xx(): void {}

  decodeHeaders(headers: RequestHeaders | ResponseHeaders, endStream: boolean): void {
    this.#response = headers as ResponseHeaders;
    if (endStream) this.#end(this.#response);
  }

  decodeData(chunk: Buffer, endStream: boolean): void {
    if (this.#received.length < MAX_ANSWER_BYTES) this.#received = Buffer.concat([this.#received, chunk]);
    if (endStream) this.#end(this.#response);
  }

  decodeTrailers(trailers: Headers): void {
    this.#end(trailers);
  }

  onReset(reason: string): void {
    if (this.#over) return;
    this.#over = true;
    this.#finish(reason);
  }

  onDrain(): void {}

  #end(last: Headers | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#answered(this.#response?.status ?? 0, last, this.#received);
  }
}

function httpHead(check: Extract<HealthCheck, { kind: 'http' }>, cluster: string): RequestHeaders {
  const head = new RequestHeaders();
  head.method = check.method;
  head.path = check.path;
  head.authority = check.host === '' ? cluster : check.host;
  head.append('user-agent', 'Envoy/HC');
  for (const [name, value] of check.headers) head.append(name, value);
  return head;
}

function grpcProbeHead(check: Extract<HealthCheck, { kind: 'grpc' }>, cluster: string): RequestHeaders {
  const head = grpcHead(check.authority === '' ? cluster : check.authority, '/grpc.health.v1.Health/Check');
  head.append('user-agent', 'Envoy/HC');
  return head;
}

/** grpc.health.v1.HealthCheckRequest{service = 1} in a gRPC frame. */
function grpcBody(service: string): Buffer {
  const name = Buffer.from(service).subarray(0, 127);
  const message = name.length === 0 ? name : Buffer.concat([Buffer.from([0x0a, name.length]), name]);
  return grpcFrame(message);
}

/** grpc.health.v1.HealthCheckResponse{status = 1}: SERVING is 1. */
function isServing(body: Buffer): boolean {
  return body.length >= 7 && body[0] === 0 && body[5] === 0x08 && body[6] === 1;
}

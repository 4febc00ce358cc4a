/** HTTP requests that the proxy itself makes to a cluster, through that cluster's balancer, transport and limits. */
import { failureOfReset } from '../failures.ts';
import type { ClusterLookup } from '../upstream/cluster_lookup.ts';
import type { PoolRequest } from '../upstream/pool.ts';
import { Deadline, type Deadlines } from '../net/deadlines.ts';
import type { ResetReason, StreamEncoder } from './codec.ts';
import type { InternalRequest, InternalResponse } from './filter.ts';
import type { Headers, RequestHeaders, ResponseHeaders } from './headers.ts';
import { OwnRequest } from './own_request.ts';

const DEFAULT_TIMEOUT_MS = 5000;
const DEFAULT_MAX_RESPONSE_BYTES = 1024 * 1024;

/** Rejects with an Error whose message says what failed: no cluster, no host, connect, timeout, abort, too large. */
export function callCluster(
  clusters: ClusterLookup,
  deadlines: Deadlines,
  name: string,
  request: InternalRequest,
  signal: AbortSignal,
): Promise<InternalResponse> {
  return new Promise((resolve, reject) => {
    new InternalCall(clusters, deadlines, name, request, signal, resolve, reject).start();
  });
}

class InternalCall extends OwnRequest implements PoolRequest {
  readonly #clusters: ClusterLookup;
  readonly #name: string;
  readonly #request: InternalRequest;
  readonly #signal: AbortSignal;
  readonly #resolve: (response: InternalResponse) => void;
  readonly #reject: (error: Error) => void;
  readonly #deadline: Deadline;
  readonly #chunks: Buffer[] = [];
  readonly #onAbort = (): void => this.fail('the request it belonged to has ended');
  #bytes = 0;
  #headers: ResponseHeaders | undefined = undefined;
  #encoder: StreamEncoder | undefined = undefined;
  #done = false;

  constructor(
    clusters: ClusterLookup,
    deadlines: Deadlines,
    name: string,
    request: InternalRequest,
    signal: AbortSignal,
    resolve: (response: InternalResponse) => void,
    reject: (error: Error) => void,
  ) {
    super(request.headers);
    this.#clusters = clusters;
    this.#name = name;
    this.#request = request;
    this.#signal = signal;
    this.#resolve = resolve;
    this.#reject = reject;
    const timeoutMs = request.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.#deadline = new Deadline(() => this.fail(`no answer within ${timeoutMs} ms`));
    deadlines.list(timeoutMs).arm(this.#deadline);
  }

  start(): void {
    if (this.#signal.aborted) return this.#onAbort();
    this.#signal.addEventListener('abort', this.#onAbort, { once: true });
    const cluster = this.#clusters.get(this.#name);
    if (cluster === undefined) return this.fail('there is no such cluster');
    this.ask(cluster, 'HTTP/1.1');
  }

  protected override get isOver(): boolean {
    return this.#done;
  }

  poolReady(encoder: StreamEncoder): void {
    if (this.#done) return encoder.reset('local reset');
    this.#encoder = encoder;
    const { body } = this.#request;
    encoder.encodeHeaders(this.requestHeaders, body === undefined);
    if (body !== undefined) encoder.encodeData(body, true);
  }

  poolFailed(reason: ResetReason, detail: string): void {
    this.fail(detail === '' ? failureOfReset(reason).body : detail);
  }

  decode1xx(): void {}

  decodeHeaders(headers: RequestHeaders | ResponseHeaders, endStream: boolean): void {
    this.#headers = headers as ResponseHeaders;
    if (endStream) this.#succeed(undefined);
  }

  decodeData(chunk: Buffer, endStream: boolean): void {
    if (this.#done) return;
    if (this.#request.ignoreBody === true) {
      if (endStream) this.#succeed(undefined);
      return;
    }
    this.#bytes += chunk.length;
    const limit = this.#request.maxResponseBytes ?? DEFAULT_MAX_RESPONSE_BYTES;
    if (this.#bytes > limit) return this.fail(`the answer is longer than ${limit} bytes`);
    this.#chunks.push(Buffer.from(chunk));
    if (endStream) this.#succeed(undefined);
  }

  decodeTrailers(trailers: Headers): void {
    this.#succeed(trailers);
  }

  onReset(reason: ResetReason): void {
    this.#encoder = undefined;
    this.fail(failureOfReset(reason).body);
  }

  onDrain(): void {}

  #succeed(trailers: Headers | undefined): void {
    if (this.#done || this.#headers === undefined) return;
    this.#finish();
    this.#resolve({ headers: this.#headers, body: Buffer.concat(this.#chunks), trailers });
  }

  protected override fail(reason: string): void {
    if (this.#done) return;
    this.#finish();
    // Who waits no longer for a connection leaves its place to others.
    if (this.#encoder === undefined) this.pool?.cancel(this);
    else this.#encoder.reset('local reset');
    this.#reject(new Error(`Cannot call cluster "${this.#name}": ${reason}`));
  }

  #finish(): void {
    this.#done = true;
    this.#deadline.cancel();
    this.#signal.removeEventListener('abort', this.#onAbort);
  }
}

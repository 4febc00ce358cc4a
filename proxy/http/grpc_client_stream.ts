/**
 * A gRPC call that the proxy makes with many messages: a stream to a cluster, through its balancer, TLS and limits.
 *
 *   opening ──connection has room──► open ──end()──► half closed ──trailers──► ended
 *       └── no host, no connection ──────┴── reset by either side ────────────►
 */
import { failureOfReset } from '../failures.ts';
import type { Cluster } from '../upstream/cluster.ts';
import type { PoolRequest } from '../upstream/pool.ts';
import type { ResetReason, StreamEncoder } from './codec.ts';
import { grpcHead } from './grpc_message.ts';
import { type Headers, type RequestHeaders, ResponseHeaders } from './headers.ts';
import { OwnRequest } from './own_request.ts';

export interface GrpcStreamEvents {
  onOpen(): void;
  /** Messages may be written again. */
  onDrain(): void;
  /** Once; '': the server ended it with status 0. What it answered is passed over. */
  onEnd(failure: string): void;
}

const NOTHING = Buffer.alloc(0);

export class GrpcClientStream extends OwnRequest implements PoolRequest {
  readonly cluster: Cluster;
  readonly #events: GrpcStreamEvents;
  #encoder: StreamEncoder | undefined = undefined;
  #answer: ResponseHeaders | undefined = undefined;
  #isEnded = false;

  /** `path`: `/package.Service/Method`. */
  constructor(
    cluster: Cluster,
    call: {
      readonly authority: string;
      readonly path: string;
      readonly headers: readonly (readonly [string, string])[];
    },
    events: GrpcStreamEvents,
  ) {
    super(grpcHead(call.authority, call.path));
    this.cluster = cluster;
    this.#events = events;
    for (const [name, value] of call.headers) this.requestHeaders.append(name, value);
  }

  start(): void {
    this.ask(this.cluster, 'HTTP/2');
  }

  protected override get isOver(): boolean {
    return this.#isEnded;
  }

  /** Bytes of whole, framed messages; borrowed until it returns. @returns false: wait for `onDrain`. */
  write(frames: Buffer): boolean {
    return this.#encoder?.encodeData(frames, false) ?? false;
  }

  /** Nothing more is written; the server's answer ends the stream. */
  end(): void {
    this.#encoder?.encodeData(NOTHING, true);
  }

  /** Ends it now; nobody is told. */
  abort(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    if (this.#encoder === undefined) this.pool?.cancel(this);
    else this.#encoder.reset('local reset');
  }

  poolReady(encoder: StreamEncoder): void {
    if (this.#isEnded) return encoder.reset('local reset');
    this.#encoder = encoder;
    encoder.encodeHeaders(this.requestHeaders, false);
    this.#events.onOpen();
  }

  poolFailed(reason: ResetReason, detail: string): void {
    this.#end(detail === '' ? failureOfReset(reason).body : detail);
  }

  decode1xx(): void {}

  decodeHeaders(headers: RequestHeaders | ResponseHeaders, endStream: boolean): void {
    if (headers instanceof ResponseHeaders) this.#answer = headers;
    if (endStream) this.#answered(headers);
  }

  decodeData(_: Buffer, endStream: boolean): void {
    if (endStream) this.#answered(this.#answer);
  }

  decodeTrailers(trailers: Headers): void {
    this.#answered(trailers);
  }

  onReset(reason: ResetReason): void {
    this.#encoder = undefined;
    this.#end(failureOfReset(reason).body);
  }

  onDrain(): void {
    this.#events.onDrain();
  }

  #answered(last: Headers | undefined): void {
    const code = last?.get('grpc-status') ?? this.#answer?.get('grpc-status');
    if (code === '0') return this.#end('');
    const says = percentDecoded(last?.get('grpc-message') ?? '');
    if (code === undefined) this.#end(`it answered ${this.#answer?.status ?? 'nothing'} without a grpc-status`);
    else this.#end(`it answered grpc-status ${code}${says === '' ? '' : `: ${says}`}`);
  }

  protected override fail(reason: string): void {
    this.#end(reason);
  }

  #end(failure: string): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    const encoder = this.#encoder;
    this.#encoder = undefined;
    // An answer before our own end: RFC 9113 §8.1 lets the client stop.
    encoder?.reset('local reset');
    this.#events.onEnd(failure);
  }
}

/** The gRPC protocol's form of messages; what is no escape stays. */
function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

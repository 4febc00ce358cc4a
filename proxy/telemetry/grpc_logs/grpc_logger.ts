/**
 * Entries on their way to one access log service, on the data thread that made them: bounded, never waited for. One stream
 * (envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs) is kept open, and opened again when it ends.
 */
import { GRPC_PREFIX_BYTES } from '../../http/grpc_message.ts';
import { GrpcClientStream } from '../../http/grpc_client_stream.ts';
import type { NodeIdentity } from '../../proxy_options.ts';
import type { ClusterLookup } from '../../upstream/cluster_lookup.ts';
import type { LogLimit } from '../log_limit.ts';
import { ProtobufWriter, varintBytes, writeVarint } from '../protobuf_writer.ts';
import type { Counter } from '../statistics.ts';
import type { GrpcLogConfig, GrpcLogService } from './grpc_log_config.ts';

const PATH = '/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs';
/** Waiting on one thread while the service is away or slow; beyond, entries are dropped and counted. */
export const MAX_WAITING_BYTES = 1024 * 1024;
/** After the last entry, for the service to answer. */
const END_MS = 1000;

export interface GrpcLoggerOptions {
  readonly clusters: ClusterLookup;
  readonly node: NodeIdentity;
  readonly written: Counter;
  readonly dropped: Counter;
  readonly complain: LogLimit;
}

export class GrpcLogger {
  readonly #service: GrpcLogService;
  /** StreamAccessLogsMessage.http_logs or tcp_logs. */
  readonly #listTag: number;
  readonly #options: GrpcLoggerOptions;
  /** Entries with their tags and lengths. */
  readonly #waiting = new ProtobufWriter();
  #count = 0;
  #stream: GrpcClientStream | undefined = undefined;
  #isOpen = false;
  #isIdentified = false;
  #isBlocked = false;
  #flushTimer: NodeJS.Timeout | undefined = undefined;
  #retryTimer: NodeJS.Timeout | undefined = undefined;
  #backoffMs: number;
  #ended: PromiseWithResolvers<void> | undefined = undefined;
  /** Since it was last asked. */
  wasUsed = true;

  constructor(service: GrpcLogService, entries: GrpcLogConfig['entries'], options: GrpcLoggerOptions) {
    this.#service = service;
    this.#listTag = ((entries === 'http' ? 2 : 3) << 3) | 2;
    this.#options = options;
    this.#backoffMs = service.backoffBaseMs;
  }

  /** `entry` is borrowed. */
  add(entry: Buffer): void {
    this.wasUsed = true;
    const size = 1 + varintBytes(entry.length) + entry.length;
    if (this.#waiting.length + size > MAX_WAITING_BYTES) {
      this.#options.dropped.inc();
      return;
    }
    this.#waiting.bytes(1, entry);
    this.#count++;
    if (this.#waiting.length >= this.#service.bufferBytes) this.flush();
    else this.#flushTimer ??= setTimeout(() => this.flush(), this.#service.flushMs).unref();
  }

  get isEmpty(): boolean {
    return this.#count === 0;
  }

  /** Writes what waits, once there is a stream that takes it. */
  flush(): void {
    clearTimeout(this.#flushTimer);
    this.#flushTimer = undefined;
    if (this.#count === 0 || this.#isBlocked || this.#retryTimer !== undefined) return;
    const { cluster } = this.#service;
    const newest = this.#options.clusters.get(cluster);
    // Of a cluster that was replaced: its connections are to go.
    if (this.#stream !== undefined && this.#stream.cluster !== newest) this.#leave();
    if (this.#stream === undefined) {
      if (newest === undefined) return this.#failed(`there is no cluster "${cluster}"`);
      this.#open(newest);
    } else if (this.#isOpen) this.#write(this.#stream);
  }

  /** Resolves when what waits was sent and the service has answered, or will not. */
  end(): Promise<void> {
    if (this.#ended !== undefined) return this.#ended.promise;
    this.#ended = Promise.withResolvers();
    clearTimeout(this.#retryTimer);
    this.#retryTimer = undefined;
    setTimeout(() => this.#over(), END_MS).unref();
    this.flush();
    this.#endIfSent();
    return this.#ended.promise;
  }

  // ── the stream ──────────────────────────────────────────────────────────────────────────────────────────────────

  #open(cluster: GrpcClientStream['cluster']): void {
    const { authority, headers } = this.#service;
    const stream = new GrpcClientStream(
      cluster,
      { authority, path: PATH, headers },
      {
        onOpen: () => {
          this.#isOpen = true;
          this.#write(stream);
          this.#endIfSent();
        },
        onDrain: () => {
          if (this.#stream !== stream) return;
          this.#isBlocked = false;
          this.flush();
          this.#endIfSent();
        },
        onEnd: (failure) => {
          if (this.#stream !== stream) return;
          this.#forget();
          if (this.#ended !== undefined) return this.#over();
          if (failure === '') return;
          this.#failed(failure);
        },
      },
    );
    this.#stream = stream;
    stream.start();
  }

  #write(stream: GrpcClientStream): void {
    if (this.#count === 0) return;
    const identifier = this.#isIdentified ? NOTHING : this.#identifier();
    const entries = this.#waiting.message;
    const size = identifier.length + 1 + varintBytes(entries.length) + entries.length;
    const frame = Buffer.allocUnsafe(GRPC_PREFIX_BYTES + size);
    frame[0] = 0;
    frame.writeUInt32BE(size, 1);
    frame.set(identifier, GRPC_PREFIX_BYTES);
    let at = GRPC_PREFIX_BYTES + identifier.length;
    frame[at++] = this.#listTag;
    at = writeVarint(frame, at, entries.length);
    frame.set(entries, at);
    const count = this.#count;
    this.#count = 0;
    this.#waiting.reset();
    this.#isIdentified = true;
    this.#isBlocked = !stream.write(frame);
    this.#options.written.add(count);
    this.#backoffMs = this.#service.backoffBaseMs;
  }

  /** The first message of a stream says who speaks: StreamAccessLogsMessage.Identifier { node = 1; log_name = 2 }. */
  #identifier(): Buffer {
    const { node } = this.#options;
    const out = new ProtobufWriter();
    const identifier = out.begin(1);
    const start = out.begin(1);
    out.string(1, node.id);
    out.string(2, node.cluster);
    if (node.zone !== undefined && node.zone !== '') {
      const locality = out.begin(4);
      out.string(2, node.zone);
      out.end(locality);
    }
    out.string(6, 'pillion');
    out.end(start);
    out.string(2, this.#service.logName);
    out.end(identifier);
    return Buffer.from(out.message);
  }

  #failed(reason: string): void {
    this.#options.complain('warning', `Cannot send access logs to cluster "${this.#service.cluster}": ${reason}`);
    if (this.#ended !== undefined) return this.#over();
    const delayMs = this.#backoffMs;
    this.#backoffMs = Math.min(delayMs * 2, this.#service.backoffMaxMs);
    this.#retryTimer = setTimeout(() => {
      this.#retryTimer = undefined;
      this.flush();
    }, delayMs).unref();
  }

  #endIfSent(): void {
    if (this.#ended === undefined || this.#count > 0) return;
    if (this.#stream === undefined) this.#over();
    else if (this.#isOpen && !this.#isBlocked) this.#stream.end();
  }

  #over(): void {
    if (this.#count > 0) this.#options.dropped.add(this.#count);
    this.#count = 0;
    this.#waiting.reset();
    this.#stream?.abort();
    this.#forget();
    this.#ended?.resolve();
  }

  /** What was written is on its way; whatever the service answers is of no interest. */
  #leave(): void {
    if (this.#isOpen) this.#stream?.end();
    else this.#stream?.abort();
    this.#forget();
  }

  #forget(): void {
    this.#stream = undefined;
    this.#isOpen = false;
    this.#isIdentified = false;
    this.#isBlocked = false;
  }
}

const NOTHING = Buffer.alloc(0);

/** Access loggers of a data thread: lines are made here, collected, and written by the control thread. */
import { compileJson, compilePieces, type FormatInput } from '../http/formatter.ts';
import type { AccessLog, AccessLogSinks } from './access_log.ts';
import type { AccessLogConfig, AccessLogFormat } from './access_log_config.ts';
import { accessLogFilterOf } from './access_log_filter.ts';
import type { GrpcAccessLogs } from './grpc_logs/grpc_access_log.ts';
import { LineBuffer } from './line_buffer.ts';
import { otelAccessLog, type OtelLogSink } from './otel_logs/otel_access_log.ts';
import type { Counter } from './statistics.ts';

/** A batch leaves when it is this long or this old (Envoy file_flush_min_size_kb, file_flush_interval_msec). */
const BATCH_BYTES = 65_536;
const BATCH_MS = 1000;

export interface AccessLogChannel {
  /**
   * Hands complete lines over, with their memory. Never blocks. @returns false when the writer is behind and they were
   * dropped.
   */
  send(path: string, lines: Buffer): boolean;
}

interface Batch {
  /** Made with the first line: a quiet log holds no memory. */
  buffer: LineBuffer | undefined;
  lines: number;
  /** Of the batch before. */
  lastBytes: number;
}

type LineWriter = (input: FormatInput, to: LineBuffer) => void;

export class ThreadAccessLogs implements AccessLogSinks {
  readonly #channel: AccessLogChannel;
  readonly #batches = new Map<string, Batch>();
  readonly #written: Counter;
  readonly #dropped: Counter;
  readonly #flushedByTimer: Counter | undefined;
  readonly #flushMs: number;
  readonly #records: OtelLogSink;
  readonly #grpc: Pick<GrpcAccessLogs, 'create'> | undefined;
  #timer: NodeJS.Timeout | undefined = undefined;

  /** `flushMs` 0: every line leaves at the end of the event it was made in (for a person watching). */
  constructor(
    channel: AccessLogChannel,
    counters: { written: Counter; dropped: Counter; flushedByTimer?: Counter },
    flushMs = BATCH_MS,
    records: OtelLogSink = { add() {} },
    grpc?: Pick<GrpcAccessLogs, 'create'>,
  ) {
    this.#channel = channel;
    this.#written = counters.written;
    this.#dropped = counters.dropped;
    this.#flushedByTimer = counters.flushedByTimer;
    this.#flushMs = flushMs;
    this.#records = records;
    this.#grpc = grpc;
  }

  create(config: AccessLogConfig): AccessLog {
    const filter = accessLogFilterOf(config.filter);
    if (config.kind === 'otel') return otelAccessLog(config.otel, filter, this.#records);
    if (config.kind === 'grpc') return this.#grpc?.create(config.grpc, filter) ?? { log() {} };
    const { path } = config;
    const write = lineWriter(config.format);
    return {
      log: (input) => {
        if (filter === undefined || filter(input)) this.#add(path, write, input);
      },
    };
  }

  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const [path, batch] of this.#batches) {
      const { buffer, lines } = batch;
      if (buffer === undefined) continue;
      batch.buffer = undefined;
      batch.lines = 0;
      batch.lastBytes = buffer.length;
      if (this.#channel.send(path, buffer.take())) this.#written.add(lines);
      else this.#dropped.add(lines);
    }
  }

  #flushByTimer(): void {
    this.#flushedByTimer?.inc();
    this.flush();
  }

  #add(path: string, write: LineWriter, input: FormatInput): void {
    let batch = this.#batches.get(path);
    if (batch === undefined) {
      batch = { buffer: undefined, lines: 0, lastBytes: 0 };
      this.#batches.set(path, batch);
    }
    // An eighth more: batches of the same load differ by a line or two.
    batch.buffer ??= new LineBuffer(batch.lastBytes + (batch.lastBytes >> 3));
    write(input, batch.buffer);
    batch.lines++;
    if (batch.buffer.length >= BATCH_BYTES) this.flush();
    else this.#timer ??= setTimeout(() => this.#flushByTimer(), this.#flushMs).unref();
  }
}

const NEWLINE = Buffer.from('\n');
const ABSENT = Buffer.from('-');

/** Text lines as configured, the newline included; JSON lines with one. */
function lineWriter(format: AccessLogFormat): LineWriter {
  if (format.kind === 'json') {
    const value = compileJson(format.fields, format.omitEmpty);
    return (input, to) => {
      to.plain(JSON.stringify(value(input)));
      to.raw(NEWLINE);
    };
  }
  const ownNewline = format.format.endsWith('\n');
  const text = ownNewline ? format.format.slice(0, -1) : format.format;
  const pieces = compilePieces(text).map((piece) =>
    typeof piece === 'string' ? Buffer.from(escapeControls(piece)) : piece,
  );
  return (input, to) => {
    for (let i = 0; i < pieces.length; i++) {
      const piece = pieces[i] as (typeof pieces)[number];
      if (typeof piece !== 'function') {
        to.raw(piece);
        continue;
      }
      const value = piece(input);
      if (value === undefined || value === '') to.raw(ABSENT);
      else if (typeof value === 'string') to.text(value);
      else to.text(typeof value === 'object' ? JSON.stringify(value) : String(value));
    }
    if (ownNewline) to.raw(NEWLINE);
  };
}

/** What is not printable becomes \xNN, but for the tab: lines cannot be forged, terminals not be steered. */
export function escapeControls(text: string): string {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if ((code < 32 && code !== 9) || code === 127) {
      return text.replace(
        /[\x00-\x08\x0a-\x1f\x7f]/g,
        (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`,
      );
    }
  }
  return text;
}

/**
 * A connection with network filters before its terminal one: bytes that come pass `onData` of all filters in order,
 * bytes that go pass `onWrite` in reverse order. The terminal filter sees a byte stream like any other.
 */
import type { HeldMemory } from '../overload/heavy_streams.ts';
import type { Failure } from '../failures.ts';
import type { MutableBody } from '../http/body.ts';
import type { FilterResult, FilterStatus } from '../http/filter.ts';
import { StreamInfo } from '../http/stream_info.ts';
import { asFlushing, type ByteStream, type FlushingByteStream } from '../net/byte_stream.ts';
import type { ConnectionInfo } from '../net/connection_info.ts';
import type { ConnectionContext, ConnectionOwner, NetworkFilter, TerminalConnection } from '../net/network_filter.ts';

const nothing = (): void => {};
const EMPTY = Buffer.alloc(0);

/** One filter's part in one connection. */
interface Station {
  readonly filter: NetworkFilter<unknown>;
  readonly state: unknown;
  /** Its onNewConnection is through. */
  started: boolean;
  /** Held for it because it answered buffer; copies. */
  incoming: Buffer | undefined;
  outgoing: Buffer | undefined;
}

export interface FilteredOptions {
  readonly filters: readonly NetworkFilter<unknown>[];
  readonly bufferLimitBytes: number;
  nowMs(): number;
  /** Starts the terminal filter. */
  takeOver(stream: ByteStream, connection: TerminalConnection): ConnectionOwner;
  /** A filter threw or its promise was rejected: the connection is reset. */
  onFilterError(error: unknown): void;
}

export class FilteredConnection implements ConnectionContext, ConnectionOwner {
  readonly connection: ConnectionInfo;
  readonly info: StreamInfo;
  onClosed: (() => void) | undefined = undefined;
  readonly #stream: ByteStream;
  readonly #options: FilteredOptions;
  readonly #stations: readonly Station[];
  readonly #inner: InnerStream;
  #owner: ConnectionOwner | undefined = undefined;
  #controller: AbortController | undefined = undefined;
  #over = false;
  #draining = false;
  /** A filter's promise is under way; what comes meanwhile waits. */
  #waiting = false;
  #late: Buffer[] = [];
  #lateEnd = false;

  constructor(stream: ByteStream, options: FilteredOptions) {
    this.#stream = stream;
    this.#options = options;
    this.connection = stream.info;
    this.info = new StreamInfo(stream.info, Date.now(), options.nowMs());
    this.info.protocol = '';
    this.info.dynamicMetadata = stream.info.dynamicMetadata;
    this.#inner = new InnerStream(asFlushing(stream), (bytes, end) => this.#send(bytes, end));
    this.#stations = options.filters.map((filter) => ({
      filter,
      state: filter.newState?.(),
      started: false,
      incoming: undefined,
      outgoing: undefined,
    }));
    stream.onData = (bytes) => this.#received(bytes, false);
    stream.onEnd = () => this.#received(EMPTY, true);
    stream.onClose = (failure) => this.#ended(failure);
    stream.onDrain = () => this.#inner.onDrain();
  }

  /** Asks the filters' onNewConnection; the terminal filter begins when all are through. */
  start(): void {
    this.#begin();
  }

  // ── for the listener ────────────────────────────────────────────────────────────────────────────────────────────

  get activeCount(): number {
    return this.#owner?.activeCount ?? 0;
  }

  addHeldMemory(into: HeldMemory[]): void {
    this.#owner?.addHeldMemory?.(into);
  }

  drain(): void {
    this.#draining = true;
    if (this.#owner === undefined) this.#stream.close('flush');
    else this.#owner.drain();
  }

  destroy(): void {
    if (this.#owner === undefined) this.#stream.close('reset');
    else this.#owner.destroy();
  }

  // ── for the filters ─────────────────────────────────────────────────────────────────────────────────────────────

  write(bytes: Buffer, endStream: boolean): void {
    if (bytes.length > 0) this.#stream.write(bytes);
    if (endStream) this.#stream.endWrite();
  }

  close(how: 'flush' | 'reset', details: string): void {
    this.connection.terminationDetails ??= details;
    this.#stream.close(how);
  }

  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#over) this.#controller.abort();
    return this.#controller.signal;
  }

  // ── towards the terminal filter ─────────────────────────────────────────────────────────────────────────────────

  /** @returns whether every filter and the terminal one have begun. */
  #begin(): boolean {
    if (this.#owner !== undefined) return true;
    for (const station of this.#stations) {
      if (station.started) continue;
      const result = this.#askNew(station);
      if (result instanceof Promise) {
        this.#wait(result, (status) => {
          station.started = status !== 'stop';
          if (status === 'continue') this.#begin();
        });
        return false;
      }
      // Waiting for bytes counts as begun: its onData decides when the next filter begins.
      station.started = result !== 'stop';
      if (result !== 'continue') return false;
    }
    return this.#takeOver();
  }

  #takeOver(): boolean {
    if (this.#over) return false;
    if (this.#owner === undefined) {
      this.#owner = this.#options.takeOver(this.#inner, this);
      this.#owner.onClosed = () => this.#finish();
      if (this.#draining) this.#owner.drain();
    }
    return true;
  }

  #received(bytes: Buffer, end: boolean): void {
    if (this.#over) return;
    if (this.#waiting) {
      if (bytes.length > 0) this.#late.push(Buffer.from(bytes));
      this.#lateEnd ||= end;
      return;
    }
    this.#pass(0, bytes, end);
  }

  /** From filter `from` on. `bytes` are borrowed. */
  #pass(from: number, bytes: Buffer, end: boolean): void {
    const body: MutableBody = { bytes };
    for (let index = from; index < this.#stations.length; index++) {
      const station = this.#stations[index] as Station;
      if (!station.started && !this.#startLate(station, index, body, end)) return;
      if (station.incoming !== undefined) {
        body.bytes = Buffer.concat([station.incoming, body.bytes]);
        station.incoming = undefined;
      }
      if (station.filter.onData === undefined) continue;
      const result = this.#askData(station, body, end);
      if (!this.#goOn(result, station, index, body, end)) return;
      if (body.bytes.length === 0 && !end) return;
    }
    if (!this.#takeOver()) return;
    if (body.bytes.length > 0) this.#inner.onData(body.bytes);
    if (end) this.#inner.onEnd();
  }

  /** A filter before it has held the connection back until now. */
  #startLate(station: Station, index: number, body: MutableBody, end: boolean): boolean {
    station.started = true;
    const result = this.#askNew(station);
    // To wait for bytes is to go on: here they are.
    return result === 'buffer' || this.#goOn(result, station, index, body, end, index);
  }

  /** @returns whether the next filter gets the bytes now. `resumeAt`: where a promise goes on. */
  #goOn(
    result: FilterResult,
    station: Station,
    index: number,
    body: MutableBody,
    end: boolean,
    resumeAt = index + 1,
  ): boolean {
    if (result === 'continue') return !this.#over;
    if (result === 'stop') return false;
    const kept = Buffer.from(body.bytes);
    if (result === 'buffer') {
      if (kept.length > this.#options.bufferLimitBytes) this.close('reset', 'network_filter_buffer_overflow');
      else station.incoming = kept;
      return false;
    }
    this.#wait(result, (status) => {
      if (status === 'continue') this.#pass(resumeAt, kept, end);
      else if (status === 'buffer') station.incoming = kept;
    });
    return false;
  }

  #wait(result: Promise<FilterStatus>, then: (status: FilterStatus) => void): void {
    this.#waiting = true;
    this.#stream.readDisable(true);
    result.then(
      (status) => {
        this.#waiting = false;
        if (this.#over) return;
        then(status);
        this.#catchUp();
        this.#stream.readDisable(false);
      },
      (error: unknown) => this.#failed(error),
    );
  }

  #catchUp(): void {
    while (this.#late.length > 0 && !this.#waiting) this.#received(this.#late.shift() as Buffer, false);
    if (this.#lateEnd && !this.#waiting) {
      this.#lateEnd = false;
      this.#received(EMPTY, true);
    }
  }

  /** Towards the client. `bytes` are borrowed. */
  #send(bytes: Buffer, end: boolean): boolean {
    const body: MutableBody = { bytes };
    for (let index = this.#stations.length - 1; index >= 0; index--) {
      const station = this.#stations[index] as Station;
      if (station.filter.onWrite === undefined) continue;
      if (station.outgoing !== undefined) {
        body.bytes = Buffer.concat([station.outgoing, body.bytes]);
        station.outgoing = undefined;
      }
      const result = this.#askWrite(station, body, end);
      if (result === 'continue') continue;
      if (result === 'buffer') station.outgoing = Buffer.from(body.bytes);
      else if (result !== 'stop') this.#failed(new Error('onWrite answered with a promise'));
      return true;
    }
    const taken = body.bytes.length === 0 || this.#stream.write(body.bytes);
    if (end) this.#stream.endWrite();
    return taken;
  }

  #askNew({ filter, state }: Station): FilterResult {
    try {
      return filter.onNewConnection?.(this, state) ?? 'continue';
    } catch (error) {
      return this.#failed(error);
    }
  }

  #askData({ filter, state }: Station, body: MutableBody, end: boolean): FilterResult {
    try {
      return filter.onData?.(this, body, end, state) ?? 'continue';
    } catch (error) {
      return this.#failed(error);
    }
  }

  #askWrite({ filter, state }: Station, body: MutableBody, end: boolean): FilterResult {
    try {
      return filter.onWrite?.(this, body, end, state) ?? 'continue';
    } catch (error) {
      return this.#failed(error);
    }
  }

  #failed(error: unknown): 'stop' {
    this.#options.onFilterError(error);
    this.close('reset', 'network_filter_exception');
    return 'stop';
  }

  #ended(failure: Failure | undefined): void {
    if (this.#over) return;
    this.#over = true;
    this.#late = [];
    if (this.#owner === undefined) this.#finish();
    else this.#inner.onClose(failure);
  }

  /** The terminal filter is through with it, or never began. */
  #finish(): void {
    this.#over = true;
    this.info.endMs ||= this.#options.nowMs();
    this.#controller?.abort();
    for (const { filter, state } of this.#stations) {
      try {
        filter.onDestroy?.(this, state);
      } catch (error) {
        this.#options.onFilterError(error);
      }
    }
    this.onClosed?.();
  }
}

/** What the terminal filter holds. */
class InnerStream implements FlushingByteStream {
  onData: (bytes: Buffer) => void = nothing;
  onEnd: () => void = nothing;
  onClose: (failure: Failure | undefined) => void = nothing;
  onDrain: () => void = nothing;
  onFlush: () => void = nothing;
  readonly info: ConnectionInfo;
  readonly #stream: FlushingByteStream;
  readonly #send: (bytes: Buffer, end: boolean) => boolean;

  constructor(stream: FlushingByteStream, send: (bytes: Buffer, end: boolean) => boolean) {
    this.info = stream.info;
    this.#stream = stream;
    this.#send = send;
    stream.onFlush = () => this.onFlush();
  }

  flushSoon(): void {
    this.#stream.flushSoon();
  }

  /** Filters may keep what passes them: the memory is given away only where nobody does. */
  writeOwned(bytes: Buffer): 0 | 1 | 2 {
    return this.#send(bytes, false) ? 0 : 2;
  }

  write(bytes: Buffer | string): boolean {
    return this.#send(typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes, false);
  }

  readDisable(disabled: boolean): void {
    this.#stream.readDisable(disabled);
  }

  endWrite(): void {
    this.#send(EMPTY, true);
  }

  close(how: 'flush' | 'reset'): void {
    this.#stream.close(how);
  }
}

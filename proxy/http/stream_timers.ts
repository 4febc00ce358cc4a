/** The timeouts of one stream: idle, request, longest duration. Envoy: stream_idle_timeout, request_timeout, max_stream_duration. */
import { type Failure, failures } from '../failures.ts';
import { Deadline, type DeadlineList } from '../net/deadlines.ts';
import type { ConnectionManagerRuntime } from './connection_manager_runtime.ts';
import type { StreamInfo } from './stream_info.ts';

/** The stream. */
interface TimedStream {
  readonly info: StreamInfo;
  readonly requestComplete: boolean;
  closeAfterResponse(): void;
  fail(failure: Failure): void;
}

export class StreamTimers {
  readonly #runtime: ConnectionManagerRuntime;
  readonly #stream: TimedStream;
  #idleList: DeadlineList | undefined;
  #idle: Deadline | undefined = undefined;
  #request: Deadline | undefined = undefined;
  #max: Deadline | undefined = undefined;

  constructor(runtime: ConnectionManagerRuntime, stream: TimedStream) {
    this.#runtime = runtime;
    this.#stream = stream;
    this.#idleList = runtime.streamIdle;
  }

  /** The head has come; `endStream`: it was the whole request. */
  start(endStream: boolean): void {
    const { requestTimeout, streamMax, statistics } = this.#runtime;
    const stream = this.#stream;
    if (this.#idleList !== undefined) this.#armIdle(this.#idleList);
    if (requestTimeout !== undefined && !endStream) {
      this.#request = new Deadline(() => {
        statistics.rqTimeout.inc();
        stream.closeAfterResponse();
        stream.fail(failures.requestTimeout);
      });
      requestTimeout.arm(this.#request, stream.info.startMs);
    }
    if (streamMax !== undefined) this.#armMax(streamMax);
  }

  requestDone(): void {
    this.#request?.cancel();
  }

  /** Something moved: the idle timeout starts again. */
  active(): void {
    if (this.#idle !== undefined) this.#idleList?.arm(this.#idle);
  }

  /** A route's own idle timeout; 0: none. */
  setIdle(timeoutMs: number): void {
    this.#idle?.cancel();
    const { deadlines } = this.#runtime;
    this.#idleList = timeoutMs > 0 ? deadlines.scaled('http_downstream_stream_idle', timeoutMs) : undefined;
    if (this.#idleList !== undefined) this.#armIdle(this.#idleList);
  }

  /** How long the stream may last, counted from its beginning; replaces what was. 0: for ever. */
  setMax(durationMs: number): void {
    this.#max?.cancel();
    if (durationMs <= 0) return;
    const { deadlines, nowMs } = this.#runtime;
    this.#armMax(deadlines.list(durationMs));
    // It may be over already.
    if (this.#stream.info.startMs + durationMs < nowMs()) this.#max?.onExpire();
  }

  cancel(): void {
    this.#idle?.cancel();
    this.#request?.cancel();
    this.#max?.cancel();
  }

  #armMax(list: DeadlineList): void {
    const stream = this.#stream;
    this.#max ??= new Deadline(() => {
      this.#runtime.statistics.rqMaxDurationReached.inc();
      stream.fail(stream.requestComplete ? failures.maxStreamDurationAfterRequest : failures.maxStreamDuration);
    });
    list.arm(this.#max, stream.info.startMs);
  }

  #armIdle(list: DeadlineList): void {
    const stream = this.#stream;
    this.#idle ??= new Deadline(() => {
      this.#runtime.statistics.rqIdleTimeout.inc();
      stream.closeAfterResponse();
      stream.fail(stream.requestComplete ? failures.streamIdleTimeoutAfterRequest : failures.streamIdleTimeout);
    });
    list.arm(this.#idle, stream.info.startMs);
  }
}

/** What a peer may send without getting anywhere: each flood has its limit and its counter (attacks.md rows 19–24). */
import type { Counter } from '../telemetry/statistics.ts';
import {
  type Http2Options,
  INBOUND_CONTROL_FRAMES_PER_SECOND,
  MAX_INBOUND_CONTROL_FRAMES,
  PREMATURE_RESET_MIN_LIFETIME_MS,
  PREMATURE_RESET_TOTAL_STREAMS,
} from './options.ts';
import type { Http2Statistics } from './statistics.ts';

export class InboundLimits {
  /** Which flood it was, once one of the checks has answered false. */
  flood = '';
  /** The same as response code details: `http2.` and the counter's name. */
  floodDetails = '';
  streamsOpened = 0;
  dataFramesSent = 0;
  readonly #options: Http2Options;
  readonly #statistics: Http2Statistics;
  #priorityFrames = 0;
  #windowUpdates = 0;
  #emptyFrames = 0;
  #prematureResets = 0;
  #controlTokens = MAX_INBOUND_CONTROL_FRAMES;
  #controlMs = 0;

  constructor(options: Http2Options, statistics: Http2Statistics) {
    this.#options = options;
    this.#statistics = statistics;
  }

  /** A DATA, HEADERS or CONTINUATION frame. */
  payloadFrame(isEmpty: boolean, endsStream: boolean): boolean {
    if (!isEmpty || endsStream) {
      this.#emptyFrames = 0;
      return true;
    }
    if (++this.#emptyFrames <= this.#options.maxConsecutiveInboundFramesWithEmptyPayload) return true;
    return this.#flooded(
      this.#statistics.inboundEmptyFramesFlood,
      'inbound_empty_frames_flood',
      'frames with empty payload',
    );
  }

  priorityFrame(): boolean {
    const limit = this.#options.maxInboundPriorityFramesPerStream * (1 + this.streamsOpened);
    if (++this.#priorityFrames <= limit) return true;
    return this.#flooded(
      this.#statistics.inboundPriorityFramesFlood,
      'inbound_priority_frames_flood',
      'PRIORITY frames',
    );
  }

  windowUpdateFrame(): boolean {
    const perData = this.#options.maxInboundWindowUpdateFramesPerDataFrameSent;
    const limit = 5 + 2 * (this.streamsOpened + perData * this.dataFramesSent);
    if (++this.#windowUpdates <= limit) return true;
    return this.#flooded(
      this.#statistics.inboundWindowUpdateFramesFlood,
      'inbound_window_update_frames_flood',
      'WINDOW_UPDATE frames',
    );
  }

  /** PING, SETTINGS, frames of streams that are gone, unknown frames; `nowMs`: monotonic. */
  controlFrame(nowMs: number): boolean {
    if (this.#controlTokens < MAX_INBOUND_CONTROL_FRAMES / 2) {
      const refill = ((nowMs - this.#controlMs) * INBOUND_CONTROL_FRAMES_PER_SECOND) / 1000;
      this.#controlTokens = Math.min(MAX_INBOUND_CONTROL_FRAMES, this.#controlTokens + refill);
      this.#controlMs = nowMs;
    } else if (this.#controlMs === 0) this.#controlMs = nowMs;
    if (--this.#controlTokens >= 0) return true;
    return this.#flooded(this.#statistics.inboundControlFramesFlood, 'inbound_control_frames_flood', 'control frames');
  }

  /** A stream was reset, by the peer or because of what the peer sent. */
  streamReset(lifetimeMs: number): boolean {
    if (lifetimeMs >= PREMATURE_RESET_MIN_LIFETIME_MS) return true;
    this.#prematureResets++;
    if (this.streamsOpened < PREMATURE_RESET_TOTAL_STREAMS || this.#prematureResets * 2 <= this.streamsOpened) {
      return true;
    }
    return this.#flooded(this.#statistics.prematureResetFlood, 'premature_reset_flood', 'streams reset young');
  }

  #flooded(counter: Counter, name: string, what: string): false {
    counter.inc();
    this.flood = what;
    this.floodDetails = `http2.${name}`;
    return false;
  }
}

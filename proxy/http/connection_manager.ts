/** One downstream HTTP connection: what it speaks, its streams, its timeouts, its end. */
import type { ByteStream } from '../net/byte_stream.ts';
import type { ConnectionInfo } from '../net/connection_info.ts';
import { Deadline } from '../net/deadlines.ts';
import type { HeldMemory } from '../overload/heavy_streams.ts';
import type { ActiveWork, ConnectionOwner } from '../net/network_filter.ts';
import type { StreamEncoder } from './codec.ts';
import type { ConnectionManagerRuntime, ConnectionManagerStatistics } from './connection_manager_runtime.ts';
import type { InternalRequest, InternalResponse } from './filter.ts';
import { roundPause } from '../net/round_pause.ts';
import { OpenStreams } from './open_streams.ts';
import { ProtocolChoice } from './protocol_choice.ts';
import { HttpStream } from './stream.ts';
import type { StreamHost } from './stream_host.ts';

/** How long a closing connection may go on sending before it is cut: time for the peer to read our answer. */
const DELAYED_CLOSE_MS = 1000;

/** What speaks the connection's protocol: HTTP/1.1 or HTTP/2, or what waits to see which. */
export interface HttpSide {
  /** `bytes` are borrowed. Not called once the connection is closing. */
  received(bytes: Buffer): void;
  /** The peer has ended its side. @returns whether what is open goes on: a tunnel, whose halves end each for itself. */
  inputEnded(): boolean;
  /** What was written has left. */
  drained(): void;
  /** Nothing new is to begin: say so, and close when nothing is open. */
  drain(): void;
  /** A stream says that its response should be the last. */
  closeAfterResponse(): void;
  /** The last open stream has ended. */
  idle?(): void;
  /** The connection is closing: nothing is read any more. */
  closing(): void;
  /** The connection is gone. */
  ended(): void;
}

export class HttpConnection implements ConnectionOwner, StreamHost {
  readonly info: ConnectionInfo;
  readonly stream: ByteStream;
  /** The newest configuration's: each new stream uses it. */
  readonly runtime: () => ConnectionManagerRuntime;
  /** Of the configuration the connection began with: what it counted up it counts down. */
  readonly statistics: ConnectionManagerStatistics;
  onClosed: (() => void) | undefined = undefined;
  #side: HttpSide;
  readonly #streams = new OpenStreams<HttpStream>();
  readonly #callCluster: StreamHost['call'];
  readonly #overTls: boolean;
  #spoken = false;
  #remoteEnd = false;
  #draining = false;
  #closing = false;
  #closed = false;
  #requests = 0;
  #idle: Deadline | undefined = undefined;
  #max: Deadline | undefined = undefined;
  #quiet: Deadline | undefined = undefined;

  constructor(stream: ByteStream, runtime: () => ConnectionManagerRuntime, callCluster: StreamHost['call']) {
    this.stream = stream;
    this.runtime = runtime;
    this.#callCluster = callCluster;
    this.info = stream.info;
    const { statistics, connectionMax } = runtime();
    this.statistics = statistics;
    statistics.cxTotal.inc();
    statistics.cxActive.inc();
    this.#overTls = stream.info.tls !== undefined;
    if (this.#overTls) {
      statistics.cxSslTotal.inc();
      statistics.cxSslActive.inc();
    }
    this.#side = new ProtocolChoice(this);
    stream.onData = (bytes) => {
      statistics.cxRxBytes.add(bytes.length);
      this.received(bytes);
    };
    stream.onEnd = () => this.#peerEnded();
    stream.onClose = () => this.#ended();
    stream.onDrain = () => this.#side.drained();
    this.#armIdle();
    if (connectionMax !== undefined) {
      this.#max = new Deadline(() => {
        statistics.cxMaxDurationReached.inc();
        this.drain();
      });
      connectionMax.arm(this.#max);
    }
  }

  get activeCount(): number {
    return this.#streams.size;
  }

  get isClosing(): boolean {
    return this.#closing;
  }

  /** It has served as many requests as a connection may. */
  get reachedLimit(): boolean {
    const { maxRequestsPerConnection } = this.runtime().config;
    return maxRequestsPerConnection > 0 && this.#requests >= maxRequestsPerConnection;
  }

  drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#side.drain();
  }

  describeActive(): ActiveWork[] {
    return this.#streams.all().map(({ requestHeaders, info }) => ({
      // Queries hold secrets.
      what: `${requestHeaders.method} ${requestHeaders.path.split('?', 1)[0]}`,
      startMs: info.startMs,
    }));
  }

  addHeldMemory(into: HeldMemory[]): void {
    into.push(...this.#streams.all());
  }

  /** For a side without a request: one may be on its way, so the end is not at once. */
  closeWhenQuiet(): void {
    const { deadlines, config } = this.runtime();
    this.#quiet ??= new Deadline(() => {
      if (this.#streams.size === 0) this.close();
    });
    deadlines.list(Math.max(1, config.drainTimeoutMs)).arm(this.#quiet);
  }

  destroy(): void {
    this.#closing = true;
    this.stream.close('reset');
  }

  /** `bytes` are borrowed. */
  received(bytes: Buffer): void {
    if (!this.#closing && !this.#shedsInput()) this.#side.received(bytes);
  }

  // ── from the side ───────────────────────────────────────────────────────────────────────────────────────────────

  /** The protocol is known. */
  speak(side: HttpSide): void {
    this.#side = side;
    this.#spoken = true;
    if (this.#draining) side.drain();
  }

  newStream(encoder: StreamEncoder, protocol: HttpStream['info']['protocol']): HttpStream {
    this.#requests++;
    const stream = new HttpStream(this, this.runtime(), encoder);
    stream.info.protocol = protocol;
    this.#streams.add(stream);
    roundPause.streamOpened();
    return stream;
  }

  openStreams(): HttpStream[] {
    return this.#streams.all();
  }

  drainStreams(): void {
    for (const open of this.#streams.all()) open.onDrain();
  }

  /** Sends what is queued and the end; what still comes is ignored, and after a second the rest is cut. */
  close(): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#idle?.cancel();
    this.#side.closing();
    if (this.#draining) this.info.localCloseReason ??= 'deferred_close_on_drained_connection';
    this.stream.endWrite();
    this.runtime()
      .deadlines.list(DELAYED_CLOSE_MS)
      .arm(
        new Deadline(() => {
          if (this.#closed) return;
          this.runtime().statistics.cxDelayedCloseTimeout.inc();
          this.stream.close('reset');
        }),
      );
  }

  /** @returns whether there is too much to do to read on: then the connection is about to close. */
  #shedsInput(): boolean {
    const { shedsAt, statistics } = this.runtime();
    if (!this.#spoken) {
      if (!shedsAt('hcm_ondata_creating_codec')) return false;
      statistics.rqOverloadClose.inc();
      this.destroy();
      return true;
    }
    if (shedsAt('http2_server_go_away_and_close_on_dispatch')) {
      this.drain();
      this.close();
      return true;
    }
    if (!this.#draining && shedsAt('http2_server_go_away_on_dispatch')) this.drain();
    return false;
  }

  // ── from streams ────────────────────────────────────────────────────────────────────────────────────────────────

  shouldClose(): boolean {
    if (this.runtime().drains()) this.drain();
    if (this.#draining) {
      this.runtime().statistics.cxDrainClose.inc();
      return true;
    }
    if (!this.reachedLimit) return false;
    this.runtime().statistics.cxMaxRequestsReached.inc();
    return true;
  }

  closeAfterResponse(): void {
    this.#side.closeAfterResponse();
  }

  streamEnded(stream: HttpStream): void {
    this.#streams.delete(stream);
    roundPause.streamClosed();
    if (this.#streams.size > 0 || this.#closing) return;
    this.#armIdle();
    this.#side.idle?.();
  }

  call(cluster: string, request: InternalRequest, signal: AbortSignal): Promise<InternalResponse> {
    return this.#callCluster(cluster, request, signal);
  }

  // ── from the byte stream ────────────────────────────────────────────────────────────────────────────────────────

  #peerEnded(): void {
    // Who has said first that it ends.
    if (!this.#closing) this.#remoteEnd = true;
    if (!this.#closing) {
      if (this.#side.inputEnded()) return;
      this.#resetStreams();
    }
    this.#closing = true;
    this.stream.close('flush');
  }

  #resetStreams(): void {
    if (this.#streams.size === 0) return;
    this.statistics.cxDestroyActive.inc();
    const { cxDestroyRemoteActive, cxDestroyLocalActive } = this.runtime().statistics;
    (this.#remoteEnd ? cxDestroyRemoteActive : cxDestroyLocalActive).inc();
    for (const stream of this.#streams.all()) stream.onReset('connection termination');
  }

  #ended(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#closing = true;
    this.#resetStreams();
    this.#idle?.cancel();
    this.#max?.cancel();
    this.#quiet?.cancel();
    this.#side.ended();
    const { statistics } = this;
    statistics.cxActive.dec();
    if (this.#overTls) statistics.cxSslActive.dec();
    statistics.cxDestroy.inc();
    if (this.#remoteEnd) statistics.cxDestroyRemote.inc();
    else statistics.cxDestroyLocal.inc();
    statistics.cxLengthMs.record(Math.max(0, this.runtime().nowMs() - this.info.startMs));
    this.onClosed?.();
  }

  #armIdle(): void {
    const { connectionIdle, statistics } = this.runtime();
    if (connectionIdle === undefined) return;
    this.#idle ??= new Deadline(() => {
      if (this.#streams.size > 0) return;
      statistics.cxIdleTimeout.inc();
      this.drain();
      // HTTP/1.1 has nothing to announce, and nobody has asked for long.
      if (this.#quiet?.armed === true) this.close();
    });
    connectionIdle.arm(this.#idle);
  }
}

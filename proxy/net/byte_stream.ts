/** A connection's bytes, whatever carries them: a socket, TLS over another, a tunnel's stream, a test. */
import type { Failure } from '../failures.ts';
import type { ConnectionInfo } from './connection_info.ts';

export interface ByteStream {
  /**
   * Writes now or queues a copy: `bytes` are borrowed until this returns. A string is latin1.
   * @returns false above the high watermark: wait for `onDrain`.
   */
  write(bytes: Buffer | string): boolean;
  /** Counted: reading goes on when every holder has let go. */
  readDisable(disabled: boolean): void;
  /** Half-close: sends the end after what is queued. */
  endWrite(): void;
  /** flush: closes after what is queued was sent; reset: drops it and sends RST where the carrier can. */
  close(how: 'flush' | 'reset'): void;
  /** `bytes` are borrowed: valid until the callback returns. */
  onData: (bytes: Buffer) => void;
  /** The peer has ended its side; ours may still write. */
  onEnd: () => void;
  /** Once, when nothing more comes or goes; undefined: an orderly close. */
  onClose: (failure: Failure | undefined) => void;
  onDrain: () => void;
  readonly info: ConnectionInfo;
}

/** One that lets its user write everything of an event at once, from memory that is not copied. */
export interface FlushingByteStream extends ByteStream {
  /** Asks for `onFlush` once, when the loop has been round all sockets that were ready, or sooner. */
  flushSoon(): void;
  /**
   * Writes now, without joining it to other writes. 0: the memory is the caller's again; 1: it belongs to the stream from
   * now on; 2: the same, and the stream is above its high watermark: wait for `onDrain`.
   */
  writeOwned(bytes: Buffer): 0 | 1 | 2;
  /** Time to write what was kept back: all output of one event leaves together. */
  onFlush: () => void;
}

/** The stream itself where it can, else one that flushes before the next task. */
export function asFlushing(stream: ByteStream): FlushingByteStream {
  return 'writeOwned' in stream ? (stream as FlushingByteStream) : withFlushing(stream);
}

function withFlushing(stream: ByteStream): FlushingByteStream {
  let asked = false;
  const flushing: FlushingByteStream = Object.assign(stream, {
    onFlush: (): void => {},
    flushSoon(): void {
      if (asked) return;
      asked = true;
      process.nextTick(() => {
        asked = false;
        flushing.onFlush();
      });
    },
    writeOwned: (bytes: Buffer): 0 | 2 => (stream.write(bytes) ? 0 : 2),
  });
  return flushing;
}

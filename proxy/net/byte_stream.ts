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

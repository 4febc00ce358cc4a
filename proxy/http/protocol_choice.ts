/**
 * Finds out what a downstream connection speaks: what codec_type or ALPN says, else HTTP/2 if its first bytes are the
 * client preface (RFC 9113 §3.4), else HTTP/1.1. No timer decides.
 */
import type { HttpConnection, HttpSide } from './connection_manager.ts';
import { Http1Side } from './http1_side.ts';
import { Http2Side } from './http2_side.ts';

/** No method of HTTP/1.1 is called PRI: the first line is enough. */
const PREFACE_START = 'PRI * HTTP/2.0\r\n';

export class ProtocolChoice implements HttpSide {
  readonly #connection: HttpConnection;
  #seen = '';

  constructor(connection: HttpConnection) {
    this.#connection = connection;
  }

  received(bytes: Buffer): void {
    const connection = this.#connection;
    const seen = this.#seen + bytes.latin1Slice(0, Math.min(bytes.length, PREFACE_START.length - this.#seen.length));
    const chosen = this.#choose(seen);
    if (chosen === undefined) {
      this.#seen = seen;
      return;
    }
    const side = chosen === 'http2' ? new Http2Side(connection) : new Http1Side(connection);
    connection.speak(side);
    const before = this.#seen;
    connection.received(before === '' ? bytes : Buffer.concat([Buffer.from(before, 'latin1'), bytes]));
  }

  inputEnded(): boolean {
    return false;
  }

  drained(): void {}

  drain(): void {
    this.#connection.closeWhenQuiet();
  }

  closeAfterResponse(): void {}

  closing(): void {}

  ended(): void {}

  /** undefined: the next bytes will tell. */
  #choose(seen: string): 'http1' | 'http2' | undefined {
    const { codecType } = this.#connection.runtime().config;
    if (codecType !== 'auto') return codecType;
    const { alpn } = this.#connection.info;
    if (alpn === 'h2') return 'http2';
    if (alpn === 'http/1.1' || alpn === 'http/1.0') return 'http1';
    if (seen.length >= PREFACE_START.length) return seen === PREFACE_START ? 'http2' : 'http1';
    return PREFACE_START.startsWith(seen) ? undefined : 'http1';
  }
}

/** Frames a body on its way out: by length, in chunks, or until the connection closes. */
import type { HeaderMap, Headers } from '../http/headers.ts';
import { chunkSizeLine, fieldLines } from './head_writer.ts';

export type BodyFraming = 'none' | 'length' | 'chunked' | 'until-close' | 'raw';

export interface ByteSink {
  write(bytes: Buffer | string): boolean;
}

/** @returns what the sink said of the last write. */
export function writeBody(sink: ByteSink, framing: BodyFraming, chunk: Buffer, end: boolean): boolean {
  if (framing === 'none') return true;
  if (framing !== 'chunked') return chunk.length === 0 ? true : sink.write(chunk);
  let room = true;
  if (chunk.length > 0) {
    sink.write(chunkSizeLine(chunk.length));
    sink.write(chunk);
    room = sink.write('\r\n');
  }
  return end ? sink.write('0\r\n\r\n') : room;
}

/** Trailers can only follow chunks; elsewhere they are dropped. */
export function writeTrailers(sink: ByteSink, framing: BodyFraming, trailers: HeaderMap): void {
  if (framing === 'chunked') sink.write(`0\r\n${fieldLines(trailers as Headers)}\r\n`);
}

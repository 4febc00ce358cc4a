/** Writes heads of HTTP/1.1 messages as one latin1 string. */
import { STATUS_CODES } from 'node:http';
import type { Headers } from '../http/headers.ts';

const statusLines = new Map<number, string>();

/** `HTTP/1.1 200 OK\r\n`; a reason phrase of the upstream's own is kept. */
export function statusLine(status: number, reason: string | undefined): string {
  let line = statusLines.get(status);
  if (line === undefined) {
    line = `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Unknown'}\r\n`;
    if (status >= 100 && status <= 999) statusLines.set(status, line);
  }
  if (reason !== undefined && reason !== STATUS_CODES[status]) return `HTTP/1.1 ${status} ${reason}\r\n`;
  return line;
}

/** All fields, each in the spelling it came in. */
export function fieldLines(headers: Headers): string {
  const { fields, originalNames } = headers;
  let text = '';
  if (originalNames === undefined) {
    for (let i = 0; i < fields.length; i += 2) text += `${fields[i]}: ${fields[i + 1]}\r\n`;
  } else {
    for (let i = 0; i < fields.length; i += 2) text += `${originalNames[i >> 1] ?? fields[i]}: ${fields[i + 1]}\r\n`;
  }
  return text;
}

/** Whether a text may stand in a request line: no space, no control character, nothing that latin1 would make one. */
export function fitsRequestLine(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code <= 32 || code === 127 || code > 255) return false;
  }
  return true;
}

const CHUNK_SIZES: string[] = [];
for (let size = 0; size < 4096; size++) CHUNK_SIZES.push(`${size.toString(16)}\r\n`);

/** The line before a chunk. */
export function chunkSizeLine(size: number): string {
  return CHUNK_SIZES[size] ?? `${size.toString(16)}\r\n`;
}

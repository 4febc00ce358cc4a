/** What an admin request asks for: its path in one normal form, and parameters from the query or a form. */
import type { IncomingMessage } from 'node:http';

/** Of a form; a longer one is not read. */
export const MAX_FORM_BYTES = 65_536;

/**
 * `//stats` and `/%73tats` are `/stats`, as in Envoy; of an absolute URL only the part that names a resource counts.
 * Slashes that are written as %2F separate nothing.
 * @returns undefined for what is no target.
 */
export function requestTarget(raw: string): URL | undefined {
  try {
    return new URL(raw.startsWith('/') ? `http://admin${normalPath(raw)}` : raw, 'http://admin');
  } catch {
    return undefined;
  }
}

function normalPath(target: string): string {
  const end = target.search(/[?#]/);
  const path = end < 0 ? target : target.slice(0, end);
  const plain = path.replace(/%[0-9a-f]{2}/gi, (code) => {
    const char = String.fromCharCode(Number.parseInt(code.slice(1), 16));
    return /[\w.~-]/.test(char) ? char : code;
  });
  return plain.replace(/\/{2,}/g, '/') + target.slice(path.length);
}

/** Parameters of an HTML form; undefined: the body is none, or too long, or was cut off. */
export async function formParameters(request: IncomingMessage): Promise<URLSearchParams | undefined> {
  if (request.headers['content-type']?.split(';', 1)[0]?.trim() !== 'application/x-www-form-urlencoded')
    return undefined;
  const pieces: Buffer[] = [];
  let bytes = 0;
  try {
    // The connection answers, whatever is read of the body.
    for await (const piece of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      bytes += piece.length;
      if (bytes > MAX_FORM_BYTES) return undefined;
      pieces.push(piece);
    }
  } catch {
    return undefined;
  }
  return new URLSearchParams(Buffer.concat(pieces).toString('utf8'));
}

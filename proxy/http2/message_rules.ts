/** Makes heads of decoded header blocks; what HTTP/2 calls malformed comes back as a reason (RFC 9113 §8). */
import { isHost, isVisibleAscii } from '../http/authority.ts';
import { parseContentLength } from '../http/content_length.ts';
import { Headers, RequestHeaders, ResponseHeaders } from '../http/headers.ts';
import type { DecodedBlock } from './hpack/decoder.ts';
import { Kind } from './hpack/field_kind.ts';

/** The result of the last call; read before the next. */
export class HeadRules {
  /** −1: no content-length. */
  contentLength = -1;
  /** Why it is malformed. */
  reason = '';
  readonly #allowConnect: boolean;

  /** `allowConnect`: extended CONNECT was announced (RFC 8441). */
  constructor(allowConnect: boolean) {
    this.#allowConnect = allowConnect;
  }

  /** undefined: malformed, see `reason`. */
  request(block: DecodedBlock): RequestHeaders | undefined {
    const headers = new RequestHeaders();
    headers.wireBytes = block.listBytes;
    const { texts, kinds } = block;
    let seen = 0;
    let host: string | undefined;
    let cookieAt = -1;
    this.contentLength = -1;
    const { fields } = headers;
    for (let i = 0; i < kinds.length; i++) {
      const kind = kinds[i] as number;
      const value = texts[2 * i + 1] as string;
      if (kind === Kind.regular) {
        fields.push(texts[2 * i] as string, value);
        continue;
      }
      if (kind >= Kind.method && kind <= Kind.protocol) {
        // Pseudo-headers once, and before all others (§8.3).
        if ((seen & (1 << kind)) !== 0) return this.#malformed('a pseudo-header twice');
        if (fields.length > 0 || host !== undefined) return this.#malformed('a pseudo-header behind a field');
        seen |= 1 << kind;
        if (!setPseudo(headers, kind, value)) return this.#malformed('a pseudo-header of responses in a request');
      } else if (kind === Kind.host) {
        if (host !== undefined && host !== value) return this.#malformed('two hosts');
        host = value;
      } else if (kind === Kind.cookie) {
        // Crumbs are one field again for whoever reads it (§8.2.3).
        if (cookieAt >= 0) fields[cookieAt] += `; ${value}`;
        else cookieAt = fields.push('cookie', value) - 1;
      } else if (!this.#special(headers, kind, value)) return undefined;
    }
    return this.#complete(headers, seen, host) ? headers : undefined;
  }

  /** undefined: malformed. `status` is 100 to 999. */
  response(block: DecodedBlock): ResponseHeaders | undefined {
    const headers = new ResponseHeaders();
    headers.wireBytes = block.listBytes;
    const { texts, kinds } = block;
    const { fields } = headers;
    let status = 0;
    this.contentLength = -1;
    for (let i = 0; i < kinds.length; i++) {
      const kind = kinds[i] as number;
      const value = texts[2 * i + 1] as string;
      if (kind === Kind.regular || kind === Kind.cookie || kind === Kind.host) {
        fields.push(texts[2 * i] as string, value);
      } else if (kind === Kind.status) {
        if (status !== 0 || fields.length > 0) return this.#malformed('the status twice, or behind a field');
        status = parseStatus(value);
        if (status === 0) return this.#malformed('a status that is no number of three digits');
      } else if (kind < Kind.status) return this.#malformed('a pseudo-header of requests in a response');
      else if (!this.#special(headers, kind, value)) return undefined;
    }
    if (status === 0) return this.#malformed('no status');
    headers.status = status;
    return headers;
  }

  trailers(block: DecodedBlock): Headers | undefined {
    const headers = new Headers();
    headers.wireBytes = block.listBytes;
    const { texts, kinds } = block;
    for (let i = 0; i < kinds.length; i++) {
      const kind = kinds[i] as number;
      if (kind === Kind.regular || kind === Kind.cookie || kind === Kind.host) {
        headers.fields.push(texts[2 * i] as string, texts[2 * i + 1] as string);
      } else if (kind <= Kind.protocol) return this.#malformed('a pseudo-header in trailers');
      else if (kind === Kind.contentLength) continue;
      else if (kind !== Kind.te) return this.#malformed(REASONS[kind] ?? 'a malformed field');
    }
    return headers;
  }

  #special(headers: Headers, kind: number, value: string): boolean {
    if (kind === Kind.contentLength) {
      const length = parseContentLength(value);
      if (length < 0) return this.#refuse('a content-length that is no number');
      if (this.contentLength >= 0) {
        if (length === this.contentLength) return true;
        return this.#refuse('two content-lengths');
      }
      this.contentLength = length;
      headers.fields.push('content-length', value);
      return true;
    }
    if (kind === Kind.te && value.toLowerCase() === 'trailers') {
      headers.fields.push('te', 'trailers');
      return true;
    }
    return this.#refuse(REASONS[kind] ?? 'a malformed field');
  }

  #complete(headers: RequestHeaders, seen: number, host: string | undefined): boolean {
    const has = (kind: number): boolean => (seen & (1 << kind)) !== 0;
    if (!has(Kind.method)) return this.#refuse('no method');
    if (!isMethod(headers.method)) return this.#refuse('a method that is no token');
    if (!has(Kind.authority)) headers.authority = host ?? '';
    if (headers.authority !== '' && !isHost(headers.authority)) {
      return this.#refuse('an authority that is no host name');
    }
    const plainConnect = headers.method === 'CONNECT' && !has(Kind.protocol);
    if (plainConnect) {
      if (has(Kind.scheme) || has(Kind.path) || headers.authority === '') {
        return this.#refuse('CONNECT wants an authority and nothing else (RFC 9113 §8.5)');
      }
      headers.path = '';
      return true;
    }
    if (has(Kind.protocol) && (headers.method !== 'CONNECT' || !this.#allowConnect)) {
      return this.#refuse('a protocol where none was offered (RFC 8441 §4)');
    }
    if (!has(Kind.scheme) || !has(Kind.path)) return this.#refuse('no scheme or no path');
    const { path } = headers;
    if (path.charCodeAt(0) !== 47 && !(path === '*' && headers.method === 'OPTIONS')) {
      return this.#refuse('a path that does not begin with a slash');
    }
    headers.visiblePath = path;
    return isVisibleAscii(path) || this.#refuse('a path with a blank or a byte above 126');
  }

  #refuse(reason: string): false {
    this.reason = reason;
    return false;
  }

  #malformed(reason: string): undefined {
    this.reason = reason;
    return undefined;
  }
}

const REASONS: Readonly<Record<number, string>> = {
  [Kind.te]: 'te with more than trailers',
  [Kind.connection]: 'a field of HTTP/1.1 connections',
  [Kind.badName]: 'a field name that is none',
  [Kind.badValue]: 'a field value with CR, LF, NUL, other control characters or outer blanks',
};

/** @returns false: not one of requests. */
function setPseudo(headers: RequestHeaders, kind: number, value: string): boolean {
  switch (kind) {
    case Kind.method:
      headers.method = value;
      return true;
    case Kind.scheme:
      headers.scheme = value;
      return true;
    case Kind.authority:
      headers.authority = value;
      return true;
    case Kind.path:
      headers.path = value;
      return true;
    case Kind.protocol:
      headers.protocol = value;
      return true;
    default:
      return false;
  }
}

/** 0: none. */
function parseStatus(value: string): number {
  if (value.length !== 3) return 0;
  let status = 0;
  for (let i = 0; i < 3; i++) {
    const digit = value.charCodeAt(i) - 48;
    if (digit < 0 || digit > 9) return 0;
    status = status * 10 + digit;
  }
  return status < 100 ? 0 : status;
}

/** As in HTTP/1.1: capitals; a lower-case method is a mistake or a trick. */
function isMethod(method: string): boolean {
  if (method.length === 0 || method.length > 32) return false;
  for (let i = 0; i < method.length; i++) {
    const code = method.charCodeAt(i);
    const fits = (code >= 65 && code <= 90) || code === 45 || code === 95 || (code >= 48 && code <= 57 && i > 0);
    if (!fits) return false;
  }
  return true;
}

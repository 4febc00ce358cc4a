/**
 * One normalised path for policy, routing and the forwarded request.
 * Source: Envoy source/common/http/path_utility.cc; HttpConnectionManager normalize_path, merge_slashes,
 * path_with_escaped_slashes_action. Istio: NONE, BASE, MERGE_SLASHES, DECODE_AND_MERGE_SLASHES (istio.md §1.1).
 */
import type { Fields } from '../resource_fields.ts';

export interface PathNormalization {
  /** Resolves dot segments, decodes unreserved escapes, `\` → `/`. */
  readonly normalize: boolean;
  readonly mergeSlashes: boolean;
  readonly escapedSlashes: 'keep' | 'reject' | 'redirect' | 'forward';
}

export type NormalizedPath =
  | { readonly kind: 'ok'; readonly path: string }
  | { readonly kind: 'redirect'; readonly path: string }
  | { readonly kind: 'reject' };

const REJECT: NormalizedPath = { kind: 'reject' };
/** Reused: the common path costs no object. Read it before the next call. */
const unchanged = { kind: 'ok' as const, path: '' };

export function parsePathNormalization(fields: Fields): PathNormalization {
  const action = fields.oneOf(
    'path_with_escaped_slashes_action',
    [
      'IMPLEMENTATION_SPECIFIC_DEFAULT',
      'KEEP_UNCHANGED',
      'REJECT_REQUEST',
      'UNESCAPE_AND_REDIRECT',
      'UNESCAPE_AND_FORWARD',
    ],
    'IMPLEMENTATION_SPECIFIC_DEFAULT',
  );
  return {
    normalize: fields.boolean('normalize_path') ?? false,
    mergeSlashes: fields.boolean('merge_slashes') ?? false,
    escapedSlashes: (
      {
        IMPLEMENTATION_SPECIFIC_DEFAULT: 'keep',
        KEEP_UNCHANGED: 'keep',
        REJECT_REQUEST: 'reject',
        UNESCAPE_AND_REDIRECT: 'redirect',
        UNESCAPE_AND_FORWARD: 'forward',
      } as const
    )[action],
  };
}

/** `path` is path and query in origin form. The query is left as it is; a fragment is refused (CVE-2021-39156). */
export function normalizePath(path: string, options: PathNormalization): NormalizedPath {
  if (isPlain(path)) {
    unchanged.path = path;
    return unchanged;
  }
  if (path.includes('#')) return REJECT;
  const question = path.indexOf('?');
  let text = question < 0 ? path : path.slice(0, question);
  const query = question < 0 ? '' : path.slice(question);
  if (/%00/.test(text)) return REJECT;
  let redirect = false;
  if (options.escapedSlashes !== 'keep' && /%2f|%5c/i.test(text)) {
    if (options.escapedSlashes === 'reject') return REJECT;
    redirect = options.escapedSlashes === 'redirect';
    text = text.replace(/%2f/gi, '/').replace(/%5c/gi, '\\');
  }
  if (options.normalize) {
    const canonical = canonicalize(text);
    if (canonical === undefined) return REJECT;
    text = canonical;
  }
  if (options.mergeSlashes) text = mergeSlashes(text);
  return redirect ? { kind: 'redirect', path: text + query } : { kind: 'ok', path: text + query };
}

/** As Envoy: what is nothing but slashes becomes two of them. */
function mergeSlashes(text: string): string {
  return /^\/{2,}$/.test(text) ? '//' : text.replace(/\/{2,}/g, '/');
}

/** Nothing in it that any mode would change: no escape, fragment, backslash, double slash or dot segment before the query. */
function isPlain(path: string): boolean {
  let previous = 0;
  for (let i = 0; i < path.length; i++) {
    const code = path.charCodeAt(i);
    if (code === 35 /* # */) return false;
    if (code === 37 /* % */ || code === 92 /* \ */) return false;
    if (previous === 47 && (code === 47 || code === 46)) return false;
    // A query may be long, and is left as it is.
    if (code === 63 /* ? */) return !path.includes('#', i);
    if (code > 126) return false;
    previous = code;
  }
  return true;
}

/** RFC 3986 §6.2.2 as Envoy's url canonicaliser does it. undefined: above the root, or not a path. */
function canonicalize(path: string): string | undefined {
  if (!path.startsWith('/') && !path.startsWith('\\')) return undefined;
  let decoded = '';
  for (let i = 0; i < path.length; i++) {
    const char = path[i] as string;
    const code = path.charCodeAt(i);
    if (char === '\\') decoded += '/';
    // `..;x` is a dot segment to some servers behind us (CVE-2026-73511): its parameters go.
    else if (char === ';' && isDotSegment(decoded)) {
      while (i + 1 < path.length && path[i + 1] !== '/' && path[i + 1] !== '\\') i++;
    } else if (char === '%') {
      const value = Number.parseInt(path.slice(i + 1, i + 3), 16);
      const valid = /^[0-9a-f]{2}$/i.test(path.slice(i + 1, i + 3));
      if (!valid) {
        // A bad escape stays as it came: decoding it one way here and another way behind us would be the hole.
        decoded += '%';
        continue;
      }
      // Decoded once only, and only what needs no escape (unreserved, RFC 3986 §2.3).
      decoded += isUnreserved(value) ? String.fromCharCode(value) : path.slice(i, i + 3);
      i += 2;
    } else if (code > 126) decoded += `%${code.toString(16).toUpperCase().padStart(2, '0')}`;
    else decoded += char;
  }
  const out: string[] = [];
  const segments = decoded.split('/').slice(1);
  for (let i = 0; i < segments.length; i++) {
    const segment = segments[i] as string;
    const last = i === segments.length - 1;
    if (segment === '.') {
      if (last) out.push('');
    } else if (segment === '..') {
      if (out.length === 0) {
        if (last) out.push('');
        continue;
      }
      out.pop();
      if (last) out.push('');
    } else out.push(segment);
  }
  return `/${out.join('/')}`;
}

/** Whether the last segment so far is `.` or `..`, also where it came escaped (there Envoy lets it pass). */
function isDotSegment(decoded: string): boolean {
  return decoded.endsWith('/..') || decoded.endsWith('/.');
}

function isUnreserved(code: number): boolean {
  return (
    (code >= 97 && code <= 122) ||
    (code >= 65 && code <= 90) ||
    (code >= 48 && code <= 57) ||
    code === 45 ||
    code === 46 ||
    code === 95 ||
    code === 126
  );
}

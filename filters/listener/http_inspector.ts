/**
 * Finds out whether a client speaks HTTP in the clear, and which version. Decides by bytes alone: as soon as they cannot
 * be the beginning of a request any more, it is not HTTP. Envoy: envoy.extensions.filters.listener.http_inspector.v3.
 */
import type { ListenerFilterFactory } from '../../proxy/net/listener_filter.ts';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
/** A target so long and still one is HTTP's to refuse. */
const MAX_LINE_BYTES = 8192;
/** Longer than VERSION-CONTROL and BASELINE-CONTROL. */
const MAX_METHOD_BYTES = 24;
const [CR, LF, SPACE, TILDE] = [13, 10, 32, 126];
const VERSION = Buffer.from('HTTP/1.', 'latin1');

type Protocol = 'http/1.0' | 'http/1.1' | 'h2c';

export default {
  typeUrls: ['type.googleapis.com/envoy.extensions.filters.listener.http_inspector.v3.HttpInspector'],
  parse: () => undefined,
  create(_config, deps) {
    const found = {
      'http/1.0': deps.counter('http_inspector.http10_found'),
      'http/1.1': deps.counter('http_inspector.http11_found'),
      h2c: deps.counter('http_inspector.http2_found'),
      none: deps.counter('http_inspector.http_not_found'),
    };
    return {
      inspect(bytes, facts) {
        // What is encrypted is not for us to read.
        if (facts.transportProtocol === 'tls') return 'done';
        const verdict = protocolOf(bytes);
        if (verdict === 'more') return 'more';
        found[verdict].inc();
        if (verdict !== 'none') facts.applicationProtocols = [verdict];
        return 'done';
      },
      inspectEnd() {
        found.none.inc();
        return 'done';
      },
    };
  },
} satisfies ListenerFilterFactory<undefined>;

function protocolOf(bytes: Buffer): Protocol | 'none' | 'more' {
  const preface = Math.min(bytes.length, PREFACE.length);
  if (bytes.compare(PREFACE, 0, preface, 0, preface) === 0) return preface === PREFACE.length ? 'h2c' : 'more';
  return requestLine(bytes);
}

/** RFC 9112 §3: method SP request-target SP HTTP-version; empty lines before it are skipped (§2.2). */
function requestLine(bytes: Buffer): Protocol | 'none' | 'more' {
  let at = 0;
  while (bytes[at] === CR || bytes[at] === LF) at++;
  const method = at;
  while (at < bytes.length && isMethodByte(bytes[at] as number)) at++;
  if (at - method > MAX_METHOD_BYTES) return 'none';
  if (at === bytes.length) return 'more';
  if (at === method || bytes[at] !== SPACE) return 'none';
  const target = ++at;
  while (at < bytes.length && isTargetByte(bytes[at] as number)) at++;
  if (at - target > MAX_LINE_BYTES) return 'http/1.1';
  if (at === bytes.length) return 'more';
  if (at === target || bytes[at] !== SPACE) return 'none';
  return version(bytes, at + 1);
}

function version(bytes: Buffer, at: number): Protocol | 'none' | 'more' {
  const there = Math.min(bytes.length - at, VERSION.length);
  if (bytes.compare(VERSION, 0, there, at, at + there) !== 0) return 'none';
  const minor = bytes[at + VERSION.length];
  if (minor === undefined) return 'more';
  const found = minor === 0x31 ? 'http/1.1' : minor === 0x30 ? 'http/1.0' : 'none';
  const next = bytes[at + VERSION.length + 1];
  if (found === 'none') return 'none';
  return next === undefined ? 'more' : next === CR || next === LF ? found : 'none';
}

/** Methods are tokens; those in use are capitals with `-` and `_`. Anything else would take most text for the beginning of one. */
function isMethodByte(byte: number): boolean {
  return (byte >= 0x41 && byte <= 0x5a) || byte === 0x2d || byte === 0x5f;
}

function isTargetByte(byte: number): boolean {
  return (byte > SPACE && byte <= TILDE) || byte >= 0x80;
}

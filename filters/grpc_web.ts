/**
 * gRPC-Web for browsers in front of gRPC servers: base64 where asked, trailers as the last message of the body.
 * Envoy: envoy.extensions.filters.http.grpc_web.v3.GrpcWeb; the protocol: grpc/grpc PROTOCOL-WEB.md.
 */
import type { FilterFactory } from '../proxy/http/filter.ts';
import type { Headers } from '../proxy/http/headers.ts';

interface State {
  /** undefined: an ordinary request. */
  web: WebCall | undefined;
}

/** What is remembered of one call. */
interface WebCall {
  /** The request's body is base64. */
  readonly textRequest: boolean;
  /** The response's shall be. */
  readonly textResponse: boolean;
  /** A request's characters, a response's bytes that wait for their group to be complete. */
  requestRest: string;
  responseRest: Buffer;
  /** The answer is gRPC: its body is translated. */
  isGrpc: boolean;
}

const EMPTY = Buffer.alloc(0);
const TRAILER_FLAG = 0x80;

export default {
  typeUrls: ['type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb'],
  parse: (): undefined => undefined,
  create() {
    return {
      newState: (): State => ({ web: undefined }),
      decodeHeaders(_ctx, headers, _endStream, state) {
        const type = headers.get('content-type');
        const kind = type === undefined ? undefined : webKind(type);
        if (kind === undefined) return 'continue';
        state.web = {
          textRequest: kind.text,
          textResponse: webKind(headers.get('accept') ?? '')?.text ?? kind.text,
          requestRest: '',
          responseRest: EMPTY,
          isGrpc: false,
        };
        headers.set('content-type', `application/grpc${kind.suffix}`);
        headers.remove('content-length');
        headers.set('te', 'trailers');
        headers.set('grpc-accept-encoding', 'identity,deflate,gzip');
        return 'continue';
      },
      decodeData(ctx, body, endStream, { web }) {
        if (web?.textRequest !== true) return 'continue';
        const text = web.requestRest + body.bytes.latin1Slice();
        const whole = endStream ? text.length : text.length - (text.length % 4);
        web.requestRest = text.slice(whole);
        const bytes = decodeGroups(text.slice(0, whole));
        if (bytes === undefined) {
          return ctx.sendLocalReply(
            400,
            '',
            'grpc_base_64_decode_failed',
            'Bad gRPC-Web request, invalid base64 data.',
          );
        }
        body.bytes = bytes;
        return 'continue';
      },
      encodeHeaders(_ctx, headers, _endStream, { web }) {
        if (web === undefined) return 'continue';
        const type = headers.get('content-type') ?? '';
        if (!type.startsWith('application/grpc')) return 'continue';
        web.isGrpc = true;
        headers.set('content-type', `application/grpc-web${web.textResponse ? '-text' : ''}+proto`);
        headers.remove('content-length');
        return 'continue';
      },
      encodeData(_ctx, body, endStream, { web }) {
        if (web?.isGrpc === true && web.textResponse) body.bytes = encodeGroups(web, body.bytes, endStream);
        return 'continue';
      },
      encodeTrailers(ctx, trailers, { web }) {
        if (web?.isGrpc !== true) return 'continue';
        const message = trailerMessage(trailers);
        trailers.fields.length = 0;
        ctx.injectEncodedData(web.textResponse ? encodeGroups(web, message, true) : message, false);
        return 'continue';
      },
    };
  },
} satisfies FilterFactory<undefined, State>;

/** `+proto`, `+json` …; undefined: not gRPC-Web. */
function webKind(type: string): { readonly text: boolean; readonly suffix: string } | undefined {
  const match = /^application\/grpc-web(-text)?(\+[a-z0-9.-]+)?(?:\s*;.*)?$/i.exec(type.trim());
  return match === null ? undefined : { text: match[1] !== undefined, suffix: match[2] ?? '' };
}

/** Base64 in whole groups of four; each may end with padding, as senders flush. undefined: malformed. */
function decodeGroups(text: string): Buffer | undefined {
  if (text.length % 4 !== 0 || !/^(?:[A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)*$/.test(text))
    return undefined;
  if (!text.includes('=')) return Buffer.from(text, 'base64');
  const parts: Buffer[] = [];
  for (let from = 0; from < text.length; ) {
    const padding = text.indexOf('=', from);
    const end = padding < 0 ? text.length : padding - (padding % 4) + 4;
    parts.push(Buffer.from(text.slice(from, end), 'base64'));
    from = end;
  }
  return Buffer.concat(parts);
}

/** Whole groups of three bytes; the rest waits, or is padded at the end. */
function encodeGroups(web: WebCall, bytes: Buffer, end: boolean): Buffer {
  const all = web.responseRest.length === 0 ? bytes : Buffer.concat([web.responseRest, bytes]);
  const whole = end ? all.length : all.length - (all.length % 3);
  web.responseRest = whole === all.length ? EMPTY : Buffer.from(all.subarray(whole));
  return Buffer.from(all.toString('base64', 0, whole), 'latin1');
}

function trailerMessage({ fields }: Headers): Buffer {
  let text = '';
  for (let i = 0; i < fields.length; i += 2) text += `${fields[i]}:${fields[i + 1]}\r\n`;
  const message = Buffer.alloc(5 + text.length);
  message[0] = TRAILER_FLAG;
  message.writeUInt32BE(text.length, 1);
  message.latin1Write(text, 5);
  return message;
}

/** Answers that the proxy gives itself. Source: Envoy source/common/http/utility.cc sendLocalReply. */
import { type RequestHeaders, ResponseHeaders } from './headers.ts';

/** gRPC status of an HTTP status. Source: gRPC "HTTP to gRPC Status Code Mapping". */
export function grpcStatusOfHttp(status: number): number {
  switch (status) {
    case 400:
      return 13;
    case 401:
      return 16;
    case 403:
      return 7;
    case 404:
      return 12;
    case 429:
    case 502:
    case 503:
    case 504:
      return 14;
    default:
      return 2;
  }
}

export function isGrpc(headers: RequestHeaders): boolean {
  const type = headers.get('content-type');
  return type?.startsWith('application/grpc') === true && (type.length === 16 || type[16] === '+' || type[16] === ';');
}

/** An answer before the answer (RFC 9110 §15.2). `status`: 1xx. */
export function interimHead(status: number): ResponseHeaders {
  const headers = new ResponseHeaders();
  headers.status = status;
  return headers;
}

export interface LocalReply {
  readonly headers: ResponseHeaders;
  /** '' where there is none. */
  readonly body: string;
}

/** gRPC requests get 200 with grpc-status and grpc-message, HEAD no body. `request` may be missing its head. */
export function localReply(
  request: RequestHeaders | undefined,
  status: number,
  body: string,
  grpcStatus: number | undefined,
): LocalReply {
  const headers = new ResponseHeaders();
  if (request !== undefined && isGrpc(request)) {
    headers.append('content-type', 'application/grpc');
    headers.append('grpc-status', String(grpcStatus ?? grpcStatusOfHttp(status)));
    if (body !== '') headers.append('grpc-message', percentEncoded(body));
    return { headers, body: '' };
  }
  headers.status = status;
  if (body !== '') {
    headers.append('content-length', String(Buffer.byteLength(body)));
    headers.append('content-type', 'text/plain');
  }
  return { headers, body: request?.method === 'HEAD' ? '' : body };
}

/** gRPC's percent-encoding of messages: everything outside printable ASCII, and `%`. */
function percentEncoded(text: string): string {
  let out = '';
  for (const byte of Buffer.from(text)) {
    out +=
      byte >= 0x20 && byte <= 0x7e && byte !== 0x25
        ? String.fromCharCode(byte)
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return out;
}

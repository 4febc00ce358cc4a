/** gRPC's form of requests and messages over HTTP. Source: github.com/grpc/grpc doc/PROTOCOL-HTTP2.md. */
import { RequestHeaders } from './headers.ts';

/** Before each message: whether it is compressed, and its length. */
export const GRPC_PREFIX_BYTES = 5;

/** `path`: `/package.Service/Method`. */
export function grpcHead(authority: string, path: string): RequestHeaders {
  const head = new RequestHeaders();
  head.method = 'POST';
  head.authority = authority;
  head.path = path;
  head.append('content-type', 'application/grpc');
  head.append('te', 'trailers');
  return head;
}

/** A message as it is sent, not compressed. */
export function grpcFrame(message: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(GRPC_PREFIX_BYTES + message.length);
  bytes[0] = 0;
  bytes.writeUInt32BE(message.length, 1);
  bytes.set(message, GRPC_PREFIX_BYTES);
  return bytes;
}

/** The one message of a body. undefined: it is compressed, not whole, or not the only one. */
export function grpcMessage(body: Buffer): Buffer | undefined {
  if (body.length < GRPC_PREFIX_BYTES || body[0] !== 0) return undefined;
  return body.readUInt32BE(1) === body.length - GRPC_PREFIX_BYTES ? body.subarray(GRPC_PREFIX_BYTES) : undefined;
}

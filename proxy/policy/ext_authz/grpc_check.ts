/** Asks a gRPC service: envoy.service.auth.v3.Authorization/Check. */
import { RequestHeaders } from '../../http/headers.ts';
import type { InternalRequest, InternalResponse } from '../../http/filter.ts';
import { type CheckFacts, encodeCheckRequest } from './check_request.ts';
import { decodeCheckResponse } from './check_response.ts';
import type { GrpcService } from './config.ts';
import type { Verdict } from './verdict.ts';

const PREFIX_BYTES = 5;
/** What "no timeout" is to the internal client: longer than anybody waits. */
const FOREVER_MS = 24 * 3_600_000;

export function grpcCheckRequest(service: GrpcService, facts: CheckFacts): InternalRequest {
  const headers = new RequestHeaders();
  headers.method = 'POST';
  headers.path = '/envoy.service.auth.v3.Authorization/Check';
  headers.authority = service.authority;
  headers.append('content-type', 'application/grpc');
  headers.append('te', 'trailers');
  for (const [name, value] of service.initialMetadata) headers.append(name, value);
  const message = encodeCheckRequest(facts);
  const body = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  body[0] = 0;
  body.writeUInt32BE(message.length, 1);
  message.copy(body, PREFIX_BYTES);
  return { headers, body, timeoutMs: service.timeoutMs === 0 ? FOREVER_MS : service.timeoutMs };
}

export function grpcVerdict({ headers, body, trailers }: InternalResponse): Verdict {
  if (headers.status !== 200) return { kind: 'error', reason: `the authorizer answered HTTP ${headers.status}` };
  const status = trailers?.get('grpc-status') ?? headers.get('grpc-status');
  if (status !== '0') {
    const said = trailers?.get('grpc-message') ?? headers.get('grpc-message') ?? '';
    return { kind: 'error', reason: `the authorizer answered gRPC status ${status ?? 'none'} ${said}`.trimEnd() };
  }
  if (body.length < PREFIX_BYTES || body[0] !== 0 || body.readUInt32BE(1) !== body.length - PREFIX_BYTES) {
    return { kind: 'error', reason: 'the authorizer answered no single plain message' };
  }
  return decodeCheckResponse(body.subarray(PREFIX_BYTES));
}

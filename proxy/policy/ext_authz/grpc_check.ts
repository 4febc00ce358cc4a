/** Asks a gRPC service: envoy.service.auth.v3.Authorization/Check. */
import { grpcFrame, grpcHead, grpcMessage } from '../../http/grpc_message.ts';
import type { InternalRequest, InternalResponse } from '../../http/filter.ts';
import { type CheckFacts, encodeCheckRequest } from './check_request.ts';
import { decodeCheckResponse } from './check_response.ts';
import type { GrpcService } from './config.ts';
import type { Verdict } from './verdict.ts';

/** What "no timeout" is to the internal client: longer than anybody waits. */
const FOREVER_MS = 24 * 3_600_000;

export function grpcCheckRequest(service: GrpcService, facts: CheckFacts): InternalRequest {
  const headers = grpcHead(service.authority, '/envoy.service.auth.v3.Authorization/Check');
  for (const [name, value] of service.initialMetadata) headers.append(name, value);
  const body = grpcFrame(encodeCheckRequest(facts));
  return { headers, body, timeoutMs: service.timeoutMs === 0 ? FOREVER_MS : service.timeoutMs };
}

export function grpcVerdict({ headers, body, trailers }: InternalResponse): Verdict {
  if (headers.status !== 200) return { kind: 'error', reason: `the authorizer answered HTTP ${headers.status}` };
  const status = trailers?.get('grpc-status') ?? headers.get('grpc-status');
  if (status !== '0') {
    const said = trailers?.get('grpc-message') ?? headers.get('grpc-message') ?? '';
    return { kind: 'error', reason: `the authorizer answered gRPC status ${status ?? 'none'} ${said}`.trimEnd() };
  }
  const answer = grpcMessage(body);
  if (answer === undefined) return { kind: 'error', reason: 'the authorizer answered no single plain message' };
  return decodeCheckResponse(answer);
}

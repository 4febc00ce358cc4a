/** A request of the control thread, made by a data thread: HTTP, or one gRPC message each way. */
import type { ClusterCall } from '../cluster_caller.ts';
import type { ThreadServices } from '../thread_services.ts';
import { GRPC_PREFIX_BYTES, grpcFrame } from './grpc_message.ts';
import { RequestHeaders } from './headers.ts';
import { callCluster } from './internal_call.ts';

/** @returns the body; of gRPC the message. Rejects when the answer is no success. */
export async function controlCall(
  { clusters, deadlines }: Pick<ThreadServices, 'clusters' | 'deadlines'>,
  cluster: string,
  { authority, path, headers: fields, body, timeoutMs, grpc = false }: ClusterCall,
): Promise<Buffer> {
  const headers = new RequestHeaders();
  headers.method = 'POST';
  headers.scheme = 'http';
  headers.authority = authority;
  headers.path = path;
  for (const [name, value] of fields) headers.append(name, value);
  const payload = grpc ? grpcFrame(body) : Buffer.from(body);
  if (grpc) {
    headers.set('content-type', 'application/grpc');
    headers.set('te', 'trailers');
  } else headers.set('content-length', String(payload.length));
  const answer = await callCluster(
    clusters,
    deadlines,
    cluster,
    { headers, body: payload, timeoutMs },
    new AbortController().signal,
  );
  const { status } = answer.headers;
  if (status < 200 || status > 299) throw new Error(`cluster "${cluster}" answered ${status}`);
  if (!grpc) return answer.body;
  const code = answer.trailers?.get('grpc-status') ?? answer.headers.get('grpc-status');
  if (code !== '0') {
    const message = answer.trailers?.get('grpc-message') ?? answer.headers.get('grpc-message') ?? '';
    throw new Error(
      `cluster "${cluster}" answered grpc-status ${code ?? 'nothing'}${message === '' ? '' : `: ${message}`}`,
    );
  }
  return answer.body.subarray(Math.min(GRPC_PREFIX_BYTES, answer.body.length));
}

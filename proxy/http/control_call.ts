/** A request of the control thread, made by a data thread: HTTP, or one gRPC message each way. */
import type { ClusterCall } from '../cluster_caller.ts';
import type { ThreadServices } from '../thread_services.ts';
import { RequestHeaders } from './headers.ts';
import { callCluster } from './internal_call.ts';

const FRAME_BYTES = 5;

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
  const payload = grpc ? frame(body) : Buffer.from(body);
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
  return answer.body.subarray(Math.min(FRAME_BYTES, answer.body.length));
}

/** https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md: a flag (not compressed), the length, the message. */
function frame(message: Uint8Array): Buffer {
  const out = Buffer.allocUnsafe(FRAME_BYTES + message.length);
  out[0] = 0;
  out.writeUInt32BE(message.length, 1);
  out.set(message, FRAME_BYTES);
  return out;
}

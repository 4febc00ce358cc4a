/** What an answer says of its host. Source: Envoy router.cc onUpstreamHeaders, Grpc::Utility::grpcToHttpStatus. */
import type { Headers, ResponseHeaders } from '../http/headers.ts';
import type { Host } from '../upstream/host.ts';
import type { OutlierReporter } from '../upstream/outlier_reporter.ts';

/** gRPC statuses as HTTP statuses; what is not in here is a 200 or the client's fault. */
const GRPC_FAILURES: Readonly<Record<string, number>> = {
  '2': 500,
  '4': 504,
  '8': 429,
  '12': 501,
  '13': 500,
  '14': 503,
  '15': 500,
};

export function reportAnswer(outlier: OutlierReporter, host: Host, headers: ResponseHeaders): void {
  const { status } = headers;
  const grpcStatus = status === 200 ? headers.get('grpc-status') : undefined;
  if (grpcStatus !== undefined) outlier.answered(host, GRPC_FAILURES[grpcStatus] ?? 200);
  // A gRPC call's fate stands in its trailers.
  else if (status !== 200 || headers.get('content-type')?.startsWith('application/grpc') !== true) {
    outlier.answered(host, status);
  }
}

export function reportTrailers(outlier: OutlierReporter, host: Host, trailers: Headers): void {
  const grpcStatus = trailers.get('grpc-status');
  if (grpcStatus !== undefined) outlier.answered(host, GRPC_FAILURES[grpcStatus] ?? 200);
}

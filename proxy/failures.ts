/** The one table of failures: cause → status, gRPC status, response flag, details, body, source, and whether a retry is safe. */
import type { ResetReason } from './http/codec.ts';

/** Envoy's response flags, short form. Source: envoy access-log documentation, "%RESPONSE_FLAGS%". */
export type ResponseFlag =
  | 'LH'
  | 'UH'
  | 'UT'
  | 'LR'
  | 'UR'
  | 'UF'
  | 'UC'
  | 'UO'
  | 'NR'
  | 'DI'
  | 'FI'
  | 'RL'
  | 'UAEX'
  | 'RLSE'
  | 'DC'
  | 'URX'
  | 'SI'
  | 'IH'
  | 'DPE'
  | 'UMSDR'
  | 'RFCF'
  | 'NFCF'
  | 'DT'
  | 'UPE'
  | 'NC'
  | 'OM'
  | 'DF'
  | 'DO'
  | 'DR'
  | 'UDO'
  | '';

export interface Failure {
  readonly status: number;
  readonly grpcStatus: number;
  readonly flag: ResponseFlag;
  /** %RESPONSE_CODE_DETAILS%. */
  readonly details: string;
  readonly body: string;
  readonly source: 'downstream' | 'upstream' | 'local';
  /** Nothing of the request can have been processed: sending it again is safe for any method. */
  readonly retrySafe: boolean;
}

function row(
  source: Failure['source'],
  status: number,
  grpcStatus: number,
  flag: ResponseFlag,
  details: string,
  body: string,
  retrySafe = false,
): Failure {
  return { source, status, grpcStatus, flag, details, body, retrySafe };
}

const before = (reason: string) => `upstream connect error or disconnect/reset before headers. reset reason: ${reason}`;

/** Every failure that the data plane answers or logs. Details and bodies are Envoy's. */
export const failures = {
  noRoute: row('local', 404, 12, 'NR', 'route_not_found', ''),
  noFilterChain: row('downstream', 0, 14, 'NR', 'filter_chain_not_found', ''),
  clusterNotFound: row('local', 503, 14, 'NC', 'cluster_not_found', ''),
  noHealthyUpstream: row('local', 503, 14, 'UH', 'no_healthy_upstream', 'no healthy upstream'),
  upstreamOverflow: row(
    'local',
    503,
    14,
    'UO',
    'upstream_reset_before_response_started{overflow}',
    before('overflow'),
    true,
  ),
  upstreamConnectFailure: row(
    'upstream',
    503,
    14,
    'UF',
    'upstream_reset_before_response_started{remote_connection_failure}',
    before('remote connection failure'),
    true,
  ),
  upstreamConnectTimeout: row(
    'upstream',
    503,
    14,
    'UF',
    'upstream_reset_before_response_started{connection_timeout}',
    before('connection timeout'),
    true,
  ),
  upstreamTermination: row(
    'upstream',
    503,
    14,
    'UC',
    'upstream_reset_before_response_started{connection_termination}',
    before('connection termination'),
  ),
  upstreamRemoteReset: row(
    'upstream',
    503,
    14,
    'UR',
    'upstream_reset_before_response_started{remote_reset}',
    before('remote reset'),
  ),
  upstreamRefusedStream: row(
    'upstream',
    503,
    14,
    'UR',
    'upstream_reset_before_response_started{remote_refused_stream_reset}',
    before('remote refused stream reset'),
    true,
  ),
  upstreamProtocolError: row(
    'upstream',
    502,
    14,
    'UPE',
    'upstream_reset_before_response_started{protocol_error}',
    before('protocol error'),
  ),
  upstreamLocalReset: row(
    'local',
    503,
    14,
    'LR',
    'upstream_reset_before_response_started{local_reset}',
    before('local reset'),
  ),
  upstreamTimeout: row('upstream', 504, 14, 'UT', 'response_timeout', 'upstream request timeout'),
  perTryTimeout: row('upstream', 504, 14, 'UT', 'upstream_per_try_timeout', 'upstream request timeout'),
  perTryIdleTimeout: row('upstream', 504, 14, 'UT', 'upstream_per_try_idle_timeout', 'upstream request timeout'),
  upstreamMaxStreamDuration: row(
    'upstream',
    504,
    14,
    'UMSDR',
    'upstream_max_stream_duration_reached',
    'upstream max stream duration reached',
  ),
  dnsFailure: row('local', 503, 14, 'DF', 'dns_resolution_failure', 'DNS resolution failure'),
  forbiddenDestination: row(
    'local',
    403,
    7,
    '',
    'dynamic_forward_proxy_destination_denied',
    "destination denied: the proxy's own ports and link-local addresses are not reachable through it",
  ),
  underscoreRejected: row('downstream', 400, 3, '', 'http1.unexpected_underscore', 'Bad Request'),
  streamIdleTimeout: row('local', 408, 4, 'SI', 'stream_idle_timeout', 'stream timeout'),
  streamIdleTimeoutAfterRequest: row('local', 504, 4, 'SI', 'stream_idle_timeout', 'stream timeout'),
  requestTimeout: row('downstream', 408, 4, '', 'request_overall_timeout', 'request timeout'),
  requestHeadersTimeout: row('downstream', 408, 4, '', 'request_header_timeout', 'request header timeout'),
  maxStreamDuration: row('local', 408, 4, '', 'max_duration_timeout', 'downstream duration timeout'),
  maxStreamDurationAfterRequest: row('local', 504, 4, '', 'max_duration_timeout', 'downstream duration timeout'),
  downstreamDisconnect: row('downstream', 0, 1, 'DC', 'downstream_remote_disconnect', ''),
  downstreamProtocolError: row('downstream', 400, 3, 'DPE', 'http1.codec_error', ''),
  payloadTooLarge: row('local', 413, 8, '', 'request_payload_too_large', 'Payload Too Large'),
  responsePayloadTooLarge: row('local', 500, 13, '', 'response_payload_too_large', 'Internal Server Error'),
  missingHost: row('downstream', 400, 3, '', 'missing_host_header', ''),
  missingPath: row('downstream', 404, 12, '', 'missing_path_rejected', ''),
  pathNormalizationFailed: row('downstream', 400, 3, '', 'path_normalization_failed', ''),
  http10NotAllowed: row('downstream', 426, 9, '', 'low_version', ''),
  upgradeFailed: row('downstream', 403, 7, '', 'upgrade_failed', ''),
  filterException: row('local', 500, 13, '', 'filter_exception', 'Internal Server Error'),
  directResponse: row('local', 0, 0, '', 'direct_response', ''),
  overload: row('local', 503, 14, 'OM', 'overload', 'envoy overloaded'),
  downstreamRemoteReset: row('downstream', 0, 1, 'DR', 'downstream_remote_reset', ''),
} as const satisfies Record<string, Failure>;

/** The failure of an upstream reset that came before response headers. */
export function failureOfReset(reason: ResetReason): Failure {
  switch (reason) {
    case 'connection failure':
      return failures.upstreamConnectFailure;
    case 'connection timeout':
      return failures.upstreamConnectTimeout;
    case 'connection termination':
      return failures.upstreamTermination;
    case 'remote reset':
    case 'connect error':
      return failures.upstreamRemoteReset;
    case 'remote refused stream reset':
      return failures.upstreamRefusedStream;
    case 'overflow':
      return failures.upstreamOverflow;
    case 'protocol error':
      return failures.upstreamProtocolError;
    case 'local reset':
    case 'local refused stream reset':
      return failures.upstreamLocalReset;
    case 'overload manager':
      return failures.overload;
    default:
      return reason satisfies never;
  }
}

/** What a failure of an attempt becomes where the request had been sent before: Envoy says so in the body. */
export function afterRetry(failure: Failure): Failure {
  return { ...failure, body: failure.body.replace('reset reason:', 'retried and the latest reset reason:') };
}

/** The failure of an upstream reset that came after response headers. */
export function afterResponseStarted(failure: Failure): Failure {
  return { ...failure, details: failure.details.replace('before_response_started', 'after_response_started') };
}

/** Envoy puts the transport's reason into the details: `…{remote_connection_failure|delayed_connect_error:_…}`. */
export function withReason(failure: Failure, reason: string): Failure {
  const { details } = failure;
  if (reason === '' || !details.endsWith('}')) return failure;
  return { ...failure, details: `${details.slice(0, -1)}|${reason.replaceAll(' ', '_')}}` };
}

/** The one route of an inbound port: everything to the workload's own application. */
import type { Json } from '../resources.ts';
import { seconds } from './envoy_json.ts';
import type { MeshConfig } from './mesh.ts';

/**
 * @param retries whether a connection that the application closed before it took the request is tried again; as often
 *   and on what MeshConfig's defaultInboundHttpRetryPolicy says
 */
export function inboundRoutes(
  cluster: string,
  servicePort: number,
  host: string,
  retries: boolean,
  { defaultInboundHttpRetry: policy }: MeshConfig,
): Json {
  const attempts = policy === undefined ? 2 : (policy.attempts ?? 0);
  return {
    name: cluster,
    virtual_hosts: [
      {
        name: `inbound|http|${servicePort}`,
        domains: ['*'],
        routes: [
          {
            name: 'default',
            match: { prefix: '/' },
            route: {
              cluster,
              timeout: '0s',
              ...(retries &&
                attempts > 0 && {
                  retry_policy: {
                    retry_on: policy?.retryOn ?? 'reset-before-request',
                    num_retries: attempts,
                    ...(policy?.backoff !== undefined && {
                      retry_back_off: { base_interval: seconds(policy.backoff) },
                    }),
                  },
                }),
              max_stream_duration: { max_stream_duration: '0s', grpc_timeout_header_max: '0s' },
            },
            decorator: { operation: `${host}:${servicePort}/*` },
          },
        ],
      },
    ],
    validate_clusters: false,
  };
}

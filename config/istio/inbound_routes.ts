/** The one route of an inbound port: everything to the workload's own application. */
import type { Json } from '../resources.ts';

/** @param retries whether a connection that the application closed before it took the request is tried again */
export function inboundRoutes(cluster: string, servicePort: number, host: string, retries: boolean): Json {
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
              ...(retries && { retry_policy: { retry_on: 'reset-before-request', num_retries: 2 } }),
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

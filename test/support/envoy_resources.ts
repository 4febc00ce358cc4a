/** Envoy resources for tests, short to write. */
import type { Json, Resource } from '../../config/resources.ts';
import { resource } from './static_source.ts';

const TYPE = 'type.googleapis.com/';

export interface ListenerOptions {
  readonly name?: string;
  readonly port?: number;
  /** Inline route configuration, or the name of one by RDS. */
  readonly routes: Json | string;
  readonly manager?: Json;
  readonly filters?: readonly Json[];
}

/** One listener on 127.0.0.1 with an HTTP connection manager. */
export function httpListener({
  name = 'test',
  port = 0,
  routes,
  manager = {},
  filters = [],
}: ListenerOptions): Resource {
  return resource('listener', {
    name,
    address: { socket_address: { address: '127.0.0.1', port_value: port } },
    filter_chains: [
      {
        filters: [
          {
            name: 'envoy.filters.network.http_connection_manager',
            typed_config: {
              '@type': `${TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`,
              stat_prefix: 'test',
              ...(typeof routes === 'string' ? { rds: { route_config_name: routes } } : { route_config: routes }),
              http_filters: [
                ...filters,
                {
                  name: 'envoy.filters.http.router',
                  typed_config: { '@type': `${TYPE}envoy.extensions.filters.http.router.v3.Router` },
                },
              ],
              ...manager,
            },
          },
        ],
      },
    ],
  });
}

/** A STATIC cluster; `more` overrides. */
export function staticCluster(name: string, ports: readonly number[], more: Json = {}): Resource {
  return resource('cluster', {
    name,
    type: 'STATIC',
    load_assignment: {
      cluster_name: name,
      endpoints: [
        {
          lb_endpoints: ports.map((port) => ({
            endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } },
          })),
        },
      ],
    },
    ...more,
  });
}

/** One virtual host for all, with these routes. */
export function routeConfig(routes: readonly Json[], name = 'routes'): Json {
  return { name, virtual_hosts: [{ name: 'all', domains: ['*'], routes }] };
}

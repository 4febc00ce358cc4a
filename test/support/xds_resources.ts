/** Resources that name each other by ADS, short to write. */
import type { Json } from '../../config/resources.ts';
import { httpListener, routeConfig } from './envoy_resources.ts';

export const ADS = { ads: {}, resource_api_version: 'V3', initial_fetch_timeout: '0s' };

export const edsCluster = (name: string, more: Json = {}): Json => ({
  name,
  type: 'EDS',
  eds_cluster_config: { eds_config: ADS },
  ...more,
});

export const assignment = (name: string, ...ports: readonly number[]): Json => ({
  cluster_name: name,
  endpoints: [
    {
      lb_endpoints: ports.map((port) => ({
        endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } },
      })),
    },
  ],
});

export const routesTo = (name: string, cluster: string): Json =>
  routeConfig([{ match: { prefix: '/' }, route: { cluster } }], name);

/** With RDS by ADS, waiting for ever. */
export function adsListener(name: string, routeName: string, filters: readonly Json[] = []): Json {
  const json = structuredClone(httpListener({ name, routes: routeName, filters }).json) as {
    filter_chains: { filters: { typed_config: { rds: Json } }[] }[];
  };
  for (const chain of json.filter_chains) {
    for (const filter of chain.filters) filter.typed_config.rds = { route_config_name: routeName, config_source: ADS };
  }
  return json as unknown as Json;
}

/** One request on a connection of its own. */
export async function get(port: number): Promise<{ status: number; body: string; headers: Headers }> {
  const response = await fetch(`http://127.0.0.1:${port}/`, { headers: { connection: 'close' } });
  return { status: response.status, body: await response.text(), headers: response.headers };
}

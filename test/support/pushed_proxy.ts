/** A proxy that is configured by a test's control plane. */
import type { Json } from '../../config/resources.ts';
import { xdsSource } from '../../config/xds/bootstrap_source.ts';
import { AdsServer } from './ads_server.ts';
import { beginTestProxy, type TestProxy } from './running_proxy.ts';
import type { Scope } from './scope.ts';

export interface PushedProxy {
  readonly ads: AdsServer;
  readonly proxy: TestProxy;
  readonly logs: string[];
  /** Resolves when the first configuration is served. */
  readonly ready: Promise<void>;
}

export interface PushedOptions {
  readonly protocol?: 'delta' | 'sotw';
  /** Before the proxy connects. */
  readonly first?: Parameters<AdsServer['set']>[0];
  readonly concurrency?: number;
  readonly initialFetchTimeout?: string;
  readonly ads?: AdsServer;
  /** Added to dynamic_resources. */
  readonly dynamic?: Json;
  readonly statics?: readonly Json[];
  /** layered_runtime.layers. */
  readonly layers?: readonly Json[];
}

/** A bootstrap that names a control plane on loopback. */
export function bootstrapFor(
  port: number,
  { protocol = 'delta', initialFetchTimeout = '0s', dynamic, statics = [], layers }: PushedOptions = {},
): Json {
  const source = { ads: {}, resource_api_version: 'V3', initial_fetch_timeout: initialFetchTimeout };
  return {
    node: { id: 'test-node', cluster: 'test-cluster', metadata: { NAMESPACE: 'here' } },
    dynamic_resources: {
      ads_config: {
        api_type: protocol === 'delta' ? 'DELTA_GRPC' : 'GRPC',
        transport_api_version: 'V3',
        grpc_services: [{ envoy_grpc: { cluster_name: 'xds' } }],
      },
      cds_config: source,
      lds_config: source,
      ...dynamic,
    },
    static_resources: { clusters: [grpcCluster('xds', port), ...statics] },
    ...(layers !== undefined && { layered_runtime: { layers } }),
  };
}

export function grpcCluster(name: string, port: number): Json {
  return {
    name,
    type: 'STATIC',
    load_assignment: {
      cluster_name: name,
      endpoints: [
        { lb_endpoints: [{ endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } } }] },
      ],
    },
  };
}

export async function startPushedProxy(t: Scope, options: PushedOptions = {}): Promise<PushedProxy> {
  const ads = options.ads ?? (await AdsServer.start(t));
  if (options.first !== undefined) ads.set(options.first);
  const logs: string[] = [];
  const bootstrap = bootstrapFor(ads.port, options);
  const source = xdsSource(
    bootstrap,
    { id: '', cluster: '', version: 'test' },
    { log: (level, message) => void logs.push(`${level}: ${message}`) },
  );
  const { concurrency = 1 } = options;
  const proxy = beginTestProxy(t, [], {
    sources: [source],
    concurrency,
    ...(options.layers !== undefined && { bootstrap }),
  });
  proxy.running.ready.catch(() => {});
  return { ads, proxy, logs, ready: proxy.running.ready };
}

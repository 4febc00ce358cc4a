/** Resolves the names in STRICT_DNS and LOGICAL_DNS clusters, on the control thread, and tells when answers change. */
import { createHash } from 'node:crypto';
import type { Json, Resource } from '../../config/resources.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Statistics } from '../telemetry/statistics.ts';
import type { ClusterConfig } from './cluster_config.ts';
import { DnsResolvers } from './dns_resolvers.ts';
import { DnsTarget } from './dns_target.ts';
import type { Endpoint } from './load_assignment.ts';

export interface DiscoveryDeps {
  readonly resolvers: DnsResolvers;
  /** Hosts of a cluster have changed. */
  onEndpoints(resource: Resource): void;
  onFailure(cluster: string, message: string): void;
  /** Envoy's `cluster.<name>.update_…`. */
  count(cluster: string, what: 'attempt' | 'success' | 'no_rebuild' | 'failure' | 'empty'): void;
  readonly random: () => number;
}

/** Where hosts go. */
interface Configured {
  accept(endpoints: Resource): void;
  /** Nobody could say where the hosts of a cluster are: who waits for its first ones waits no longer. */
  unknown(cluster: string): void;
  settled(): void;
}

interface Watched {
  readonly config: ClusterConfig;
  readonly targets: readonly DnsTarget[];
  lastVersion: string;
}

export class Discovery {
  readonly #deps: DiscoveryDeps;
  readonly #watched = new Map<string, Watched>();

  constructor(deps: DiscoveryDeps) {
    this.#deps = deps;
  }

  static over(statistics: Statistics, log: Logger, configured: Configured): Discovery {
    return new Discovery({
      resolvers: new DnsResolvers(),
      onEndpoints(resource) {
        configured.accept(resource);
        configured.settled();
      },
      onFailure(cluster, message) {
        log.log('warning', 'dns', `Cluster "${cluster}": ${message}`);
        configured.unknown(cluster);
        configured.settled();
      },
      count: (cluster, what) => statistics.counter(`cluster.${cluster}.update_${what}`).inc(),
      random: Math.random,
    });
  }

  /** Starts, or starts again with a changed configuration. Clusters of other types are passed over. */
  watch(config: ClusterConfig): void {
    const before = this.#watched.get(config.name);
    this.forget(config.name);
    const { kind } = config.discovery;
    if (kind !== 'strict_dns' && kind !== 'logical_dns') return;
    const resolver = this.#deps.resolvers.of(config.dns.resolver);
    // Names are resolved each by itself: one that is slow or gone keeps nobody else's hosts from changing.
    const targets = (config.inlineAssignment?.endpoints ?? []).map(
      (endpoint) =>
        new DnsTarget(endpoint, config.dns, kind === 'logical_dns', resolver, {
          random: this.#deps.random,
          asks: () => this.#deps.count(config.name, 'attempt'),
          answered: (isNews) => this.#answered(watched, isNews),
          failed: (error) => this.#failed(config, error),
        }),
    );
    const watched: Watched = { config, targets, lastVersion: '' };
    // What a name meant before the change it means until there is an answer.
    for (const target of targets) target.takeOver(before?.targets);
    this.#watched.set(config.name, watched);
    for (const target of targets) target.start();
  }

  forget(cluster: string): void {
    for (const target of this.#watched.get(cluster)?.targets ?? []) target.stop();
    this.#watched.delete(cluster);
  }

  stop(): void {
    for (const name of [...this.#watched.keys()]) this.forget(name);
  }

  #answered(watched: Watched, isNews: boolean): void {
    const { config, targets } = watched;
    this.#deps.count(config.name, 'success');
    const resource = isNews
      ? assignment(
          config,
          targets.flatMap(({ hosts }) => hosts),
        )
      : undefined;
    if (resource === undefined || resource.version === watched.lastVersion) {
      this.#deps.count(config.name, 'no_rebuild');
      return;
    }
    watched.lastVersion = resource.version;
    this.#deps.onEndpoints(resource);
  }

  #failed({ name }: ClusterConfig, { message, cause }: Error): void {
    const { code } = (cause ?? {}) as NodeJS.ErrnoException;
    this.#deps.count(name, 'failure');
    if (code === 'ENODATA' || code === 'ENOTFOUND') this.#deps.count(name, 'empty');
    this.#deps.onFailure(name, message);
  }
}

/** As EDS would have given it. */
function assignment(config: ClusterConfig, endpoints: readonly Endpoint[]): Resource {
  const sorted = [...endpoints].sort((a, b) => (a.ip < b.ip ? -1 : 1));
  const json: Json = {
    cluster_name: config.name,
    endpoints: sorted.map((endpoint) => ({
      locality: {
        region: endpoint.locality.region,
        zone: endpoint.locality.zone,
        sub_zone: endpoint.locality.subZone,
      },
      priority: endpoint.priority,
      ...(endpoint.localityWeight !== undefined && { load_balancing_weight: endpoint.localityWeight }),
      lb_endpoints: [
        {
          endpoint: {
            address: { socket_address: { address: endpoint.ip, port_value: endpoint.port } },
            ...(endpoint.additionalAddresses !== undefined && {
              additional_addresses: endpoint.additionalAddresses.map(({ ip, port }) => ({
                address: { socket_address: { address: ip, port_value: port } },
              })),
            }),
            hostname: endpoint.hostname,
          },
          health_status: endpoint.health.toUpperCase(),
          load_balancing_weight: endpoint.weight,
          ...(endpoint.metadata !== undefined && { metadata: { filter_metadata: endpoint.metadata } }),
        },
      ],
    })),
    policy: { overprovisioning_factor: config.inlineAssignment?.overprovisioningFactor ?? 140 },
  };
  const version = createHash('sha256').update(JSON.stringify(json)).digest('hex').slice(0, 16);
  return { type: 'endpoint', name: config.name, version, json, origin: `DNS for ${config.origin}` };
}

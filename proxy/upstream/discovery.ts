/** Resolves the names in STRICT_DNS and LOGICAL_DNS clusters, on the control thread, and tells when answers change. */
import { createHash } from 'node:crypto';
import type { Json, Resource } from '../../config/resources.ts';
import type { ClusterConfig } from './cluster_config.ts';
import type { DnsResolver } from './dns.ts';
import type { Endpoint } from './load_assignment.ts';

/** After a failure; doubled each time, up to the cluster's refresh rate or a minute. */
const FIRST_RETRY_MS = 1000;
const MAX_RETRY_MS = 60_000;

interface Watched {
  readonly config: ClusterConfig;
  timer: NodeJS.Timeout | undefined;
  stopped: boolean;
  failures: number;
  lastVersion: string;
}

export class Discovery {
  readonly #resolver: DnsResolver;
  readonly #onEndpoints: (resource: Resource) => void;
  readonly #onFailure: (cluster: string, message: string) => void;
  readonly #watched = new Map<string, Watched>();

  constructor(
    resolver: DnsResolver,
    onEndpoints: (resource: Resource) => void,
    onFailure: (cluster: string, message: string) => void,
  ) {
    this.#resolver = resolver;
    this.#onEndpoints = onEndpoints;
    this.#onFailure = onFailure;
  }

  /** Starts, or starts again with a changed configuration. Clusters of other types are passed over. */
  watch(config: ClusterConfig): void {
    this.forget(config.name);
    const { kind } = config.discovery;
    if (kind !== 'strict_dns' && kind !== 'logical_dns') return;
    const watched: Watched = { config, timer: undefined, stopped: false, failures: 0, lastVersion: '' };
    this.#watched.set(config.name, watched);
    void this.#refresh(watched);
  }

  forget(cluster: string): void {
    const watched = this.#watched.get(cluster);
    if (watched === undefined) return;
    watched.stopped = true;
    clearTimeout(watched.timer);
    this.#watched.delete(cluster);
  }

  stop(): void {
    for (const name of [...this.#watched.keys()]) this.forget(name);
  }

  async #refresh(watched: Watched): Promise<void> {
    const { config } = watched;
    const wanted = config.inlineAssignment?.endpoints ?? [];
    const logical = config.discovery.kind === 'logical_dns';
    let nextMs = config.dns.refreshMs;
    try {
      const found: Endpoint[] = [];
      for (const endpoint of wanted) {
        const answer = await this.#resolver.resolve(endpoint.ip, config.dns.family);
        if (config.dns.respectTtl && answer.ttlMs > 0) nextMs = Math.max(1000, answer.ttlMs);
        const hostname = endpoint.hostname || endpoint.ip;
        const [first, ...others] = answer.addresses;
        if (!logical) for (const ip of answer.addresses) found.push({ ...endpoint, ip, hostname });
        else if (first !== undefined) {
          // A logical host is one host, at whatever the first answer is now; with both families, at all of them.
          const more = config.dns.family === 'all' ? others.map((ip) => ({ ip, port: endpoint.port })) : [];
          found.push({ ...endpoint, ip: first, hostname, ...(more.length > 0 && { additionalAddresses: more }) });
        }
      }
      watched.failures = 0;
      if (watched.stopped) return;
      this.#publish(watched, found);
    } catch (error) {
      watched.failures++;
      if (watched.stopped) return;
      // The last good answer stays: a name server that is down takes nothing away.
      this.#onFailure(config.name, (error as Error).message);
      nextMs = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** Math.min(watched.failures - 1, 6));
    }
    // Spread over a tenth, so that a thousand clusters do not ask in the same moment.
    watched.timer = setTimeout(() => void this.#refresh(watched), nextMs * (0.95 + Math.random() * 0.1)).unref();
  }

  #publish(watched: Watched, endpoints: readonly Endpoint[]): void {
    const { config } = watched;
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
            load_balancing_weight: endpoint.weight,
            ...(endpoint.metadata === undefined ? {} : { metadata: { filter_metadata: endpoint.metadata } }),
          },
        ],
      })),
    };
    const version = createHash('sha256').update(JSON.stringify(json)).digest('hex').slice(0, 16);
    if (version === watched.lastVersion) return;
    watched.lastVersion = version;
    this.#onEndpoints({ type: 'endpoint', name: config.name, version, json, origin: `DNS for ${config.origin}` });
  }
}

/** What checking a resource found out, kept until it is distributed: nothing is built twice. */
import type { Inspection } from '../config/build/check.ts';
import type { Resource, ResourceKey } from '../config/resources.ts';
import { ConfigError } from './config_error.ts';
import { keyOf } from './configuration_state.ts';
import { type ClusterConfig, isPlain } from './upstream/cluster_config.ts';

export class KeptInspections {
  readonly #inspect: (resource: Resource) => Inspection | ConfigError;
  readonly #kept = new Map<string, Inspection>();

  constructor(inspect: (resource: Resource) => Inspection | ConfigError) {
    this.#inspect = inspect;
  }

  /** Builds it once for its complaints. */
  inspect(resource: Resource): Inspection | ConfigError {
    const found = this.#inspect(resource);
    if (!(found instanceof ConfigError) && isKept(resource)) {
      const { cluster, dependencies } = found;
      // Of most clusters nobody here has anything to know: ten thousand of them are not kept until all have come.
      const kept = cluster !== undefined && isPlain(cluster) ? { dependencies, plainCluster: shown(cluster) } : found;
      this.#kept.set(keyOf(resource), kept);
    }
    return found;
  }

  /** undefined: not inspected, or distributed. A plain cluster's configuration is left out but for its statistics. */
  of(key: ResourceKey): Inspection | undefined {
    return this.#kept.get(keyOf(key));
  }

  forget(key: ResourceKey): void {
    this.#kept.delete(keyOf(key));
  }
}

/** What names others, or is needed again when it is served. */
function isKept({ type }: ResourceKey): boolean {
  return type === 'cluster' || type === 'listener' || type === 'scope' || type === 'extension' || type === 'secret';
}

function shown({ altStatName, breakers }: ClusterConfig): NonNullable<Inspection['plainCluster']> {
  return { altStatName, breakers };
}

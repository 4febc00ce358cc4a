/** How the router and filters reach a cluster by name. */
import type { Cluster } from './cluster.ts';

export interface ClusterLookup {
  /** Live: the newest version; undefined when there is none (503 NC). Builds it on first use. */
  get(name: string): Cluster | undefined;
}

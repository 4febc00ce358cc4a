/** What the router is made from: its configuration, and what it uses of its thread. */
import type { Deadlines } from '../net/deadlines.ts';
import type { Counter } from '../telemetry/statistics.ts';
import type { ClusterLookup } from '../upstream/cluster_lookup.ts';

export interface RouterConfig {
  /** Default false: x-envoy-upstream-service-time and its kind are added. */
  readonly suppressEnvoyHeaders: boolean;
}

export interface RouterStatistics {
  readonly rqTotal: Counter;
  readonly noRoute: Counter;
  readonly noCluster: Counter;
  readonly rqRedirect: Counter;
  readonly rqDirectResponse: Counter;
}

export interface RouterDeps {
  readonly clusters: ClusterLookup;
  readonly deadlines: Deadlines;
  readonly statistics: RouterStatistics;
  /** The ledger: what was sent more than once, by method and route. */
  sentAgain(method: string, route: string, reason: string): Counter;
  /** Whether there is too much to do to send this one. */
  sheds(): boolean;
  /** [0, 1) */
  random(): number;
  nowMs(): number;
}

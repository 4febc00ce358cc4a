/** A cluster on one data thread: its hosts, its balancer, its pools, its limits. */
import type { LoadBalancerContext } from '../load_balancers/load_balancer.ts';
import type { Metadata } from '../http/stream_info.ts';
import type { Host } from './host.ts';

export interface Cluster {
  readonly name: string;
  readonly altStatName: string;
  readonly metadata: Metadata | undefined;
  /** undefined: no healthy host. */
  chooseHost(context: LoadBalancerContext): Host | undefined;
}

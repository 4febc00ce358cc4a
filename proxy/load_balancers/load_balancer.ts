/** The contract of load balancers: built once from an immutable membership, replaced with it. */
import type { Host } from '../upstream/host.ts';
import type { Metadata } from '../http/stream_info.ts';
import type { HashTables } from './hash_tables.ts';
import type { LiveHosts } from './live_hosts.ts';

/** 64-bit hash as two uint32, subset metadata, hosts and priorities already tried, override host, original destination, attempt. */
export interface LoadBalancerContext {
  readonly hashHigh: number;
  readonly hashLow: number;
  readonly hasHash: boolean;
  readonly attempt: number;
  /** The route's metadata_match, for subsets. */
  readonly metadataMatch: Metadata | undefined;
  shouldSkip(host: Host): boolean;
  /** Priorities that another attempt should leave alone while there are others (previous_priorities). */
  readonly triedPriorities?: ReadonlySet<number> | undefined;
  /** The hosts whose priorities those are: of an aggregate cluster they are told apart by their members. */
  readonly triedHosts?: readonly Host[] | undefined;
  /** The host of a session, which comes before any balancing. */
  readonly overrideHost?: OverrideHost | undefined;
}

/** Envoy: Upstream::LoadBalancerContext::OverrideHost. */
export interface OverrideHost {
  /** `ip:port` of a member. */
  readonly address: string;
  /** That host or none. */
  readonly strict: boolean;
}

/** Membership is immutable and the balancer is replaced with it; health is an overlay. Synchronous, no allocation. */
export interface LoadBalancer {
  /** Resolves when what it chooses by is there; undefined: it is. Who cannot wait chooses all the same. */
  readonly ready?: Promise<void> | undefined;
  chooseHost(request: LoadBalancerContext): Host | undefined;
}

/** What every balancer of one priority is built from. */
export interface LoadBalancerInput {
  /** The membership. */
  readonly hosts: readonly Host[];
  /** Those of them that may be chosen: healthy ones, or all in panic. Default: all. */
  readonly live?: LiveHosts;
  /** Where tables come from. Default: built when they are first used. */
  readonly tables?: HashTables;
  /** [0, 1) */
  readonly random: () => number;
}

/** lb_policy with its options. Envoy: envoy.config.cluster.v3.Cluster lb_policy, and load_balancing_policy. */
export type LoadBalancerConfig =
  | { readonly policy: 'round_robin' }
  /** choiceCount ≥ 2, default 2. activeRequestBias default 1.0. */
  | { readonly policy: 'least_request'; readonly choiceCount: number; readonly activeRequestBias: number }
  | { readonly policy: 'random' }
  /** Sizes default 1024 and 8 Mi; hashFunction default xx_hash. */
  | {
      readonly policy: 'ring_hash';
      readonly minimumRingSize: number;
      readonly maximumRingSize: number;
      readonly hashFunction: 'xx_hash' | 'murmur_hash_2';
      readonly useHostnameForHashing: boolean;
    }
  /** tableSize default 65537, prime. */
  | { readonly policy: 'maglev'; readonly tableSize: number; readonly useHostnameForHashing: boolean }
  /** Original destination: the host is made from the connection. */
  | { readonly policy: 'cluster_provided' };

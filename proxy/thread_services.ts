/** What a data thread offers to whatever is built on it: one object per thread. */
import type { ThreadDrain } from './drain.ts';
import type { AccessLogSinks } from './telemetry/access_log.ts';
import type { Logger } from './telemetry/log.ts';
import type { SpanSink } from './telemetry/tracing/span.ts';
import type { Statistics } from './telemetry/statistics.ts';
import type { ClusterLookup } from './upstream/cluster_lookup.ts';
import type { HashTables } from './load_balancers/hash_tables.ts';
import type { CircuitBreakers } from './upstream/circuit_breakers.ts';
import type { TokenBuckets } from './http/token_buckets.ts';
import type { ThreadOverload } from './overload/overload_state.ts';
import type { OnDemand } from './on_demand.ts';
import type { HostReports } from './upstream/host_reports.ts';
import type { HostVerdicts } from './upstream/host_verdicts.ts';
import type { OutlierFound } from './upstream/outlier_reporter.ts';
import type { DnsResolvers } from './upstream/dns_resolvers.ts';
import type { ForwardProxyGuard } from './upstream/forward_proxy_hosts.ts';
import type { SecretLookup } from './net/tls/secrets.ts';
import type { Deadlines } from './net/deadlines.ts';
import type { NodeIdentity } from './proxy_options.ts';
import type { RouteTable } from './router/route.ts';

export interface ThreadServices {
  /** 0-based. */
  readonly threadIndex: number;
  readonly statistics: Statistics;
  readonly clusters: ClusterLookup;
  /** Live RDS cells; undefined while a name has not arrived. */
  readonly routes: { get(name: string): RouteTable | undefined };
  /** Live scopes: the table of a request's key. */
  readonly scopes: { get(key: string): RouteTable | undefined };
  /** Configuration that only single requests want. */
  readonly onDemand?: OnDemand;
  readonly breakers: CircuitBreakers;
  /** Tables of consistent hashing, shared by all threads. */
  readonly hashTables: HashTables;
  readonly tokenBuckets: TokenBuckets;
  readonly overload: ThreadOverload;
  /** TLS certificates, keys and roots by name. */
  readonly secrets: SecretLookup;
  /** Where session-ticket keys come from: the same on all threads, and nowhere else. */
  readonly ticketSecret: { readonly bytes: Uint8Array };
  /** What the control thread says of hosts, and what this one has to tell it. */
  readonly hostVerdicts: HostVerdicts;
  readonly hostReports: HostReports;
  readonly outlierFound: OutlierFound;
  readonly accessLogs: AccessLogSinks;
  /** Where finished spans go. */
  readonly spans: SpanSink;
  readonly log: Logger;
  readonly deadlines: Deadlines;
  readonly drain: ThreadDrain;
  readonly dns: DnsResolvers;
  readonly guard: ForwardProxyGuard;
  readonly node: NodeIdentity;
  /** How long connections of a filter chain that is gone may go on. */
  readonly drainTimeMs: number;
  random(): number;
  nowMs(): number;
}

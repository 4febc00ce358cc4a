/** What the control thread and a data thread say to each other. */
import type { Demand } from '../config/resources.ts';
import type { ClusterCall } from './cluster_caller.ts';
import type { DrainOrder, DrainScope } from './drain.ts';
import type { Update } from './distribution.ts';
import type { NodeIdentity } from './proxy_options.ts';
import type { OtelLogConfig, OtelLogRecord } from './telemetry/otel_logs/otel_log_config.ts';
import type { SpanRecord } from './telemetry/tracing/span.ts';
import type { TracerConfig } from './telemetry/tracing/tracing_config.ts';
import type { Heartbeat } from './watchdog.ts';
import type { RuntimeValues } from './runtime_layers.ts';
import type { SlabMessage } from './telemetry/slab.ts';
import type { LogLevel } from './telemetry/log.ts';
import type { HostCounts } from './upstream/host.ts';
import type { BucketMemory } from './http/token_buckets.ts';
import type { OverloadMemory } from './overload/overload_state.ts';
import type { ReportMemory, ReportRow } from './upstream/host_reports.ts';
import type { HealthCheck, ProbeAnswer } from './upstream/health_check.ts';
import type { VerdictMessage } from './upstream/host_verdicts.ts';
import type { OutlierCause } from './upstream/outlier_config.ts';
import type { BreakerMemory, BreakerRow } from './upstream/shared_breakers.ts';

/** Given to a data thread at its start. */
export interface ThreadStart {
  readonly threadIndex: number;
  readonly breakers: BreakerMemory;
  readonly breakerRow: BreakerRow;
  readonly overload: OverloadMemory;
  readonly heartbeat: Heartbeat;
  readonly buckets: BucketMemory;
  readonly bucketRow: SharedArrayBuffer;
  readonly reports: ReportMemory;
  readonly reportRow: ReportRow;
  readonly logLevel: LogLevel;
  /** Access-log lines leave after at most this long. */
  readonly accessLogFlushMs: number;
  /** 32 random bytes: TLS session tickets made by one thread are read by all. */
  readonly ticketSecret: Uint8Array;
  readonly node: NodeIdentity;
  /** envoy.config.metrics.v3.StatsConfig in JSON form, if any. */
  readonly statsConfig: unknown;
  readonly drainTimeMs: number;
  readonly poisonReadBuffers: boolean;
  readonly runtime: RuntimeValues;
}

export type ToThread =
  | VerdictMessage
  | {
      readonly kind: 'update';
      readonly update: Update;
      readonly listen: ReadonlyMap<string, readonly (number | undefined)[]>;
    }
  /** `ip:port` of this proxy's own listeners: never to be called through it. */
  | { readonly kind: 'own-ports'; readonly ports: readonly number[] }
  | { readonly kind: 'log-level'; readonly level: LogLevel }
  /** Nobody will give it. */
  | { readonly kind: 'demand-absent'; readonly demand: Demand }
  | { readonly kind: 'runtime'; readonly values: RuntimeValues }
  /** The writer has taken this much: more may come. */
  | { readonly kind: 'lines-written'; readonly bytes: number }
  /** The exporters have taken so many: more may come. */
  | { readonly kind: 'spans-taken'; readonly count: number }
  | { readonly kind: 'log-records-taken'; readonly count: number }
  /** A request of the control thread's own, for the thread to make. */
  | { readonly kind: 'call'; readonly id: number; readonly cluster: string; readonly call: ClusterCall }
  /** A health check of one host, for the thread to make. */
  | {
      readonly kind: 'probe';
      readonly id: number;
      readonly cluster: string;
      readonly address: string;
      readonly check: HealthCheck;
      readonly timeoutMs: number;
    }
  /** Until the thread's end; `elapsedMs`: it began so long ago. */
  | { readonly kind: 'drain'; readonly order: DrainOrder; readonly elapsedMs: number }
  /** undefined: it could not be built. */
  | { readonly kind: 'hash-table'; readonly id: number; readonly memory: SharedArrayBuffer | undefined }
  /** Whether new connections are taken, or how long timeouts are, has changed in overload's memory. */
  | { readonly kind: 'overload' }
  /** Streams that hold much memory are to end. */
  | { readonly kind: 'reset-streams' }
  | { readonly kind: 'stop-accepting'; readonly scope: DrainScope }
  /** /healthcheck/fail and /healthcheck/ok. */
  | { readonly kind: 'health'; readonly failed: boolean }
  | { readonly kind: 'flush'; readonly id: number }
  /** At once, whatever is open. */
  | { readonly kind: 'end' }
  | { readonly kind: 'describe'; readonly id: number }
  | { readonly kind: 'describe-clusters'; readonly id: number; readonly from: ClusterCursor };

export type FromThread =
  | { readonly kind: 'hash-table-wanted'; readonly id: number; readonly spec: string }
  | { readonly kind: 'hash-table-let-go'; readonly id: number }
  | { readonly kind: 'outlier'; readonly cluster: string; readonly address: string; readonly cause: OutlierCause }
  | { readonly kind: 'ready' }
  /** A request wants it. */
  | { readonly kind: 'demand'; readonly demand: Demand }
  | { readonly kind: 'applied'; readonly epoch: number; readonly failure: string | undefined }
  | { readonly kind: 'statistics'; readonly message: SlabMessage }
  | { readonly kind: 'log'; readonly level: LogLevel; readonly component: string; readonly message: string }
  | { readonly kind: 'lines'; readonly path: string; readonly bytes: Uint8Array }
  | { readonly kind: 'spans'; readonly tracer: TracerConfig; readonly spans: readonly SpanRecord[] }
  | { readonly kind: 'log-records'; readonly config: OtelLogConfig; readonly records: readonly OtelLogRecord[] }
  | { readonly kind: 'called'; readonly id: number; readonly body: Uint8Array; readonly failure: string | undefined }
  | { readonly kind: 'probed'; readonly id: number; readonly answer: ProbeAnswer }
  | { readonly kind: 'flushed'; readonly id: number }
  | { readonly kind: 'description'; readonly id: number; readonly description: ThreadDescription }
  | { readonly kind: 'clusters'; readonly id: number; readonly part: ClustersPart };

/** Where the next part begins: which cluster of those that are built, and which of its hosts. */
export interface ClusterCursor {
  readonly cluster: number;
  readonly host: number;
}

/** Some hundred hosts: neither side is held up for long by one part. */
export interface ClustersPart {
  readonly clusters: readonly ClusterDescription[];
  /** undefined: that was all. */
  readonly next: ClusterCursor | undefined;
}

/** For admin and drain. */
export interface ThreadDescription {
  readonly activeConnections: number;
  readonly activeStreams: number;
  /** Streams and tunnels. */
  readonly openWorkCount: number;
  /** The first of them. */
  readonly openWork: readonly OpenWork[];
  readonly resources: ThreadResources;
}

/** What grows when something is forgotten. */
export interface ThreadResources {
  readonly heapBytes: number;
  /** What keeps the thread's event loop alive: sockets, listeners, messages. */
  readonly handles: number;
  /** Real timers of deadlines, and the deadlines themselves. */
  readonly timers: number;
  readonly deadlines: number;
}

/** A request or a tunnel that a stop would cut. */
export interface OpenWork {
  readonly listener: string;
  readonly client: string;
  /** `GET /path`, `TCP connection`. */
  readonly what: string;
  readonly ageMs: number;
}

export interface ClusterDescription {
  readonly name: string;
  readonly hosts: readonly HostDescription[];
}

/** By Envoy's names. */
export interface HealthFlags {
  readonly failed_active_hc?: boolean;
  readonly failed_outlier_check?: boolean;
  readonly degraded_active_hc?: boolean;
  readonly pending_dynamic_removal?: boolean;
  readonly active_hc_timeout?: boolean;
}

export interface HostDescription {
  readonly address: string;
  readonly hostname: string;
  readonly weight: number;
  readonly priority: number;
  readonly health: string;
  /** What EDS says, where it is known apart from `health`. */
  readonly configuredHealth?: string;
  /** Envoy's health flags that are up, besides what EDS says. */
  readonly flags?: HealthFlags;
  readonly region: string;
  readonly zone: string;
  readonly subZone: string;
  readonly counts: Readonly<HostCounts> & { readonly rqActive: number; readonly rqPendingActive: number };
}

/** What the command line asks of the control thread, and what it gets back. Implemented by proxy/main.ts `startProxy`. */
import type { DrainStrategy } from './drain.ts';
import type { ShutdownPolicy } from './shutdown.ts';
import type { ConfigSource } from '../config/resources.ts';
import type { AgentEnvironment } from './admin/agent_port.ts';
import type { DnsStart } from './dns/dns_worker.ts';
import type { NameTableData } from './dns/name_table.ts';
import type { Aggregate } from './telemetry/aggregate.ts';
import type { OverloadConfig } from './overload/overload_config.ts';
import type { Logger } from './telemetry/log.ts';
import type { ThreadDescription } from './thread_messages.ts';

export interface ListenAddress {
  readonly ip: string;
  /** 0: any free port; the real one is in RunningProxy.addresses. */
  readonly port: number;
}

/** envoy.config.core.v3.Node. */
export interface NodeIdentity {
  readonly id: string;
  readonly cluster: string;
  /** Locality.zone. */
  readonly zone?: string;
  /** Istio's names: NAME, NAMESPACE, WORKLOAD_NAME, LABELS, CLUSTER_ID, SERVICE_ACCOUNT. */
  readonly metadata: Readonly<Record<string, unknown>>;
}

export interface ProxyOptions {
  /** Data threads, ≥ 1. */
  readonly concurrency: number;
  readonly sources: readonly ConfigSource[];
  /** undefined: none. Defaults are the caller's: 127.0.0.1:15000, 0.0.0.0:15021, 0.0.0.0:15090. */
  readonly admin: ListenAddress | undefined;
  readonly status: ListenAddress | undefined;
  readonly metrics: ListenAddress | undefined;
  /** Istio's agent port; undefined: none. */
  readonly agent?: { readonly address: ListenAddress; readonly environment: AgentEnvironment } | undefined;
  readonly log: Logger;
  /** The DNS proxy; undefined: none. It answers SERVFAIL, and the proxy is not ready, before `setNames`. */
  readonly dns?: DnsStart | undefined;
  /** For /server_info. */
  readonly node: NodeIdentity;
  readonly commandLine: Readonly<Record<string, unknown>>;
  /** Bootstrap JSON for /config_dump; undefined: none. */
  readonly bootstrap?: unknown;
  /** envoy.config.metrics.v3.StatsConfig in JSON form; undefined: Envoy's defaults. */
  readonly statsConfig?: unknown;
  readonly drainTimeMs: number;
  /** When load is shed; default: never, but for threads that are late. */
  readonly overloadConfig?: OverloadConfig;
  /** Default `immediate`. */
  readonly drainStrategy?: DrainStrategy;
  /** After each configuration change that was applied or refused. */
  readonly onUpdate?: (update: UpdateReport) => void;
  /** Access-log lines are written after at most this long; default 1,000, 0 for somebody watching. */
  readonly accessLogFlushMs?: number;
  /** POST /quitquitquit. */
  readonly onQuit?: () => void;
  /** --path of the file that gets the admin's real address. */
  readonly adminAddressPath?: string | undefined;
  /** For tests: every read buffer is overwritten after use, so that whoever kept borrowed bytes is found out. */
  readonly poisonReadBuffers?: boolean;
}

export interface UpdateReport {
  /** e.g. `2 routes changed, 1 cluster added`; '' when nothing changed. */
  readonly summary: string;
  /** Complete sentences; empty when everything was applied. */
  readonly errors: readonly string[];
}

export interface RunningProxy {
  /** Real addresses once listening: `admin`, `status`, `metrics`, and each listener by name. */
  readonly addresses: ReadonlyMap<string, ListenAddress>;
  /** Resolves when the first configuration serves on every thread. Rejects with a BindError naming the port, or a ConfigError. */
  readonly ready: Promise<void>;
  /**
   * Graceful: drains, resolves with what was cut ('' if nothing). Defaults: drainTimeMs at most, no minimum, requests
   * are waited for. `now` also ends a graceful stop that is under way.
   */
  stop(how: 'graceful' | 'now', policy?: Partial<ShutdownPolicy>): Promise<string>;
  readonly statistics: Aggregate;
  /** For tests that kill one, or wait until they have said what they count. */
  readonly threads: {
    kill(index: number): Promise<void>;
    usedSlots(): { readonly clusters: number; readonly own: number };
    describe(): Promise<readonly ThreadDescription[]>;
  };
  /** What the DNS proxy answers from now on. */
  setNames(names: NameTableData): void;
  /** SIGUSR2. */
  reopenLogs(): void;
}

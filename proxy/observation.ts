/** What the control thread keeps for those who look inside: statistics, runtime values, profilers. */
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { daysUntilFirstExpiry } from './admin/certs.ts';
import type { DataThreads } from './data_threads.ts';
import { Profilers } from './admin/profilers.ts';
import type { HeldResource } from './held_resource.ts';
import type { ProxyOptions } from './proxy_options.ts';
import { parseFlush } from './telemetry/flush_interval.ts';
import { Fields } from './resource_fields.ts';
import { RuntimeLayers } from './runtime_layers.ts';
import { Aggregate } from './telemetry/aggregate.ts';
import { ServerStatistics } from './telemetry/server_statistics.ts';
import { EXPIRY_SWEEP_MS } from './telemetry/slab.ts';
import { parseStatsConfig, type StatsRules } from './telemetry/stats_config.ts';
import { parseWatchdogs, Watchdog } from './watchdog.ts';

/** Certificates are looked at again this long after a change, and this often. */
const CERTIFICATES_SOON_MS = 200;
const CERTIFICATES_AGAIN_MS = 600_000;

export interface Surroundings {
  readonly threads: () => DataThreads;
  resources(): Iterable<HeldResource>;
  warming(): Iterable<HeldResource>;
}

export class Observation {
  readonly startedMs = Date.now();
  readonly rules: StatsRules;
  readonly aggregate: Aggregate;
  readonly runtime: RuntimeLayers;
  readonly server: ServerStatistics;
  readonly profilers: Profilers;
  /** stats_flush_on_admin: intervals end when somebody looks. */
  readonly #flushesOnAdmin: boolean;
  readonly #surroundings: Surroundings;
  readonly #watchdog: Watchdog;
  readonly #timers: NodeJS.Timeout[];
  #soon: NodeJS.Timeout | undefined = undefined;

  /** @throws {ConfigError} for a stats_config or layered_runtime that cannot be used. */
  constructor(options: ProxyOptions, surroundings: Surroundings) {
    const bootstrap = (options.bootstrap ?? {}) as BootstrapParts;
    this.#surroundings = surroundings;
    this.rules = parseStatsConfig(options.statsConfig ?? bootstrap.stats_config);
    this.aggregate = new Aggregate(this.rules);
    this.runtime = new RuntimeLayers(bootstrap.layered_runtime);
    this.server = new ServerStatistics(this.aggregate.own, istioVersion(options), () => {
      const warming = [...surroundings.warming()];
      return {
        concurrency: options.concurrency,
        startedMs: this.startedMs,
        warmingClusters: warming.filter(({ type }) => type === 'cluster').length,
        warmingListeners: warming.filter(({ type }) => type === 'listener').length,
        runtime: this.runtime,
      };
    });
    const { stats_server_version_override: version } = bootstrap;
    if (version !== undefined) this.aggregate.own.gauge('server.version').set(Number(version));
    this.profilers = new Profilers(bootstrap.admin?.profile_path ?? join(tmpdir(), `pillion-${process.pid}`), () =>
      surroundings.threads().workers(),
    );
    this.#watchdog = new Watchdog(parseWatchdogs(new Fields(bootstrap)), this.aggregate.own, options.concurrency, () =>
      surroundings.threads().heartbeats(),
    );
    const flush = parseFlush(new Fields(bootstrap));
    this.#flushesOnAdmin = flush === 'on admin';
    this.#timers = [
      setInterval(() => this.aggregate.expire(performance.now()), EXPIRY_SWEEP_MS).unref(),
      setInterval(() => this.certificatesChanged(), CERTIFICATES_AGAIN_MS).unref(),
    ];
    if (flush !== 'on admin') this.#timers.push(setInterval(() => void this.#flush(), flush).unref());
  }

  /** Before somebody looks. */
  async refresh(): Promise<void> {
    this.server.refresh();
    if (this.#flushesOnAdmin) await this.#flush();
  }

  /** Intervals of histograms end here. */
  async #flush(): Promise<void> {
    if (!(await this.aggregate.flush())) this.aggregate.own.counter('server.dropped_stat_flushes').inc();
  }

  /** Something was served that may hold certificates. */
  certificatesChanged(): void {
    this.#soon ??= setTimeout(() => {
      this.#soon = undefined;
      daysUntilFirstExpiry(this.#surroundings.resources()).then(
        (days) => this.server.firstExpiry(days),
        () => {},
      );
    }, CERTIFICATES_SOON_MS).unref();
  }

  stop(): void {
    this.#watchdog.stop();
    for (const timer of this.#timers) clearInterval(timer);
    clearTimeout(this.#soon);
  }
}

interface BootstrapParts {
  readonly stats_config?: unknown;
  readonly layered_runtime?: unknown;
  /** A number, or its text. */
  readonly stats_server_version_override?: unknown;
  readonly admin?: { readonly profile_path?: string };
}

/** What istio_build says: the version of the mesh, `unknown` outside of one. */
function istioVersion({ node }: ProxyOptions): string {
  const version = node.metadata['ISTIO_VERSION'];
  return typeof version === 'string' && version !== ''
    ? version
    : (process.env['ISTIO_META_ISTIO_VERSION'] ?? 'unknown');
}

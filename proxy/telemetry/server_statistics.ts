/** Envoy's server.*, runtime.* and listener_manager.* statistics: made at the start, so that every name is there from the first scrape. */
import { VERSION } from '../version.ts';
import type { Gauge, Statistics } from './statistics.ts';

/** What Envoy shows when no certificate is there. */
const NEVER = 4_294_967_295;
const COUNTERS = [
  'server.debug_assertion_failures',
  'server.dropped_stat_flushes',
  'server.dynamic_unknown_fields',
  'server.envoy_bug_failures',
  'server.envoy_notifications',
  'server.static_unknown_fields',
  'server.wip_protos',
  'server.worker_restarts',
  'runtime.deprecated_feature_use',
  'runtime.load_error',
  'runtime.load_success',
  'runtime.override_dir_exists',
  'runtime.override_dir_not_exists',
  'cluster_manager.cluster_added',
  'cluster_manager.cluster_modified',
  'cluster_manager.cluster_removed',
  'cluster_manager.cluster_updated',
  'cluster_manager.cluster_updated_via_merge',
  'cluster_manager.update_merge_cancelled',
  'cluster_manager.update_out_of_merge_window',
  'listener_manager.listener_added',
  'listener_manager.listener_create_failure',
  'listener_manager.listener_create_success',
  'listener_manager.listener_in_place_updated',
  'listener_manager.listener_modified',
  'listener_manager.listener_removed',
  'listener_manager.listener_stopped',
];
const GAUGES = [
  'server.compilation_settings.fips_mode',
  'server.hot_restart_epoch',
  'server.parent_connections',
  'server.seconds_until_first_ocsp_response_expiring',
  'server.stats_recent_lookups',
  'cluster_manager.warming_clusters',
  'listener_manager.total_filter_chains_draining',
  // No thread is bound to a core.
  'listener_manager.workers_pinned',
  'listener_manager.total_listeners_draining',
  'listener_manager.total_listeners_warming',
  'runtime.admin_overrides_active',
  'runtime.deprecated_feature_seen_since_process_start',
  'runtime.num_keys',
  'runtime.num_layers',
];

export interface ServerFacts {
  readonly concurrency: number;
  /** Epoch ms. */
  readonly startedMs: number;
  readonly warmingClusters: number;
  readonly warmingListeners: number;
  readonly runtime: {
    readonly layerCount: number;
    readonly overrideCount: number;
    values(): ReadonlyMap<string, string>;
  };
}

export class ServerStatistics {
  readonly #facts: () => ServerFacts;
  readonly #gauge: (name: string) => Gauge;
  readonly #own: Statistics;

  constructor(own: Statistics, istioVersion: string, facts: () => ServerFacts) {
    this.#own = own;
    this.#facts = facts;
    this.#gauge = (name) => own.gauge(name);
    for (const name of COUNTERS) own.counter(name);
    for (const name of GAUGES) own.gauge(name);
    own.gauge('server.concurrency').set(facts().concurrency);
    own.gauge('server.state').set(2);
    own.gauge('server.live').set(0);
    own.gauge('server.version').set(Number.parseInt(VERSION.replaceAll('.', ''), 10));
    own.gauge('server.days_until_first_cert_expiring').set(NEVER);
    own.gauge('listener_manager.workers_started').set(0);
    own.gauge('istio_build', { component: 'proxy', tag: istioVersion }).set(1);
    own.counter('runtime.load_success').inc();
  }

  /** Everything a start waited for is there. */
  initialized(): void {
    this.#own.histogram('server.initialization_time_ms').record(Date.now() - this.#facts().startedMs);
  }

  /** A cluster or listener came, or replaced its last version. */
  served(type: string, replaced: boolean): void {
    if (type === 'cluster') {
      this.#own.counter(`cluster_manager.cluster_${replaced ? 'modified' : 'added'}`).inc();
      this.#own.counter('cluster_manager.cluster_updated').inc();
    } else if (type === 'listener') {
      this.#own.counter(`listener_manager.listener_${replaced ? 'modified' : 'added'}`).inc();
      this.#own.counter('listener_manager.listener_create_success').inc();
    }
  }

  dropped(type: string): void {
    if (type === 'cluster') this.#own.counter('cluster_manager.cluster_removed').inc();
    else if (type === 'listener') this.#own.counter('listener_manager.listener_removed').inc();
  }

  /** undefined: there is no certificate. */
  firstExpiry(days: number | undefined): void {
    this.#gauge('server.days_until_first_cert_expiring').set(days ?? NEVER);
  }

  /** Before somebody looks. */
  refresh(): void {
    const { startedMs, warmingClusters, warmingListeners, runtime } = this.#facts();
    const { heapUsed, heapTotal, external, rss } = process.memoryUsage();
    const set = (name: string, value: number): void => this.#gauge(name).set(value);
    set('server.uptime', Math.floor((Date.now() - startedMs) / 1000));
    set('server.memory_allocated', heapUsed + external);
    set('server.memory_heap_size', heapTotal + external);
    set('server.memory_physical_size', rss);
    set('cluster_manager.warming_clusters', warmingClusters);
    set('listener_manager.total_listeners_warming', warmingListeners);
    set('runtime.num_layers', runtime.layerCount);
    set('runtime.num_keys', runtime.values().size);
    set('runtime.admin_overrides_active', runtime.overrideCount > 0 ? 1 : 0);
  }
}

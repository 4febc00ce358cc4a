/** The control thread: configuration in, data threads told, admin and drain. Composition root. */
import { inspectResource, type Inspection } from '../config/build/check.ts';
import type { ConfigSource, Resource, ResourceChange, ResourceKey, UpdateResult } from '../config/resources.ts';
import { buildLoadAssignment } from '../config/build/endpoints.ts';
import { countResources } from './configuration_gauges.ts';
import { AdminAccess } from './admin/admin_access.ts';
import { type AdminLogs, adminLogs } from './admin/admin_logs.ts';
import { buildAdminLogs } from '../config/build/admin.ts';
import type { AdminState, ServerState } from './admin/state.ts';
import { ChangeSummary } from './change_summary.ts';
import { ConfigError } from './config_error.ts';
import { ConfigurationState, keyOf, parseKey } from './configuration_state.ts';
import { askSources } from './demanded.ts';
import { DataThreads } from './data_threads.ts';
import type { NameTableData } from './dns/name_table.ts';
import { type Batch, Distributor } from './distributor.ts';
import { DrainControl, hasDrainFlag } from './drain_control.ts';
import type { HeldResource } from './held_resource.ts';
import type { ListenerConfig } from './listener_config.ts';
import { ListenerOpener } from './listener_opener.ts';
import type { ListenAddress, ProxyOptions, RunningProxy } from './proxy_options.ts';
import { OwnPorts } from './own_ports.ts';
import { Observation } from './observation.ts';
import { KeptInspections } from './kept_inspections.ts';
import { keepMemorySmall } from './resident_memory.ts';
import { yieldToTraffic } from './background_threads.ts';
import { finishOpenWork, type ShutdownPolicy, shutdownPolicy } from './shutdown.ts';
import type { Aggregate } from './telemetry/aggregate.ts';
import { LogWriter } from './telemetry/log_writer.ts';
import { mostTalkative } from './telemetry/log.ts';
import type { ThreadDescription, ToThread } from './thread_messages.ts';
import type { ClusterConfig } from './upstream/cluster_config.ts';
import { parseOverload } from './overload/overload_config.ts';
import { OverloadManager } from './overload/overload_manager.ts';
import { HostHealth } from './upstream/host_health.ts';
import { Discovery } from './upstream/discovery.ts';
import { Slices } from './telemetry/slices.ts';
import { LazyExporters } from './telemetry/lazy_exporters.ts';

/** Starts listening as soon as the first configuration is there. Nothing is thrown: see `ready`. */
export function startProxy(options: ProxyOptions): RunningProxy {
  return new ControlThread(options).start();
}

/** Owner of endpoints that DNS gave: no source. */
const DNS = -1;

class ControlThread {
  readonly #options: ProxyOptions;
  readonly #observed: Observation;
  readonly #aggregate: Aggregate;
  readonly #writer: LogWriter;
  readonly #adminLogs: AdminLogs;
  readonly #threads: DataThreads;
  readonly #discovery: Discovery;
  readonly #hostHealth: HostHealth;
  readonly #overload: OverloadManager;
  readonly #configuration: ConfigurationState;
  readonly #distributor: Distributor;
  readonly #opener: ListenerOpener;
  readonly #drain: DrainControl;
  readonly #built = new KeptInspections(inspectResource);
  #summary = new ChangeSummary();
  readonly #addresses = new Map<string, ListenAddress>();
  readonly #ready = Promise.withResolvers<void>();
  /** The last word of a source was a complaint. */
  #failing = false;
  #state: ServerState = 'INITIALIZING';
  readonly #initialized = new Set<number>();
  readonly #onWarmed: (() => void)[] = [];
  /** Statistics that are no numbers. */
  readonly #texts = new Map<string, string>();
  #stopped: Promise<string> | undefined = undefined;
  #letMemoryGrow: () => void = () => {};
  readonly #own: OwnPorts;
  readonly #exporters: LazyExporters;
  readonly #hurry = new AbortController();

  constructor(options: ProxyOptions) {
    this.#options = options;
    this.#observed = new Observation(options, {
      threads: () => this.#threads,
      resources: () => this.#configuration.active(),
      warming: () => this.#configuration?.warming() ?? [],
    });
    this.#aggregate = this.#observed.aggregate;
    const { log } = options;
    this.#writer = new LogWriter(this.#aggregate.own, (path, error) =>
      log.log('error', 'access_log', `Cannot write ${path}: ${error.message}`),
    );
    const loggers = buildAdminLogs(adminOf(options.bootstrap));
    this.#adminLogs = adminLogs(loggers, this.#writer, this.#aggregate.own, options.accessLogFlushMs ?? 1000);
    this.#exporters = new LazyExporters({
      log,
      node: options.node,
      statistics: this.#aggregate.own,
      caller: {
        has: (name) => this.#configuration.newestVersion({ type: 'cluster', name }) !== undefined,
        call: (cluster, call) => this.#threads.call(cluster, call),
      },
    });
    this.#threads = new DataThreads({
      count: options.concurrency,
      log,
      aggregate: this.#aggregate,
      writer: this.#writer,
      accessLogFlushMs: options.accessLogFlushMs ?? 1000,
      node: options.node,
      statsConfig: options.statsConfig ?? (options.bootstrap as { stats_config?: unknown } | undefined)?.stats_config,
      drainTimeMs: options.drainTimeMs,
      poisonReadBuffers: options.poisonReadBuffers ?? false,
      runtime: () => this.#observed.runtime.values(),
      onSpans: (tracer, spans) => this.#exporters.addSpans(tracer, spans),
      onLogRecords: (config, records) => this.#exporters.addLogs(config, records),
      bringUp: (thread, post) => this.#bringUp(thread, post),
      demanded: (demand) => askSources(options.sources, demand, (message) => this.#threads.broadcast(message)),
      outlierFound: (cluster, address, cause) => this.#hostHealth.found(cluster, address, cause),
    });
    const { overloadConfig = parseOverload(undefined, undefined) } = options;
    this.#overload = new OverloadManager(overloadConfig, this.#threads, this.#aggregate.own, log);
    this.#hostHealth = HostHealth.over(this.#threads, this.#aggregate, log, buildLoadAssignment);
    this.#opener = new ListenerOpener({
      threads: options.concurrency,
      configOf: (resource) => this.#listenerConfig(resource),
      isConfigured: (name) => this.#configuration.newestVersion({ type: 'listener', name }) !== undefined,
      onListening: (name, address) => {
        if (address === undefined) this.#addresses.delete(name);
        else this.#addresses.set(name, address);
      },
      onFailure: (resource, error) => this.#listenerFailed(resource, error),
    });
    this.#drain = new DrainControl({
      strategy: options.drainStrategy ?? 'immediate',
      timeMs: options.drainTimeMs,
      broadcast: (message) => this.#threads.broadcast(message),
      closeSockets: (scope) => this.#opener.stop(scope),
    });
    this.#configuration = new ConfigurationState({
      serve: (resource, before) => {
        if (this.#configuration.ownerOf(resource) !== DNS) this.#summary.served(resource, before);
        this.#observed.server.served(resource.type, before !== undefined);
        this.#distributor.serve(resource);
      },
      drop: (resource) => {
        if (resource.type !== 'endpoint') this.#summary.dropped(resource);
        this.#observed.server.dropped(resource.type);
        this.#distributor.drop(resource);
      },
      subscribe: (dependency) =>
        dependency.byDns === true || options.sources.some((source) => source.subscribe?.(dependency) === true),
      unsubscribe: (dependency) => {
        if (dependency.byDns === true) return;
        for (const source of options.sources) source.unsubscribe?.(dependency);
      },
      setTimer: (delayMs, callback) => {
        const timer = setTimeout(() => {
          callback();
          this.#settled();
        }, delayMs).unref();
        return () => clearTimeout(timer);
      },
      onFetchTimeout: ({ type, name }) =>
        log.log('warning', 'config', `The ${type} "${name}" did not come in time: what names it is served without`),
      nowMs: Date.now,
    });
    this.#distributor = new Distributor({
      prepare: (batch) => this.#opener.prepare(batch),
      send: async (update) => {
        const failures = await this.#threads.update(update, (thread) => this.#opener.descriptors(update, thread));
        if (failures.length > 0) log.log('error', 'config', `A data thread could not apply an update: ${failures[0]}`);
      },
      distributed: (batch) => this.#distributed(batch),
      failed: (error) => {
        if (this.#state === 'INITIALIZING') this.#ready.reject(error);
        options.onUpdate?.({ summary: '', errors: [error.message] });
      },
    });
    this.#own = new OwnPorts(options, this.#aggregate.own);
    this.#discovery = Discovery.over(this.#aggregate.own, log, {
      accept: (resource) => this.#configuration.accept(DNS, { resource, dependencies: [] }),
      unknown: (name) => this.#configuration.remove({ type: 'endpoint', name }),
      settled: () => this.#settled(),
    });
  }

  start(): RunningProxy {
    this.#ready.promise.catch(() => {});
    this.#begin().catch((error: Error) => this.#ready.reject(error));
    return {
      addresses: this.#addresses,
      ready: this.#ready.promise,
      stop: (how, policy) => this.#stop(how, policy),
      statistics: this.#aggregate,
      threads: this.#threads,
      setNames: (names) => this.#setNames(names),
      reopenLogs: () => this.#writer.reopen(),
    };
  }

  async #begin(): Promise<void> {
    const { sources } = this.#options;
    await this.#threads.start();
    await this.#own.open(this.#adminState(), this.#addresses);
    sources.forEach((source, index) => {
      source.start({
        update: (change) => this.#update(index, source, change),
        unreadable: (reasons) => this.#unreadable(reasons),
        check: (resource) => {
          const found = this.#built.inspect(resource);
          return found instanceof ConfigError ? found.message : undefined;
        },
        runtimeLayer: (resource, layer) => {
          this.#observed.runtime.push(resource, layer);
          this.#runtimeChanged();
        },
        claimAddresses: (listeners, removed) => this.#claimAddresses(listeners, removed),
        refused: ({ json, reason, ...rest }) =>
          this.#configuration.refuse({ ...rest, details: reason, failedMs: Date.now(), json }),
        initialized: () => {
          this.#initialized.add(index);
          this.#settled();
        },
        whenWarmed: (callback) => {
          this.#onWarmed.push(callback);
          this.#settled();
        },
        statistics: {
          counter: (name) => this.#aggregate.own.counter(name),
          gauge: (name) => this.#aggregate.own.gauge(name),
          text: (name, value) => void this.#texts.set(name, value),
        },
      });
    });
  }

  // ── configuration ───────────────────────────────────────────────────────────────────────────────────────────────

  #update(index: number, source: ConfigSource, change: ResourceChange): UpdateResult {
    const own = this.#aggregate.own;
    const rejected: { type: Resource['type']; name: string; reason: string }[] = [];
    const changed: Resource[] = [];
    for (const resource of change.upserts) {
      if (this.#configuration.newestVersion(resource) === resource.version) continue;
      const found = change.checked === true ? undefined : this.#built.inspect(resource);
      if (!(found instanceof ConfigError)) changed.push(resource);
      else rejected.push({ type: resource.type, name: resource.name, reason: found.message });
    }
    if (rejected.length > 0) {
      own
        .counter('listener_manager.lds.update_rejected')
        .add(rejected.filter(({ type }) => type === 'listener').length);
      own.counter('cluster_manager.cds.update_rejected').add(rejected.filter(({ type }) => type === 'cluster').length);
      own.counter('config.update_rejected').inc();
      this.#failing = true;
      this.#options.onUpdate?.({ summary: '', errors: rejected.map(({ reason }) => reason) });
      if (change.atomic) {
        for (const resource of changed) this.#built.forget(resource);
        if (this.#state === 'INITIALIZING')
          this.#ready.reject(new Error(rejected.map(({ reason }) => reason).join('\n')));
        return { accepted: [], rejected };
      }
    }
    const removed = this.#removedBy(index, change);
    for (const resource of changed) {
      const { dependencies = [], cluster } = this.#built.of(resource) ?? {};
      this.#configuration.accept(index, { resource, dependencies });
      // It may warm until its names are known.
      if (cluster !== undefined) this.#discovery.watch(cluster);
      else if (resource.type === 'cluster') this.#discovery.forget(resource.name);
    }
    for (const gone of removed) {
      this.#configuration.remove(gone);
      if (gone.type === 'cluster') this.#discovery.forget(gone.name);
    }
    if (rejected.length === 0 && this.#failing) {
      this.#failing = false;
      if (this.#summary.text === '')
        this.#options.onUpdate?.({ summary: 'readable again, nothing changed', errors: [] });
    }
    if (source.announcesInitialized !== true) this.#initialized.add(index);
    own.counter('config.update_success').inc();
    // Beside a control plane, readiness looks at what that has pushed.
    if (change.atomic && !this.#options.sources.some(({ announcesInitialized }) => announcesInitialized === true)) {
      own.counter('cluster_manager.cds.update_success').inc();
      own.counter('listener_manager.lds.update_success').inc();
    }
    this.#settled();
    return { accepted: changed.map(({ type, name }) => ({ type, name })), rejected };
  }

  async #claimAddresses(
    listeners: readonly Resource[],
    removed: readonly string[],
  ): Promise<ReadonlyMap<string, string>> {
    const configs = listeners.flatMap((resource) => this.#built.of(resource)?.listener ?? []);
    const refused = await this.#opener.claim(configs, removed);
    for (const name of refused.keys()) this.#built.forget({ type: 'listener', name });
    return refused;
  }

  #unreadable(reasons: readonly string[]): void {
    this.#aggregate.own.counter('config.update_rejected').inc();
    this.#failing = true;
    this.#options.onUpdate?.({ summary: '', errors: reasons });
    if (this.#state === 'INITIALIZING') this.#ready.reject(new Error(reasons.join('\n')));
  }

  #removedBy(source: number, change: ResourceChange): readonly ResourceKey[] {
    if (!change.full) return change.removed;
    const given = new Set(change.upserts.map(keyOf));
    const gone = [...this.#configuration.ownedBy(source)].filter((key) => !given.has(key)).map(parseKey);
    return [...change.removed, ...gone];
  }

  /** Files start whole or not at all; what a control plane pushes is left out alone. */
  #listenerFailed(resource: HeldResource, error: Error): void {
    const owner = this.#options.sources[this.#configuration.ownerOf(resource) ?? DNS];
    if (this.#state === 'INITIALIZING' && owner?.announcesInitialized !== true) throw error;
    this.#aggregate.own.counter('listener_manager.listener_create_failure').inc();
    const { type, name, version } = resource;
    const details = `Cannot use listener "${name}": ${error.message}`;
    this.#configuration.refuse({ type, name, version, details, failedMs: Date.now(), json: undefined });
    this.#options.onUpdate?.({ summary: '', errors: [details] });
  }

  #listenerConfig(resource: HeldResource): ListenerConfig {
    const built = this.#built.of(resource)?.listener;
    const config = built ?? ((inspectResource(resource) as Inspection).listener as ListenerConfig);
    for (const warning of config.warnings) {
      this.#options.log.log('warning', 'config', `Listener "${config.name}": ${warning}`);
    }
    return config;
  }

  async #distributed({ changed, removed }: Batch): Promise<void> {
    let addressesChanged = false;
    for (const { type, name } of removed) {
      if (type === 'cluster') this.#hostHealth.drop(name);
      if (type === 'listener') addressesChanged = this.#addresses.delete(name) || addressesChanged;
    }
    await new Slices().each(changed, (resource) => {
      if (resource.type === 'endpoint') this.#hostHealth.endpoints(resource);
      if (resource.type === 'listener') addressesChanged = true;
      const built = this.#built.of(resource);
      // A newer version may have been checked meanwhile: that one stays until it is distributed itself.
      if (this.#configuration.newestVersion(resource) === resource.version) this.#built.forget(resource);
      if (built?.cluster !== undefined) this.#clusterServed(built.cluster);
      else if (built?.plainCluster !== undefined) this.#hostHealth.servePlain(resource.name, built.plainCluster);
    });
    this.#opener.settle();
    if (changed.some(({ type }) => type !== 'endpoint' && type !== 'route')) this.#observed.certificatesChanged();
    if (addressesChanged) this.#threads.broadcast(this.#ownPorts());
    countResources(this.#configuration, this.#aggregate.own);
    const summary = this.#summary.text;
    this.#summary = new ChangeSummary();
    this.#settled();
    if (summary !== '') this.#options.onUpdate?.({ summary, errors: [] });
  }

  #clusterServed(config: ClusterConfig): void {
    this.#hostHealth.serve(config, (name) => this.#configuration.get({ type: 'endpoint', name })?.json);
  }

  /** Tells who waits for that, when nothing warms. Ready when every source has given what a start waits for, and nothing of it warms or is on its way. */
  #settled(): void {
    if (this.#configuration.warmingCount === 0) for (const callback of this.#onWarmed.splice(0)) callback();
    if (this.#state !== 'INITIALIZING' || this.#initialized.size < this.#options.sources.length) return;
    if (this.#configuration.warmingCount > 0 || this.#own.waiting.length > 0) return;
    void this.#distributor.between(() => {
      if (this.#state !== 'INITIALIZING') return;
      this.#state = 'LIVE';
      if (hasDrainFlag(this.#options.bootstrap)) {
        this.#state = 'DRAINING';
        this.#drain.failHealth(true);
      }
      const own = this.#aggregate.own;
      own.gauge('server.state').set(0);
      own.gauge('server.live').set(1);
      own.gauge('listener_manager.workers_started').set(1);
      this.#observed.server.initialized();
      this.#ready.resolve();
      yieldToTraffic();
      this.#letMemoryGrow = keepMemorySmall();
    });
  }

  #ownPorts(): ToThread {
    return { kind: 'own-ports', ports: [...this.#addresses.values()].map(({ port }) => port) };
  }

  /** For a thread that takes a dead one's place: all there is, and its own descriptors again. */
  #bringUp(thread: number, post: (message: ToThread) => void): Promise<void> {
    return this.#distributor.between(() => {
      const update = this.#distributor.snapshot(this.#configuration.active());
      post(this.#ownPorts());
      for (const message of this.#hostHealth.verdicts()) post(message);
      post({ kind: 'update', update, listen: this.#opener.allDescriptors(thread) });
      for (const message of this.#drain.messages()) post(message);
    });
  }

  // ── admin, drain, end ───────────────────────────────────────────────────────────────────────────────────────────

  #adminState(): AdminState {
    const options = this.#options;
    return {
      options,
      access: new AdminAccess(adminOf(options.bootstrap), this.#adminLogs.logs),
      startedMs: this.#observed.startedMs,
      aggregate: this.#aggregate,
      tags: this.#observed.rules.tags,
      runtime: this.#observed.runtime,
      profilers: this.#observed.profilers,
      refreshStatistics: () => this.#observed.refresh(),
      unready: () => this.#unready(),
      resources: () => [...this.#configuration.active()],
      warming: () => [...this.#configuration.warming()],
      failed: () => [...this.#configuration.failed()],
      texts: () => this.#texts,
      listeners: () => [...this.#addresses].filter(([name]) => !OwnPorts.has(name)),
      describeClusters: () => this.#threads.describeClusters(),
      state: () => this.#state,
      failHealth: (failed) => {
        if (this.#stopped !== undefined || (this.#state !== 'LIVE' && this.#state !== 'DRAINING')) return;
        this.#state = failed ? 'DRAINING' : 'LIVE';
        this.#drain.failHealth(failed);
      },
      setLogLevel: (level, component) => {
        options.log.setLevel?.(level, component);
        this.#threads.broadcast({ kind: 'log-level', level: mostTalkative(options.log) });
      },
      runtimeChanged: () => this.#runtimeChanged(),
      reopenLogs: () => this.#writer.reopen(),
      drain: (scope, how) => this.#drain.drainListeners(scope, how),
      quit: () => options.onQuit?.(),
    };
  }

  #runtimeChanged(): void {
    this.#aggregate.own.counter('runtime.load_success').inc();
    this.#threads.broadcast({ kind: 'runtime', values: this.#observed.runtime.values() });
  }

  #setNames(names: NameTableData): void {
    this.#own.setNames(names);
    this.#settled();
  }

  /** What a start still waits for. */
  #unready(): string[] {
    if (this.#state !== 'INITIALIZING') return [];
    const sources = this.#options.sources.flatMap((_, index) =>
      this.#initialized.has(index) ? [] : [`source ${index}`],
    );
    return [
      ...sources,
      ...this.#own.waiting,
      ...[...this.#configuration.warming()].map(({ type, name }) => `${type} ${name}`),
    ];
  }

  /** `now` cuts the wait of a graceful one short. */
  #stop(how: 'graceful' | 'now', policy: Partial<ShutdownPolicy> = {}): Promise<string> {
    if (how === 'now') this.#hurry.abort();
    this.#stopped ??= this.#end(how, policy);
    return this.#stopped;
  }

  async #end(how: 'graceful' | 'now', policy: Partial<ShutdownPolicy>): Promise<string> {
    this.#state = 'DRAINING';
    this.#observed.stop();
    this.#aggregate.own.gauge('server.state').set(1);
    this.#letMemoryGrow();
    let cut = '';
    if (how === 'graceful') {
      const full = shutdownPolicy(policy, this.#options.drainTimeMs);
      this.#drain.begin('not outbound', Math.min(this.#options.drainTimeMs, full.deadlineMs));
      const describe = (): Promise<ThreadDescription[]> => this.#threads.describe();
      cut = await finishOpenWork(describe, () => this.#drain.stopAccepting('all'), full, this.#hurry.signal);
    }
    for (const source of this.#options.sources) source.stop();
    this.#discovery.stop();
    this.#hostHealth.stop();
    this.#overload.stop();
    await this.#threads.flush();
    await this.#exporters.flush();
    await this.#threads.terminate();
    this.#adminLogs.flush();
    await this.#writer.drain();
    this.#opener.close();
    await this.#own.close();
    return cut;
  }
}

/** Of an Envoy bootstrap. */
function adminOf(bootstrap: unknown): unknown {
  return ((bootstrap ?? {}) as { readonly admin?: unknown }).admin;
}

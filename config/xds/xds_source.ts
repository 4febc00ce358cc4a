/**
 * Resources pushed by control planes: over one aggregated stream (ADS), over streams of their own, from files that a
 * config source names. Clusters come first, listeners when no cluster warms any more, everything else when it is named.
 */
import { ConfigError } from '../../proxy/config_error.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import type { PushedLayer } from '../../proxy/runtime_layers.ts';
import {
  ALL_SCOPES,
  type ConfigSink,
  type ConfigSource,
  type Demand,
  type Dependency,
  type Json,
} from '../resources.ts';
import type { Resource, ResourceKey } from '../resources.ts';
import { Slices } from '../../proxy/telemetry/slices.ts';
import { type ClusterDefaults, withDefaults } from '../bootstrap.ts';
import { Backoff, STREAM_BACKOFF } from './backoff.ts';
import { Demands, withoutEmpty } from './demands.ts';
import { ConfigStream, type PushOutcome } from './config_stream.ts';
import type { Push } from './discovery_messages.ts';
import { PathSubscription } from './path_subscription.ts';
import { type KnownVersion, readResources } from './pushed_resources.ts';
import { PushChecks } from './push_checks.ts';
import { PushedScopes } from './pushed_scopes.ts';
import { PushedVirtualHosts } from './pushed_virtual_hosts.ts';
import {
  AGGREGATED,
  CLUSTER,
  LISTENER,
  NAME_TABLE,
  namedType,
  RUNTIME,
  VIRTUAL_HOST,
  type XdsType,
} from './resource_types.ts';
import { type ConfigServer, readConfigServer, type StaticClusters } from './servers.ts';
import { StartOrder } from './start_order.ts';
import { UpdateCounts } from './update_statistics.ts';

export interface XdsOptions {
  /** envoy.config.core.v3.Node. */
  readonly node: Json;
  readonly ads: ConfigServer | undefined;
  /** envoy.config.core.v3.ConfigSource each; undefined: none come. */
  readonly clusters: Json | undefined;
  readonly listeners: Json | undefined;
  /** Of the bootstrap: their values come before anything else is asked for. */
  readonly runtimeLayers?: readonly PushedLayer[];
  /** Of clusters that do not say it themselves. */
  readonly defaults?: ClusterDefaults;
  readonly staticClusters: StaticClusters;
  /** istio.networking.nds.v1.NameTable, where Istio's DNS proxy is on. */
  readonly onNameTable?: (table: Json) => void;
  log(level: 'debug' | 'info' | 'warning' | 'error', message: string): void;
  readonly random?: () => number;
}

const DEFAULT_FETCH_TIMEOUT_MS = 15_000;
/** Resources that are taken over together: below half a millisecond. */
const MAX_UPDATE = 50;
/** Bad resources whose last complaint is remembered. */
const MAX_COMPLAINTS = 1000;
/** Unknown fields that a warning has been given of. */
const MAX_WARNED_FIELDS = 1000;

export class XdsSource implements ConfigSource {
  readonly announcesInitialized = true;
  readonly #options: XdsOptions;
  readonly #slices = new Slices();
  #sink: ConfigSink | undefined = undefined;
  readonly #streams = new Map<string, ConfigStream>();
  readonly #paths = new Map<string, PathSubscription>();
  /** By type and name, what was taken over. */
  readonly #known = new Map<string, Map<string, KnownVersion>>();
  /** What is subscribed to: by key, how to let go, and where its statistics stand. */
  readonly #wanted = new Map<string, { readonly dependency: Dependency; unsubscribe(): void }>();
  readonly #order = new StartOrder({
    onTimeout: (type, name, timeoutMs) => {
      this.#counts(type).fetchTimeout();
      const what = name === '' ? `No ${type.resource}s were` : `The runtime layer "${name}" was not`;
      this.#options.log('warning', `${what} pushed within ${timeoutMs / 1000} s: starting without`);
    },
    onGiven: (type) => {
      const { listeners } = this.#options;
      if (type === RUNTIME) this.#subscribeFirst();
      if (type === CLUSTER && listeners !== undefined) {
        this.#sink?.whenWarmed(() => this.#subscribeAll(LISTENER, listeners));
      }
    },
    onAll: () => this.#sink?.initialized(),
  });
  readonly #demands = new Demands(() => this.#sink?.statistics.counter('pillion_on_demand_overflow_total').inc());
  readonly #scopes = new PushedScopes();
  readonly #virtualHosts = new PushedVirtualHosts();
  #hostsAreWanted = false;
  readonly #checks: PushChecks;
  /** Where scopes come from, once somebody wants them. */
  #scopeServer: string | undefined = undefined;
  readonly #warnedFields = new Set<string>();
  /** The last one of each resource that is bad now. */
  readonly #complaints = new Map<string, string>();
  #connected = 0;
  #isStarted = false;

  /** @throws {ConfigError} when a config source of the bootstrap cannot be used. */
  constructor(options: XdsOptions) {
    this.#options = options;
    this.#checks = new PushChecks({
      scopes: this.#scopes,
      virtualHosts: this.#virtualHosts,
      sink: () => this.#sink as ConfigSink,
      resolve: (source) => this.#resolve(source),
    });
    // What cannot be resolved is told before anything runs.
    for (const [field, source] of [
      ['dynamic_resources.cds_config', options.clusters],
      ['dynamic_resources.lds_config', options.listeners],
    ] as const) {
      if (source !== undefined) this.#resolve(new Fields(source, field));
    }
    for (const { source } of options.runtimeLayers ?? []) this.#resolve(source);
  }

  start(on: ConfigSink): void {
    this.#sink = on;
    this.#isStarted = true;
    on.statistics.gauge('control_plane.connected_state').set(0);
    const { clusters, listeners, onNameTable, ads, runtimeLayers = [] } = this.#options;
    if (clusters !== undefined) this.#order.await(CLUSTER, '', fetchTimeoutMs(clusters));
    if (listeners !== undefined) this.#order.await(LISTENER, '', fetchTimeoutMs(listeners));
    for (const { resource, source } of runtimeLayers) this.#subscribeLayer(resource, source);
    if (!this.#order.isAwaited(RUNTIME)) this.#subscribeFirst();
    if (onNameTable !== undefined && ads !== undefined) this.#stream(ads, NAME_TABLE, '').subscribeAll(NAME_TABLE);
    for (const stream of this.#streams.values()) stream.start();
    if (this.#order.isEmpty) on.initialized();
  }

  stop(): void {
    for (const stream of this.#streams.values()) stream.stop();
    for (const path of this.#paths.values()) path.stop();
    this.#order.stop();
    this.#demands.stop();
  }

  subscribe(dependency: Dependency): boolean {
    const { type, name } = dependency;
    let server: ConfigServer | string | undefined;
    try {
      server = this.#resolve(new Fields(dependency.configSource));
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      this.#options.log('warning', `The ${type} "${name}" cannot be subscribed to: ${error.message}`);
      return false;
    }
    if (server === undefined) return false;
    const xdsType = namedType(type);
    if (xdsType.isWildcard) return this.#subscribeScopes(dependency, server);
    if (typeof server === 'string') {
      const path = this.#path(server, xdsType);
      path.subscribe(name);
      this.#wanted.set(`${type} ${name}`, { dependency, unsubscribe: () => path.unsubscribe(name) });
    } else {
      // As Envoy: each secret of an SDS server on a stream of its own.
      const stream = this.#stream(server, xdsType, type === 'secret' ? name : '');
      stream.subscribe(xdsType, name);
      if (this.#isStarted) stream.start();
      this.#wanted.set(`${type} ${name}`, { dependency, unsubscribe: () => stream.unsubscribe(xdsType, name) });
    }
    return true;
  }

  unsubscribe({ type, name }: Dependency): void {
    const key = `${type} ${name}`;
    this.#wanted.get(key)?.unsubscribe();
    this.#wanted.delete(key);
    this.#known.get(namedType(type).url)?.delete(name);
    if (type === 'route') this.#virtualHosts.forget(name);
  }

  /** All of them, of one server: they stay subscribed to. */
  #subscribeScopes(dependency: Dependency, server: ConfigServer | string): boolean {
    const key = typeof server === 'string' ? server : `${server.address.target} ${server.protocol}`;
    if (this.#scopeServer !== undefined && this.#scopeServer !== key) {
      this.#options.log('warning', 'Scopes come from one server: those of another scoped_rds are not asked for');
      return false;
    }
    this.#scopeServer = key;
    this.#wanted.set(`scope ${dependency.name}`, { dependency, unsubscribe: () => {} });
    this.#subscribeAll(namedType('scope'), dependency.configSource);
    this.#scopes.wanted(dependency, (whole) => {
      this.#sink?.check(whole);
      this.#sink?.update({ upserts: [whole], removed: [], full: false, atomic: false, checked: true });
    });
    return true;
  }

  #completed(cluster: Json): Json {
    const { defaults } = this.#options;
    return defaults === undefined ? cluster : withDefaults(cluster, defaults);
  }

  /** @returns a server, or the path of a file. undefined: the source names nobody. @throws {ConfigError} */
  #resolve(source: Fields): ConfigServer | string | undefined {
    if (source.raw('resource_api_version') === 'V2') source.fail('resource_api_version', 'V2 is gone: use V3');
    const path = source.message('path_config_source')?.requiredString('path') ?? source.string('path');
    if (path !== undefined) return path;
    const api = source.message('api_config_source');
    if (api !== undefined) return readConfigServer(api, this.#options.staticClusters);
    return source.has('ads') || source.has('self') ? this.#options.ads : undefined;
  }

  /** Clusters; listeners follow when those are warm. */
  #subscribeFirst(): void {
    const { clusters, listeners } = this.#options;
    if (clusters !== undefined) this.#subscribeAll(CLUSTER, clusters);
    else if (listeners !== undefined) this.#subscribeAll(LISTENER, listeners);
  }

  #subscribeLayer(resource: string, source: Fields): void {
    const server = this.#resolve(source);
    if (server === undefined) {
      this.#options.log('warning', `The runtime layer "${resource}" stays empty: its rtds_config names no server`);
      return;
    }
    this.#order.await(RUNTIME, resource, fetchTimeoutMs(source.json));
    if (typeof server === 'string') this.#path(server, RUNTIME).subscribe(resource);
    else this.#stream(server, RUNTIME, '').subscribe(RUNTIME, resource);
  }

  #subscribeAll(type: XdsType, source: Json): void {
    const server = this.#resolve(new Fields(source));
    if (server === undefined) {
      this.#order.given(type, () => true);
      return;
    }
    if (typeof server === 'string') this.#path(server, type).subscribeAll();
    else {
      const stream = this.#stream(server, type, '');
      stream.subscribeAll(type);
      stream.start();
    }
  }

  #path(path: string, type: XdsType): PathSubscription {
    const key = `${path} ${type.url}`;
    let found = this.#paths.get(key);
    if (found === undefined) {
      found = new PathSubscription(path, type, {
        onPush: (push, names) => this.#pushed(type, push, names, path),
        onUnreadable: (reason) => {
          this.#counts(type).rejected();
          this.#options.log('error', reason);
          this.#order.given(type, () => true);
        },
      });
      this.#paths.set(key, found);
    }
    return found;
  }

  #stream(server: ConfigServer, type: XdsType, of: string): ConfigStream {
    const { address, protocol, isAggregated } = server;
    const isAds = server === this.#options.ads;
    const key = isAds ? 'ads' : `${address.target} ${protocol} ${isAggregated ? 'all' : `${type.url} ${of}`}`;
    let stream = this.#streams.get(key);
    if (stream === undefined) {
      stream = this.#open(server, isAds || isAggregated ? AGGREGATED[protocol] : type.methods[protocol]);
      this.#streams.set(key, stream);
    }
    return stream;
  }

  #open({ address, protocol }: ConfigServer, method: string): ConfigStream {
    const { log, node, random } = this.#options;
    let isConnected = false;
    return new ConfigStream({
      server: address,
      method,
      protocol,
      node,
      backoff: new Backoff({ ...STREAM_BACKOFF, random: random ?? Math.random }),
      onPush: (type, push, names) => this.#pushed(type, push, names, `xDS server ${address.name}`),
      onConnected: (connected, reason) => {
        if (connected !== isConnected) this.#connected += connected ? 1 : -1;
        isConnected = connected;
        this.#sink?.statistics.gauge('control_plane.connected_state').set(this.#connected > 0 ? 1 : 0);
        if (connected) log('info', `Connected to the config server ${address.name}`);
        else log('warning', `The stream to the config server ${address.name} is lost: ${reason}; what is served stays`);
      },
      onAsked: (type) => this.#counts(type).attempt(),
      onComplaint: (sentence) => log('warning', `Config server ${address.name}: ${sentence}`),
    });
  }

  demand(demand: Demand, onAbsent: () => void): boolean {
    const source = demand.kind === 'host' ? this.#virtualHosts.sourceOf(demand.routes) : demand.configSource;
    return this.#demands.demand(demand, source, (from, type) => this.#namedStream(from, type), onAbsent);
  }

  /** State of the world has no names beside everything. */
  #namedStream(source: Json, type: XdsType): ConfigStream | undefined {
    try {
      const server = this.#resolve(new Fields(source));
      const isServer = server !== undefined && typeof server !== 'string' && server.protocol === 'delta';
      return isServer ? this.#stream(server, type, '') : undefined;
    } catch (error) {
      if (error instanceof ConfigError) return undefined;
      throw error;
    }
  }

  async #pushed(type: XdsType, given: Push, names: ReadonlySet<string>, origin: string): Promise<PushOutcome> {
    const sink = this.#sink as ConfigSink;
    const push = withoutEmpty(given);
    if (push.controlPlane !== '') sink.statistics.text('control_plane.identifier', push.controlPlane);
    const known = this.#known.get(type.url) ?? new Map<string, KnownVersion>();
    this.#known.set(type.url, known);
    const read = await readResources(push, {
      type,
      names: type.isWildcard ? undefined : names,
      origin,
      known,
      check: (resource) => this.#checks.complaintOf(type, resource),
      complete: (json) => (type === CLUSTER ? this.#completed(json) : json),
      pause: () => (this.#slices.over ? this.#slices.next() : undefined),
    });
    this.#warnOfUnknown(read.unknownFields, origin);
    const contested = new Set(read.bad.map(({ name }) => name));
    const removed = (
      type.isWildcard && push.removed.length === 0 ? this.#missing(push, read, known) : push.removed
    ).filter((name) => !contested.has(name));
    const conflicting = await this.#checks.conflicting(type, read.changed, removed, origin);
    const bad = [...read.bad, ...conflicting];
    const isOut = new Set(conflicting.map(({ name }) => name));
    const good = read.good.filter(({ name }) => !isOut.has(name));
    for (const { name, version, reason, json } of bad) {
      this.#complainOf(type, name, reason);
      if (type.resource === undefined) continue;
      // A key that was refused is a key all the same: it is kept nowhere.
      const shown = type.resource === 'secret' ? undefined : json;
      sink.refused({ type: type.resource, name, version, reason, json: shown });
    }
    // Let go while it was read.
    const isWanted = ({ name }: { name: string }): boolean => !isOut.has(name) && (type.isWildcard || names.has(name));
    const wanted = read.changed.filter(isWanted);
    const changed = type.resource === 'route' ? this.#withHosts(wanted, removed) : wanted;
    const slices = this.#slices;
    await slices.each(read.hashes, ([name, version]) => {
      if (isWanted({ name })) known.set(name, version);
    });
    for (const name of removed) known.delete(name);
    if (this.#complaints.size > 0) {
      await slices.each(good, ({ name }) => this.#complaints.delete(`${type.message} ${name}`));
    }
    if (type === VIRTUAL_HOST) this.#give(this.#virtualHosts.update(changed, removed));
    else if (type === RUNTIME) {
      for (const { name, json } of changed) sink.runtimeLayer(name, (json['layer'] ?? {}) as Json);
      for (const name of removed) sink.runtimeLayer(name, {});
    } else if (type.resource === undefined) {
      for (const { json } of changed) this.#options.onNameTable?.(json);
    } else if (changed.length > 0 || removed.length > 0) {
      const { resource } = type;
      const gone = removed.map((name): ResourceKey => ({ type: resource, name }));
      // Some at a time: each is taken over by itself, and admin and health have their turns.
      for (let start = 0; start === 0 || start < changed.length; start += MAX_UPDATE) {
        const isLast = start + MAX_UPDATE >= changed.length;
        const upserts = changed.slice(start, start + MAX_UPDATE).filter(isWanted);
        sink.update({ upserts, removed: isLast ? gone : [], full: false, atomic: false, checked: true });
        if (!isLast && slices.over) await slices.next();
      }
    }
    this.#checks.taken(type, changed, removed);
    this.#demands.answered(type, push, removed);
    if (type.resource === 'scope') this.#scopes.taken(changed, removed, sink);
    await this.#count(type, push, bad, changed);
    const told = new Set([...good, ...bad].map(({ name }) => name).concat(removed));
    this.#order.given(type, (name) => name === '' || told.has(name));
    return { accepted: good.filter(isWanted), removed, errors: bad.map(({ reason }) => reason) };
  }

  /** Route configurations with their hosts; those whose hosts have not come are given later. */
  #withHosts(routes: readonly Resource[], removed: readonly string[]): Resource[] {
    for (const name of removed) this.#virtualHosts.forget(name);
    const given = this.#virtualHosts.take(routes);
    for (const route of routes) {
      if (PushedVirtualHosts.isMeant(route)) this.#subscribeHosts(route);
    }
    return given;
  }

  #subscribeHosts({ name, json }: Resource): void {
    const source = new Fields(json).requiredMessage('vhds').requiredMessage('config_source');
    if (!this.#hostsAreWanted) this.#subscribeAll(VIRTUAL_HOST, source.json);
    this.#hostsAreWanted = true;
    const timeoutMs = fetchTimeoutMs(source.json);
    if (timeoutMs > 0) setTimeout(() => this.#give(this.#virtualHosts.release(name)), timeoutMs).unref();
  }

  #give(routes: readonly Resource[]): void {
    if (routes.length === 0) return;
    this.#sink?.update({ upserts: routes, removed: [], full: false, atomic: false, checked: true });
  }

  /** The same complaint of the same resource once: servers send again what was refused. */
  #complainOf(type: XdsType, name: string, reason: string): void {
    const key = `${type.message} ${name}`;
    if (this.#complaints.get(key) === reason) return;
    if (this.#complaints.size >= MAX_COMPLAINTS) this.#complaints.clear();
    this.#complaints.set(key, reason);
    this.#options.log('warning', reason);
  }

  /** State of the world: what a push of everything leaves out is gone, unless it may be what could not be read. */
  #missing(
    push: Push,
    { good, bad }: { good: readonly { name: string }[]; bad: readonly { name: string }[] },
    known: ReadonlyMap<string, KnownVersion>,
  ): string[] {
    // A delta push names what is gone; it gives each resource a name.
    if (!push.isComplete || bad.some(({ name }) => name === '')) return [];
    const given = new Set([...good, ...bad].map(({ name }) => name));
    return [...known.keys()].filter((name) => !given.has(name));
  }

  async #count(
    type: XdsType,
    push: Push,
    bad: readonly { name: string }[],
    changed: readonly { name: string }[],
  ): Promise<void> {
    if (type.isWildcard) {
      const counts = this.#counts(type);
      if (bad.length > 0) counts.rejected();
      else counts.success(push.version);
      return;
    }
    for (const { name } of bad) this.#counts(type, name).rejected();
    await this.#slices.each(changed, ({ name }) => this.#counts(type, name).success(push.version));
  }

  #counts(type: XdsType, name = ''): UpdateCounts {
    const { statistics } = this.#sink as ConfigSink;
    return new UpdateCounts(this.#prefix(type, name), statistics);
  }

  /** Envoy's scopes. */
  #prefix(type: XdsType, name: string): string {
    if (type === RUNTIME) return 'runtime.';
    if (type === VIRTUAL_HOST) return 'vhds.';
    const { resource } = type;
    switch (resource) {
      case 'cluster':
        return 'cluster_manager.cds.';
      case 'listener':
        return 'listener_manager.lds.';
      case 'route':
        return this.#wanted.get(`route ${name}`)?.dependency.statPrefix ?? 'rds.';
      case 'endpoint':
        return name === '' ? 'cluster_manager.eds.' : `cluster.${name}.`;
      case 'secret':
        return name === '' ? 'sds.' : `sds.${name}.`;
      case 'scope':
        return this.#wanted.get(`scope ${ALL_SCOPES}`)?.dependency.statPrefix ?? 'scoped_rds.';
      case 'extension':
        return this.#wanted.get(`extension ${name}`)?.dependency.statPrefix ?? 'extension_config_discovery.';
      default:
        return 'istio.nds.';
    }
  }

  /** Once for each field; each time for the counter. */
  #warnOfUnknown(fields: ReadonlySet<string>, origin: string): void {
    if (fields.size === 0) return;
    this.#sink?.statistics.counter('server.dynamic_unknown_fields').add(fields.size);
    for (const field of fields) {
      if (this.#warnedFields.has(field) || this.#warnedFields.size >= MAX_WARNED_FIELDS) continue;
      this.#warnedFields.add(field);
      const [message, number] = field.split(' ');
      this.#options.log('warning', `${origin} sends field ${number} of ${message}, which this version does not know`);
    }
  }
}

/** initial_fetch_timeout of a config source; 0: for ever. */
function fetchTimeoutMs(source: Json): number {
  return new Fields(source).durationMs('initial_fetch_timeout') ?? DEFAULT_FETCH_TIMEOUT_MS;
}

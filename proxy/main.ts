/** The control thread: configuration in, data threads told, admin and drain. Composition root. */
import { writeFile } from 'node:fs/promises';
import { buildCluster } from '../config/build/cluster.ts';
import { checkResource } from '../config/build/check.ts';
import { buildListener } from '../config/build/listener.ts';
import type { Resource, ResourceChange, UpdateResult } from '../config/resources.ts';
import { startAdmin } from './admin/server.ts';
import type { AdminServer, AdminState, ServerState } from './admin/state.ts';
import { summarizeChange } from './change_summary.ts';
import { DataThreads } from './data_threads.ts';
import { encodeUpdate } from './distribution.ts';
import { ListeningSocket } from './net/listening_socket.ts';
import type { ListenAddress, ProxyOptions, RunningProxy } from './proxy_options.ts';
import { Aggregate } from './telemetry/aggregate.ts';
import { LogWriter } from './telemetry/log_writer.ts';
import { LOG_LEVELS } from './telemetry/log.ts';
import type { ToThread } from './thread_messages.ts';
import { Discovery } from './upstream/discovery.ts';
import { SystemResolver } from './upstream/dns.ts';

/** Starts listening as soon as the first configuration is there. Nothing is thrown: see `ready`. */
export function startProxy(options: ProxyOptions): RunningProxy {
  return new ControlThread(options).start();
}

const keyOf = ({ type, name }: { type: string; name: string }): string => `${type} ${name}`;
const DRAIN_POLL_MS = 50;

class ControlThread {
  readonly #options: ProxyOptions;
  readonly #aggregate = new Aggregate();
  readonly #writer: LogWriter;
  readonly #threads: DataThreads;
  readonly #discovery: Discovery;
  /** What is served, or on its way. */
  readonly #resources = new Map<string, Resource & { readonly updatedMs: number }>();
  readonly #sockets = new Map<string, ListeningSocket>();
  /** `type name` → which source gave it. */
  readonly #owners = new Map<string, number>();
  readonly #addresses = new Map<string, ListenAddress>();
  readonly #admins: AdminServer[] = [];
  readonly #ready = Promise.withResolvers<void>();
  #queue: Promise<void> = Promise.resolve();
  #epoch = 0;
  /** The last word of a source was a complaint. */
  #failing = false;
  #state: ServerState = 'INITIALIZING';
  #sourcesGiven = new Set<number>();
  #stopped: Promise<string> | undefined = undefined;

  constructor(options: ProxyOptions) {
    this.#options = options;
    const { log } = options;
    this.#writer = new LogWriter((path, error) =>
      log.log('error', 'access_log', `Cannot write ${path}: ${error.message}`),
    );
    this.#threads = new DataThreads({
      count: options.concurrency,
      log,
      aggregate: this.#aggregate,
      writer: this.#writer,
      accessLogFlushMs: options.accessLogFlushMs ?? 1000,
      node: options.node,
      poisonReadBuffers: options.poisonReadBuffers ?? false,
      bringUp: (thread) => this.#bringUp(thread),
    });
    this.#discovery = new Discovery(
      new SystemResolver(),
      (resource) => this.#enqueue([resource], [], ''),
      (cluster, message) => {
        this.#aggregate.own.counter(`cluster.${cluster}.update_failure`).inc();
        log.log('warning', 'dns', `Cluster "${cluster}": ${message}`);
      },
    );
  }

  start(): RunningProxy {
    this.#ready.promise.catch(() => {});
    this.#begin().catch((error: Error) => this.#ready.reject(error));
    return {
      addresses: this.#addresses,
      ready: this.#ready.promise,
      stop: (how, deadlineMs) => (this.#stopped ??= this.#stop(how, deadlineMs ?? this.#options.drainTimeMs)),
      statistics: this.#aggregate,
      threads: this.#threads,
      reopenLogs: () => this.#writer.reopen(),
    };
  }

  async #begin(): Promise<void> {
    const { admin, status, metrics, adminAddressPath, sources } = this.#options;
    const own = this.#aggregate.own;
    own.gauge('server.concurrency').set(this.#options.concurrency);
    own.gauge('server.state').set(2);
    own.gauge('listener_manager.workers_started').set(0);
    await this.#threads.start();
    const state = this.#adminState();
    for (const [name, address, kind] of [
      ['admin', admin, 'admin'],
      ['status', status, 'status'],
      ['metrics', metrics, 'metrics'],
    ] as const) {
      if (address === undefined) continue;
      const server = await startAdmin(state, address, kind);
      this.#admins.push(server);
      this.#addresses.set(name, server.address);
      if (name === 'admin' && adminAddressPath !== undefined) {
        await writeFile(adminAddressPath, `${server.address.ip}:${server.address.port}`);
      }
    }
    sources.forEach((source, index) => {
      source.start({
        update: (change) => this.#update(index, change),
        unreadable: (reasons) => this.#unreadable(reasons),
      });
    });
  }

  // ── configuration ───────────────────────────────────────────────────────────────────────────────────────────────

  #update(source: number, change: ResourceChange): UpdateResult {
    const own = this.#aggregate.own;
    const rejected: { type: Resource['type']; name: string; reason: string }[] = [];
    const changed: Resource[] = [];
    for (const resource of change.upserts) {
      if (this.#resources.get(keyOf(resource))?.version === resource.version) continue;
      const error = checkResource(resource);
      if (error === undefined) changed.push(resource);
      else rejected.push({ type: resource.type, name: resource.name, reason: error.message });
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
        if (this.#state === 'INITIALIZING')
          this.#ready.reject(new Error(rejected.map(({ reason }) => reason).join('\n')));
        return { accepted: [], rejected };
      }
    }
    const removed = this.#removedBy(source, change);
    const before = new Map(this.#resources);
    const nowMs = Date.now();
    for (const { type, name } of removed) {
      this.#resources.delete(keyOf({ type, name }));
      this.#owners.delete(keyOf({ type, name }));
    }
    for (const resource of changed) {
      this.#resources.set(keyOf(resource), { ...resource, updatedMs: nowMs });
      this.#owners.set(keyOf(resource), source);
    }
    const difference = summarizeChange(before, this.#resources);
    const summary = difference === '' && this.#failing ? 'readable again, nothing changed' : difference;
    if (rejected.length === 0) this.#failing = false;
    this.#sourcesGiven.add(source);
    this.#enqueue(changed, removed, summary);
    own.counter('config.update_success').inc();
    own.counter('cluster_manager.cds.update_success').inc();
    own.counter('listener_manager.lds.update_success').inc();
    return { accepted: changed.map(({ type, name }) => ({ type, name })), rejected };
  }

  #unreadable(reasons: readonly string[]): void {
    this.#aggregate.own.counter('config.update_rejected').inc();
    this.#failing = true;
    this.#options.onUpdate?.({ summary: '', errors: reasons });
    if (this.#state === 'INITIALIZING') this.#ready.reject(new Error(reasons.join('\n')));
  }

  #removedBy(source: number, change: ResourceChange): { type: Resource['type']; name: string }[] {
    const removed = [...change.removed];
    if (change.full) {
      const given = new Set(change.upserts.map(keyOf));
      for (const [key, owner] of this.#owners) {
        const resource = this.#resources.get(key);
        if (owner === source && !given.has(key) && resource !== undefined) removed.push(resource);
      }
    }
    return removed.map(({ type, name }) => ({ type, name }));
  }

  /** One update after the other; each is on all threads before the next one goes. */
  #enqueue(
    changed: readonly Resource[],
    removed: readonly { type: Resource['type']; name: string }[],
    summary: string,
  ): void {
    this.#queue = this.#queue
      .then(() => this.#distribute(changed, removed, summary))
      .catch((error: Error) => {
        if (this.#state === 'INITIALIZING') this.#ready.reject(error);
        this.#options.onUpdate?.({ summary: '', errors: [error.message] });
      });
  }

  async #distribute(
    changed: readonly Resource[],
    removed: readonly { type: Resource['type']; name: string }[],
    summary: string,
  ): Promise<void> {
    const opened = await this.#openSockets(changed);
    const update = await encodeUpdate(++this.#epoch, changed, removed);
    const failures = await this.#threads.update(update, (thread) => this.#descriptors(opened, thread));
    this.#closeSockets(removed);
    this.#tellOwnPorts();
    for (const { type, name } of removed) if (type === 'cluster') this.#discovery.forget(name);
    for (const { type, json, origin } of changed)
      if (type === 'cluster') this.#discovery.watch(buildCluster(json, origin));
    this.#countGauges();
    if (failures.length > 0)
      this.#options.log.log('error', 'config', `A data thread could not apply an update: ${failures[0]}`);
    if (this.#state === 'INITIALIZING' && this.#sourcesGiven.size === this.#options.sources.length) {
      this.#state = 'LIVE';
      this.#aggregate.own.gauge('server.state').set(0);
      this.#aggregate.own.gauge('server.live').set(1);
      this.#aggregate.own.gauge('listener_manager.workers_started').set(1);
      this.#ready.resolve();
    }
    if (summary !== '') this.#options.onUpdate?.({ summary, errors: [] });
  }

  /** Opens what is new. @returns the names of listeners whose sockets threads have to take. */
  async #openSockets(changed: readonly Resource[]): Promise<ReadonlyMap<string, readonly ListeningSocket[]>> {
    const opened = new Map<string, readonly ListeningSocket[]>();
    for (const resource of changed) {
      if (resource.type !== 'listener') continue;
      const config = buildListener(resource.json, resource.origin);
      if (!config.bindToPort) continue;
      const keys = config.addresses.map(({ ip, port }) => `${config.name} ${ip} ${port}`);
      const known = [...this.#sockets.keys()].filter((key) => key.startsWith(`${config.name} `));
      if (keys.length === known.length && keys.every((key) => this.#sockets.has(key))) continue;
      const sockets: ListeningSocket[] = [];
      for (const [index, key] of keys.entries()) {
        const { ip, port } = config.addresses[index] as ListenAddress;
        const socket = this.#sockets.get(key) ?? (await ListeningSocket.open(ip, port, this.#options.concurrency));
        this.#sockets.set(key, socket);
        sockets.push(socket);
      }
      for (const key of known) {
        if (keys.includes(key)) continue;
        this.#sockets.get(key)?.close();
        this.#sockets.delete(key);
      }
      opened.set(resource.name, sockets);
      const [first] = sockets;
      if (first !== undefined) this.#addresses.set(config.name, { ip: first.ip, port: first.port });
    }
    return opened;
  }

  #closeSockets(removed: readonly { type: string; name: string }[]): void {
    for (const { type, name } of removed) {
      if (type !== 'listener') continue;
      for (const [key, socket] of [...this.#sockets]) {
        if (!key.startsWith(`${name} `)) continue;
        socket.close();
        this.#sockets.delete(key);
      }
      this.#addresses.delete(name);
    }
  }

  #descriptors(
    sockets: ReadonlyMap<string, readonly ListeningSocket[]>,
    thread: number,
  ): ReadonlyMap<string, readonly (number | undefined)[]> {
    return new Map([...sockets].map(([name, list]) => [name, list.map((socket) => socket.duplicate(thread))]));
  }

  #tellOwnPorts(): void {
    const ports = [...this.#addresses.values()].map(({ port }) => port);
    this.#threads.broadcast({ kind: 'own-ports', ports });
  }

  /** For a thread that takes a dead one's place: all there is, and its own descriptors again. */
  async #bringUp(thread: number): Promise<ToThread[]> {
    await this.#queue;
    const update = await encodeUpdate(++this.#epoch, [...this.#resources.values()], []);
    const byListener = new Map<string, ListeningSocket[]>();
    for (const [key, socket] of this.#sockets) {
      const name = key.slice(0, key.lastIndexOf(' ', key.lastIndexOf(' ') - 1));
      byListener.set(name, [...(byListener.get(name) ?? []), socket]);
    }
    const ports = [...this.#addresses.values()].map(({ port }) => port);
    return [
      { kind: 'own-ports', ports },
      { kind: 'update', update, listen: this.#descriptors(byListener, thread) },
    ];
  }

  #countGauges(): void {
    const count = (type: string): number =>
      [...this.#resources.values()].filter((resource) => resource.type === type).length;
    const own = this.#aggregate.own;
    own.gauge('cluster_manager.active_clusters').set(count('cluster'));
    own.gauge('listener_manager.total_listeners_active').set(count('listener'));
  }

  // ── admin, drain, end ───────────────────────────────────────────────────────────────────────────────────────────

  #adminState(): AdminState {
    const { options } = { options: this.#options };
    return {
      options,
      startedMs: Date.now(),
      aggregate: this.#aggregate,
      resources: () => [...this.#resources.values()],
      listeners: () => [...this.#addresses].filter(([name]) => !['admin', 'status', 'metrics'].includes(name)),
      describe: () => this.#threads.describe(),
      state: () => this.#state,
      failHealth: (failed) => {
        if (this.#state === 'LIVE' || this.#state === 'DRAINING') this.#state = failed ? 'DRAINING' : 'LIVE';
      },
      setLogLevel: (level, component) => {
        options.log.setLevel?.(level, component);
        // Threads filter by the most talkative level there is; the rest is filtered here.
        const levels = [...(options.log.levels?.().values() ?? [])];
        const talkative = LOG_LEVELS.find((name) => levels.includes(name)) ?? level;
        this.#threads.broadcast({ kind: 'log-level', level: talkative });
      },
      drain: (stopAccepting) => this.#threads.broadcast({ kind: 'drain', stopAccepting }),
      quit: () => options.onQuit?.(),
    };
  }

  async #stop(how: 'graceful' | 'now', deadlineMs: number): Promise<string> {
    this.#state = 'DRAINING';
    this.#aggregate.own.gauge('server.state').set(1);
    for (const source of this.#options.sources) source.stop();
    this.#discovery.stop();
    let cut = '';
    if (how === 'graceful') {
      this.#threads.broadcast({ kind: 'drain', stopAccepting: false });
      cut = await this.#drained(deadlineMs);
    }
    await this.#threads.flush();
    await this.#threads.terminate();
    await this.#writer.drain();
    for (const socket of this.#sockets.values()) socket.close();
    await Promise.all(this.#admins.map((server) => server.close()));
    return cut;
  }

  /** Waits until no stream is open. @returns what is still open at the deadline. */
  async #drained(deadlineMs: number): Promise<string> {
    const untilMs = performance.now() + deadlineMs;
    for (;;) {
      const descriptions = await this.#threads.describe();
      const clients = descriptions.flatMap(({ activeClients }) => activeClients);
      if (clients.length === 0) return '';
      if (performance.now() >= untilMs)
        return `${clients.length} connections with open requests, of ${clients.slice(0, 5).join(', ')}`;
      await new Promise((resolve) => setTimeout(resolve, DRAIN_POLL_MS));
    }
  }
}

/** The live configuration of one data thread: one cell a resource, replaced alone, built when it is first used. */
import { buildCluster } from '../config/build/cluster.ts';
import { buildLoadAssignment } from '../config/build/endpoints.ts';
import { buildListener } from '../config/build/listener.ts';
import { buildRouteTable } from '../config/build/route_configuration.ts';
import { perFilterConfig } from '../config/build/extensions.ts';
import { buildScope } from '../config/build/scope.ts';
import { buildSecret } from '../config/build/tls_secret.ts';
import { ALL_SCOPES } from '../config/resources.ts';
import { PackedResource, type Update } from './distribution.ts';
import type { ListenerConfig } from './listener_config.ts';
import { type FilterMaker, ListenerRuntime } from './listener.ts';
import { ClusterCells } from './cluster_cells.ts';
import { ScopeCells } from './scope_cells.ts';
import { type SocketAddress, socketAddress } from './net/connection_info.ts';
import type { SecretCell } from './net/tls/secrets.ts';
import type { Secret } from './net/tls/tls_config.ts';
import type { RouteTable } from './router/route.ts';
import type { ThreadServices } from './thread_services.ts';
import type { Cluster } from './upstream/cluster.ts';
import type { ClusterLookup } from './upstream/cluster_lookup.ts';
import { ClusterRuntime } from './upstream/cluster_runtime.ts';

/** Where a listener of this thread listens: by address, a descriptor or (undefined) an address to open. */
export type ListenTargets = ReadonlyMap<string, readonly (number | undefined)[]>;

interface PackedSecret {
  readonly version: string;
  readonly packed: PackedResource;
  secret: Secret | undefined;
}

interface RouteCell {
  packed: PackedResource;
  table: RouteTable | undefined;
}

interface ListenerCell {
  readonly runtime: ListenerRuntime;
  packed: PackedResource;
  /** Names of extensions that it was built with, there or not. */
  extensions: ReadonlySet<string>;
}

export class Cells implements ClusterLookup {
  readonly #clusters = new ClusterCells({
    config: buildCluster,
    runtime: (config) => new ClusterRuntime(config, this.#services as ThreadServices),
    assignment: buildLoadAssignment,
    inflated: (by) => this.#inflated(by),
  });
  readonly #routes = new Map<string, RouteCell>();
  readonly #scopes = new ScopeCells(buildScope, (name) => this.routes.get(name));
  readonly #secrets = new Map<string, PackedSecret>();
  readonly #listeners = new Map<string, ListenerRuntime>();
  readonly #listenerCells = new Map<string, ListenerCell>();
  /** Configurations of filters that come by ECDS. */
  readonly #extensions = new Map<string, PackedResource>();
  /** By address; undefined: to be made anew. */
  #byAddress: Map<string, ListenerRuntime> | undefined = undefined;
  #services: ThreadServices | undefined = undefined;
  #maker: FilterMaker | undefined = undefined;

  /** `services` refer back to these cells, so they come second. */
  bind(services: ThreadServices, maker: FilterMaker): void {
    this.#services = services;
    this.#maker = maker;
  }

  get(name: string): Cluster | undefined {
    return this.#clusters.get(name);
  }

  /** undefined: no traffic has asked for it. */
  built(name: string): ClusterRuntime | undefined {
    return this.#clusters.built(name);
  }

  readonly routes = {
    get: (name: string): RouteTable | undefined => {
      const cell = this.#routes.get(name);
      if (cell === undefined) return undefined;
      cell.table ??= buildRouteTable(cell.packed.decode(), {
        origin: cell.packed.origin,
        filterConfig: perFilterConfig,
      });
      return cell.table;
    },
  };

  /** Route tables by the key of a request. */
  get scopes(): { get(key: string): RouteTable | undefined } {
    return this.#scopes;
  }

  /** Read by TLS contexts at each new connection: a secret that changes holds for the next one. */
  readonly secrets = {
    get: (name: string): SecretCell | undefined => {
      const cell = this.#secrets.get(name);
      if (cell === undefined) return undefined;
      cell.secret ??= buildSecret(cell.packed.decode());
      return cell as SecretCell;
    },
  };

  get listeners(): ReadonlyMap<string, ListenerRuntime> {
    return this.#listeners;
  }

  /** Clusters that traffic has asked for. */
  builtClusters(): Iterable<ClusterRuntime> {
    return this.#clusters.allBuilt();
  }

  /** One synchronous task. Resolves when new addresses are listened on, and every cluster is built of the newest. */
  apply(update: Update, targets: ListenTargets): Promise<unknown> {
    const listening: Promise<unknown>[] = [];
    for (const entry of update.upserts) {
      const packed = new PackedResource(update.memories[entry.memory] as SharedArrayBuffer, entry);
      switch (entry.type) {
        case 'cluster':
          this.#clusters.set(packed);
          break;
        case 'endpoint':
          this.#clusters.setEndpoints(packed);
          break;
        case 'route':
          this.#routes.set(packed.name, { packed, table: undefined });
          break;
        case 'listener':
          listening.push(this.#replaceListener(packed, targets.get(packed.name) ?? []));
          break;
        case 'secret':
          this.#secrets.set(packed.name, { version: packed.version, packed, secret: undefined });
          break;
        case 'scope':
          if (packed.name !== ALL_SCOPES) this.#scopes.set(packed);
          break;
        case 'extension':
          this.#extensions.set(packed.name, packed);
          this.#rebuildUsersOf(packed.name);
          break;
        default:
          entry.type satisfies never;
      }
    }
    // Make before break: what took its place is there already.
    for (const { type, name } of update.removed) this.#remove(type, name);
    return Promise.all([...listening, this.#clusters.refresh()]);
  }

  #remove(type: string, name: string): void {
    if (type === 'cluster') this.#clusters.delete(name);
    else if (type === 'endpoint') this.#clusters.deleteEndpoints(name);
    else if (type === 'route') this.#routes.delete(name);
    else if (type === 'secret') this.#secrets.delete(name);
    else if (type === 'extension') this.#extensions.delete(name);
    else if (type === 'scope') this.#scopes.delete(name);
    else if (type === 'listener') {
      const listener = this.#listeners.get(name);
      this.#listeners.delete(name);
      this.#listenerCells.delete(name);
      this.#byAddress = undefined;
      listener?.stopAccepting();
      listener?.drain();
    }
  }

  /** Envoy's name for clusters that a thread has made. */
  #inflated(by: 1 | -1): void {
    const { statistics, threadIndex } = this.#services as ThreadServices;
    const gauge = statistics.gauge(`thread_local_cluster_manager.worker_${threadIndex}.clusters_inflated`);
    if (by > 0) gauge.inc();
    else gauge.dec();
  }

  /** The listener of an address, with a port of its own or without; that of any address with this port if there is none. */
  #listenerAt({ ip, port, text }: SocketAddress): ListenerRuntime | undefined {
    if (this.#byAddress === undefined) {
      this.#byAddress = new Map();
      for (const listener of this.#listeners.values()) {
        for (const address of listener.config.addresses) {
          this.#byAddress.set(socketAddress(address.ip, address.port).text, listener);
          const v4 = `0.0.0.0:${address.port}`;
          if (address.ipv4Compat === true && address.ip === '::' && !this.#byAddress.has(v4)) {
            this.#byAddress.set(v4, listener);
          }
        }
      }
    }
    return this.#byAddress.get(text) ?? this.#byAddress.get(ip.includes(':') ? `[::]:${port}` : `0.0.0.0:${port}`);
  }

  #replaceListener(packed: PackedResource, descriptors: readonly (number | undefined)[]): Promise<unknown> {
    const { config, extensions } = this.#buildListener(packed);
    this.#byAddress = undefined;
    const known = this.#listenerCells.get(packed.name);
    if (known !== undefined) {
      known.packed = packed;
      known.extensions = extensions;
      known.runtime.update(config);
      if (descriptors.length === 0) return Promise.resolve();
      // New addresses: the old ones stop, their connections go on.
      known.runtime.stopAccepting();
      return Promise.all(descriptors.map((fd, index) => known.runtime.listen(fd, index)));
    }
    const listener = new ListenerRuntime(
      config,
      this.#services as ThreadServices,
      this.#maker as FilterMaker,
      (address) => this.#listenerAt(address),
    );
    this.#listeners.set(packed.name, listener);
    this.#listenerCells.set(packed.name, { runtime: listener, packed, extensions });
    if (!config.bindToPort) return Promise.resolve();
    return Promise.all(descriptors.map((fd, index) => listener.listen(fd, index)));
  }

  #buildListener(packed: PackedResource): { config: ListenerConfig; extensions: ReadonlySet<string> } {
    const extensions = new Set<string>();
    const config = buildListener(packed.decode(), packed.origin, (name) => {
      extensions.add(name);
      return this.#extensions.get(name)?.decode();
    });
    return { config, extensions };
  }

  /** Open connections go on: their next streams have the new configuration. */
  #rebuildUsersOf(extension: string): void {
    for (const cell of this.#listenerCells.values()) {
      if (cell.extensions.has(extension)) cell.runtime.update(this.#buildListener(cell.packed).config);
    }
  }
}

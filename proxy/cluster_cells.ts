/**
 * The clusters of one data thread: built when traffic first asks for them. What changes of a built one is taken over when
 * it is next asked for, or soon after, a little at a time: a push of many costs no request more than its own cluster.
 */
import type { Json } from '../config/resources.ts';
import type { PackedResource } from './distribution.ts';
import { Slices } from './telemetry/slices.ts';
import type { Cluster } from './upstream/cluster.ts';
import type { ClusterConfig } from './upstream/cluster_config.ts';
import type { ClusterLookup } from './upstream/cluster_lookup.ts';
import type { ClusterRuntime } from './upstream/cluster_runtime.ts';
import type { LoadAssignment } from './upstream/load_assignment.ts';

export interface ClusterBuilders {
  config(json: Json, origin: string): ClusterConfig;
  runtime(config: ClusterConfig): ClusterRuntime;
  assignment(json: Json): LoadAssignment;
  /** One was built, or closed. */
  inflated(by: 1 | -1): void;
}

interface ClusterCell {
  packed: PackedResource;
  /** undefined: no traffic has asked for it. */
  runtime: ClusterRuntime | undefined;
  /** What the runtime was built from. */
  builtFrom: PackedResource | undefined;
  hasNewEndpoints: boolean;
}

export class ClusterCells implements ClusterLookup {
  readonly #builders: ClusterBuilders;
  readonly #cells = new Map<string, ClusterCell>();
  readonly #endpoints = new Map<string, PackedResource>();
  /** Which built clusters want a load assignment: by its name. */
  readonly #wantEndpoints = new Map<string, Set<ClusterRuntime>>();
  /** Built, and not of the newest configuration. */
  readonly #stale = new Set<ClusterCell>();
  #refreshing: Promise<void> | undefined = undefined;

  constructor(builders: ClusterBuilders) {
    this.#builders = builders;
  }

  get(name: string): Cluster | undefined {
    const cell = this.#cells.get(name);
    if (cell === undefined) return undefined;
    if (cell.runtime === undefined) this.#build(cell);
    else if (this.#stale.size > 0 && this.#stale.has(cell)) this.#refresh(cell);
    return cell.runtime;
  }

  /** undefined: no traffic has asked for it. */
  built(name: string): ClusterRuntime | undefined {
    return this.#cells.get(name)?.runtime;
  }

  *allBuilt(): Generator<ClusterRuntime> {
    for (const { runtime } of this.#cells.values()) if (runtime !== undefined) yield runtime;
  }

  set(packed: PackedResource): void {
    const cell = this.#cells.get(packed.name);
    if (cell === undefined) {
      this.#cells.set(packed.name, { packed, runtime: undefined, builtFrom: undefined, hasNewEndpoints: false });
    } else if (cell.packed.version !== packed.version) {
      cell.packed = packed;
      if (cell.runtime !== undefined) this.#stale.add(cell);
    }
  }

  delete(name: string): void {
    const cell = this.#cells.get(name);
    if (cell === undefined) return;
    this.#cells.delete(name);
    this.#stale.delete(cell);
    if (cell.runtime !== undefined) this.#close(cell.runtime);
  }

  setEndpoints(packed: PackedResource): void {
    this.#endpoints.set(packed.name, packed);
    for (const { name } of this.#wantEndpoints.get(packed.name) ?? []) {
      const cell = this.#cells.get(name);
      if (cell === undefined) continue;
      cell.hasNewEndpoints = true;
      this.#stale.add(cell);
    }
  }

  deleteEndpoints(name: string): void {
    this.#endpoints.delete(name);
  }

  /** Brings what is built up to date, in slices. Resolves when nothing is stale. */
  refresh(): Promise<void> {
    if (this.#stale.size === 0) return Promise.resolve();
    this.#refreshing ??= this.#refreshAll().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #refreshAll(): Promise<void> {
    const slices = new Slices();
    for (const cell of this.#stale) {
      this.#refresh(cell);
      if (slices.over) await slices.next();
    }
  }

  #refresh(cell: ClusterCell): void {
    this.#stale.delete(cell);
    const old = cell.runtime;
    if (old === undefined) return;
    if (cell.builtFrom !== cell.packed) {
      // The new one is opened first: breaker slots that both use are kept.
      this.#build(cell);
      this.#close(old);
    } else if (cell.hasNewEndpoints) {
      cell.hasNewEndpoints = false;
      const endpoints = this.#endpoints.get(endpointsOf(old.config) ?? '');
      if (endpoints !== undefined) old.updateEndpoints(this.#builders.assignment(endpoints.decode()));
    }
  }

  #build(cell: ClusterCell): void {
    const { packed } = cell;
    const config = this.#builders.config(packed.decode(), packed.origin);
    const runtime = this.#builders.runtime(config);
    this.#builders.inflated(1);
    cell.runtime = runtime;
    cell.builtFrom = packed;
    cell.hasNewEndpoints = false;
    const wanted = endpointsOf(config);
    if (wanted === undefined) return;
    const set = this.#wantEndpoints.get(wanted) ?? new Set();
    set.add(runtime);
    this.#wantEndpoints.set(wanted, set);
    const endpoints = this.#endpoints.get(wanted);
    if (endpoints !== undefined) runtime.updateEndpoints(this.#builders.assignment(endpoints.decode()));
    else if (config.inlineAssignment !== undefined && config.discovery.kind === 'eds') {
      runtime.updateEndpoints(config.inlineAssignment);
    }
  }

  #close(runtime: ClusterRuntime): void {
    const wanted = endpointsOf(runtime.config);
    const set = wanted === undefined ? undefined : this.#wantEndpoints.get(wanted);
    if (wanted !== undefined && set?.delete(runtime) === true && set.size === 0) this.#wantEndpoints.delete(wanted);
    runtime.close();
    this.#builders.inflated(-1);
  }
}

/** The load assignment that a cluster's hosts come from: DNS clusters get what was resolved under their own name. */
function endpointsOf({ name, discovery }: ClusterConfig): string | undefined {
  if (discovery.kind === 'eds') return discovery.serviceName;
  return discovery.kind === 'strict_dns' || discovery.kind === 'logical_dns' ? name : undefined;
}

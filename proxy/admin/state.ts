/** What the admin endpoints look at and may do. */
import type { DrainScope } from '../drain.ts';
import type { FailedVersion } from '../configuration_state.ts';
import type { HeldResource } from '../held_resource.ts';
import type { ListenAddress, ProxyOptions } from '../proxy_options.ts';
import type { RuntimeLayers } from '../runtime_layers.ts';
import type { Aggregate } from '../telemetry/aggregate.ts';
import type { LogLevel } from '../telemetry/log.ts';
import type { StatTags } from '../telemetry/stat_tags.ts';
import type { ClusterDescription } from '../thread_messages.ts';
import type { AdminAccess } from './admin_access.ts';
import type { Profilers } from './profilers.ts';

/** Envoy's server states. */
export type ServerState = 'LIVE' | 'DRAINING' | 'PRE_INITIALIZING' | 'INITIALIZING';

export interface AdminState {
  readonly options: ProxyOptions;
  readonly access: AdminAccess;
  /** Epoch ms. */
  readonly startedMs: number;
  readonly aggregate: Aggregate;
  readonly tags: StatTags;
  readonly runtime: RuntimeLayers;
  readonly profilers: Profilers;
  /** Sets the gauges that are only worth setting when somebody looks (uptime, memory); with stats_flush_on_admin, flushes. */
  refreshStatistics(): Promise<void>;
  /** What is served. `json` of each is decoded when it is looked at. */
  resources(): readonly HeldResource[];
  /** Accepted, waiting for what they name. */
  warming(): readonly HeldResource[];
  /** The last version of each that was refused, until a good one comes. */
  failed(): readonly FailedVersion[];
  /** What the start still waits for, in words. */
  unready(): readonly string[];
  /** Statistics that are no numbers: `cluster_manager.cds.version_text`, `control_plane.identifier`. */
  texts(): ReadonlyMap<string, string>;
  /** Name and real address of each listener. */
  listeners(): readonly (readonly [string, ListenAddress])[];
  /** What threads say of the hosts of the clusters in use. */
  describeClusters(): AsyncIterable<ClusterDescription>;
  state(): ServerState;
  /** /healthcheck/fail and /healthcheck/ok. */
  failHealth(failed: boolean): void;
  /** Own log: of one component, or of all (undefined). */
  setLogLevel(level: LogLevel, component?: string): void;
  /** Data threads are told. */
  runtimeChanged(): void;
  reopenLogs(): void;
  /** Envoy's /drain_listeners. */
  drain(scope: DrainScope, how: { readonly graceful: boolean; readonly skipExit: boolean }): void;
  quit(): void;
}

export interface AdminServer {
  /** The real one. */
  readonly address: ListenAddress;
  close(): Promise<void>;
}

/** An endpoint's answer. */
export interface AdminAnswer {
  readonly status: number;
  readonly type: string;
  /** Text, or pieces of it made a slice at a time. */
  readonly body: string | AsyncIterable<string>;
}

export interface AdminEndpoint {
  readonly path: string;
  readonly help: string;
  /** Query parameters, and what they do. */
  readonly parameters?: Readonly<Record<string, string>>;
  /** Changes something: POST only. */
  readonly mutates: boolean;
  /** Parameters may come in the body, as a form, where the query has none. */
  readonly takesForm?: boolean;
  answer(state: AdminState, query: URLSearchParams): AdminAnswer | Promise<AdminAnswer>;
}

export function text(body: string, status = 200): AdminAnswer {
  return { status, type: 'text/plain; charset=UTF-8', body };
}

export function json(value: unknown): AdminAnswer {
  return { status: 200, type: 'application/json', body: `${JSON.stringify(value, undefined, 1)}\n` };
}

/** For HTML: names come from configurations and peers (attacks.md row 59). */
export function escapeText(raw: string): string {
  return raw.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}

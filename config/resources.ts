/** What every source gives and the data plane executes: Envoy v3 resources by type and name, as plain protobuf JSON. */

/** listener, route configuration, cluster, load assignment, secret, extension (ECDS), scope (SRDS). */
export type ResourceType = 'listener' | 'route' | 'cluster' | 'endpoint' | 'secret' | 'extension' | 'scope';

export const RESOURCE_TYPES = [
  'cluster',
  'endpoint',
  'secret',
  'listener',
  'route',
  'extension',
  'scope',
] as const satisfies readonly ResourceType[];

/** A protobuf message in JSON form with the proto's own (snake_case) field names; `Any` as an object with `@type`. */
export type Json = { readonly [field: string]: unknown };

export interface Resource {
  readonly type: ResourceType;
  readonly name: string;
  /** Changes when the content does: a hash of the JSON for files, the server's version for xDS. */
  readonly version: string;
  readonly json: Json;
  /** The JSON as UTF-8, where it is kept so: `json` is made of it at each reading. */
  readonly bytes?: Buffer | undefined;
  /** Where it came from: `file:line` of the object that decided it, or the xDS server. */
  readonly origin: string;
  /** From the static part of a bootstrap; absent: dynamic. */
  readonly isStatic?: boolean;
  /** Of a scope: from where the route configurations come that it names. */
  readonly routeSource?: Json;
}

/**
 * The name of what stands for the first push of scopes: served when the route configurations that those name are there,
 * so that listeners wait for all of them. Its JSON: `route_configuration_names`.
 */
export const ALL_SCOPES = '*';

export type ResourceKey = Pick<Resource, 'type' | 'name'>;

/** A resource that another one names: what it is served without only after a wait. */
export interface Dependency {
  readonly type: 'endpoint' | 'route' | 'secret' | 'extension' | 'scope';
  /** Of scopes `*`: they are asked for together. */
  readonly name: string;
  /** envoy.config.core.v3.ConfigSource, as it stands in the dependant. */
  readonly configSource: Json;
  /** Default 15,000; 0: for ever. */
  readonly initialFetchTimeoutMs: number;
  /** There is a default: nothing waits for it. */
  readonly withoutWarming?: boolean;
  /** Of scopes: from where the route configurations come that they name. */
  readonly routeSource?: Json;
  /** The proxy finds it by DNS: no source is asked for it. */
  readonly byDns?: boolean;
  /** Where its statistics stand, where the name alone does not say: `http.outbound.rds.9080.`. */
  readonly statPrefix?: string;
}

/** What a single request wants. `routes`: the route configuration; `host`: the authority, in lower case. */
export type Demand =
  | { readonly kind: 'host'; readonly routes: string; readonly host: string }
  | { readonly kind: 'cluster'; readonly name: string; readonly configSource: Json };

/** A change of one source's resources. `removed` names what is gone. `full`: what is not in `upserts` is gone. */
export interface ResourceChange {
  readonly upserts: readonly Resource[];
  readonly removed: readonly { readonly type: ResourceType; readonly name: string }[];
  readonly full: boolean;
  /** All or nothing (files), or resource by resource (xDS). */
  readonly atomic: boolean;
  /** The source has asked `check` about each of them. */
  readonly checked?: boolean;
}

/** accepted: what was applied, by type and name. rejected: each with its reason; it becomes the NACK. */
export interface UpdateResult {
  readonly accepted: readonly { readonly type: ResourceType; readonly name: string }[];
  readonly rejected: readonly { readonly type: ResourceType; readonly name: string; readonly reason: string }[];
}

/** What a source tells the control thread. */
export interface ConfigSink {
  update(change: ResourceChange): UpdateResult;
  /** What the source got could not even be read; sentences. What was served before stays. */
  unreadable(reasons: readonly string[]): void;
  /** Why a resource cannot be served; undefined: it can. For sources that spread the work over many turns. */
  check(resource: Resource): string | undefined;
  /** Listeners of a push that were checked, before they are given. @returns by name, why one cannot have its addresses. */
  claimAddresses(listeners: readonly Resource[], removed: readonly string[]): Promise<ReadonlyMap<string, string>>;
  /** A resource was refused before it could be given (its bytes, its type): its last good version stays. */
  refused(
    resource: ResourceKey & { readonly version: string; readonly reason: string; readonly json?: Json | undefined },
  ): void;
  /** Values of a runtime layer (envoy.service.runtime.v3.Runtime), whole. */
  runtimeLayer(resource: string, layer: Json): void;
  /** From a source that `announcesInitialized`: everything that a start waits for was given. */
  initialized(): void;
  /** Calls back once nothing warms: at once, or later. */
  whenWarmed(callback: () => void): void;
  /** Envoy's names; `text` for those that are no numbers (version_text). */
  readonly statistics: {
    counter(name: string): { inc(): void; add(count: number): void };
    gauge(name: string): { set(value: number): void };
    text(name: string, value: string): void;
  };
}

export interface ConfigSource {
  /** false or absent: it has given what a start waits for with its first update. */
  readonly announcesInitialized?: boolean;
  start(on: ConfigSink): void;
  stop(): void;
  /** @returns whether this source will give it, or say (as removed) that there is none. */
  subscribe?(dependency: Dependency): boolean;
  /** @returns whether this source asks for it; `onAbsent`: it will not come. */
  demand?(demand: Demand, onAbsent: () => void): boolean;
  /** Nobody names it any more: it is dropped. */
  unsubscribe?(dependency: Dependency): void;
}

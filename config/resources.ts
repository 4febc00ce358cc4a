/** What every source gives and the data plane executes: Envoy v3 resources by type and name, as plain protobuf JSON. */

/** listener, route configuration, cluster, load assignment, secret, extension (ECDS). */
export type ResourceType = 'listener' | 'route' | 'cluster' | 'endpoint' | 'secret' | 'extension';

export const RESOURCE_TYPES = [
  'cluster',
  'endpoint',
  'secret',
  'listener',
  'route',
  'extension',
] as const satisfies readonly ResourceType[];

/** A protobuf message in JSON form with the proto's own (snake_case) field names; `Any` as an object with `@type`. */
export type Json = { readonly [field: string]: unknown };

export interface Resource {
  readonly type: ResourceType;
  readonly name: string;
  /** Changes when the content does: a hash of the JSON for files, the server's version for xDS. */
  readonly version: string;
  readonly json: Json;
  /** Where it came from: `file:line` of the object that decided it, or the xDS server. */
  readonly origin: string;
}

/** A change of one source's resources. `removed` names what is gone. `full`: what is not in `upserts` is gone. */
export interface ResourceChange {
  readonly upserts: readonly Resource[];
  readonly removed: readonly { readonly type: ResourceType; readonly name: string }[];
  readonly full: boolean;
  /** All or nothing (files), or resource by resource (xDS). */
  readonly atomic: boolean;
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
}

export interface ConfigSource {
  start(on: ConfigSink): void;
  stop(): void;
}

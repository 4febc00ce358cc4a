/** A configuration source that a test drives by hand. */
import { createHash } from 'node:crypto';
import type {
  ConfigSource,
  Json,
  Resource,
  ResourceChange,
  ResourceType,
  UpdateResult,
} from '../../config/resources.ts';

type Update = (change: ResourceChange) => UpdateResult;

export function resource(type: ResourceType, json: Json): Resource {
  const version = createHash('sha256').update(JSON.stringify(json)).digest('hex').slice(0, 16);
  return { type, name: String(json['name'] ?? json['cluster_name']), version, json, origin: 'test:1' };
}

export class StaticSource implements ConfigSource {
  #update: Update | undefined = undefined;
  #resources: readonly Resource[];

  constructor(resources: readonly Resource[]) {
    this.#resources = resources;
  }

  start(on: { update: Update }): void {
    this.#update = on.update;
    on.update({ upserts: this.#resources, removed: [], full: true, atomic: true });
  }

  /** Replaces everything. */
  set(resources: readonly Resource[]): UpdateResult {
    this.#resources = resources;
    if (this.#update === undefined) throw new Error('not started');
    return this.#update({ upserts: resources, removed: [], full: true, atomic: true });
  }

  stop(): void {}
}

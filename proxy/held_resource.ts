/** A resource as the control thread keeps it: decoded until it was distributed, then the same bytes as the threads have. */
import type { Dependency, Json, Resource, ResourceType } from '../config/resources.ts';
import type { PackedResource } from './distribution.ts';

export class HeldResource implements Resource {
  readonly type: ResourceType;
  readonly name: string;
  readonly version: string;
  readonly origin: string;
  readonly isStatic: boolean;
  /** Epoch ms. */
  readonly updatedMs: number;
  readonly dependencies: readonly Dependency[];
  #json: Json | undefined;
  #bytes: Buffer | undefined;
  #packed: PackedResource | undefined = undefined;

  constructor(resource: Resource, dependencies: readonly Dependency[], updatedMs: number) {
    this.type = resource.type;
    this.name = resource.name;
    this.version = resource.version;
    this.origin = resource.origin;
    this.isStatic = resource.isStatic ?? false;
    this.updatedMs = updatedMs;
    this.dependencies = dependencies;
    this.#bytes = resource.bytes;
    this.#json = resource.bytes === undefined ? resource.json : undefined;
  }

  /** Decoded at each call once it was distributed: ten thousand clusters are not kept twice. */
  get json(): Json {
    if (this.#json !== undefined) return this.#json;
    if (this.#bytes !== undefined) return JSON.parse(this.#bytes.toString('utf8')) as Json;
    return (this.#packed as PackedResource).decode();
  }

  /** To be distributed. */
  get bytes(): Buffer {
    return this.#bytes ?? Buffer.from(JSON.stringify(this.json));
  }

  get packed(): PackedResource | undefined {
    return this.#packed;
  }

  pack(packed: PackedResource): void {
    this.#packed = packed;
    this.#json = undefined;
    this.#bytes = undefined;
  }
}

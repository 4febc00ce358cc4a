/** How configuration travels to data threads: as bytes in shared memory, decoded by whoever first needs a piece. */
import type { Json, Resource, ResourceType } from '../config/resources.ts';
import { Slices } from './telemetry/slices.ts';
import type { HeldResource } from './held_resource.ts';

/** What one update says; the same object goes to every thread. */
export interface Update {
  readonly epoch: number;
  readonly memories: readonly SharedArrayBuffer[];
  readonly upserts: readonly UpdateEntry[];
  readonly removed: readonly { readonly type: ResourceType; readonly name: string }[];
}

export interface UpdateEntry {
  readonly type: ResourceType;
  readonly name: string;
  readonly version: string;
  readonly origin: string;
  /** Index in `memories`. */
  readonly memory: number;
  readonly offset: number;
  readonly length: number;
}

/** Memory lives as long as one of its resources: small pieces, so that a replaced resource holds little. */
const PIECE_BYTES = 128 * 1024;

/** Writes what is not yet in shared memory there, in slices, so that admin and health keep answering. */
export async function packResources(resources: readonly HeldResource[]): Promise<void> {
  const slices = new Slices();
  let waiting: { readonly resource: HeldResource; readonly bytes: Buffer }[] = [];
  let size = 0;
  const write = (): void => {
    const memory = new SharedArrayBuffer(Math.max(1, size));
    const target = Buffer.from(memory);
    let offset = 0;
    for (const { resource, bytes } of waiting) {
      bytes.copy(target, offset);
      resource.pack(new PackedResource(memory, { ...describe(resource), offset, length: bytes.length }));
      offset += bytes.length;
    }
    waiting = [];
    size = 0;
  };
  for (const resource of resources) {
    if (resource.packed !== undefined) continue;
    const { bytes } = resource;
    waiting.push({ resource, bytes });
    size += bytes.length;
    if (size >= PIECE_BYTES) write();
    if (slices.over) await slices.next();
  }
  if (waiting.length > 0) write();
}

/** An update of resources that are packed. */
export function makeUpdate(epoch: number, resources: readonly HeldResource[], removed: Update['removed']): Update {
  const memories = new Map<SharedArrayBuffer, number>();
  const upserts = resources.map((resource): UpdateEntry => {
    const { memory, offset, length } = resource.packed as PackedResource;
    const index = memories.get(memory) ?? memories.size;
    memories.set(memory, index);
    return { ...describe(resource), memory: index, offset, length };
  });
  return { epoch, memories: [...memories.keys()], upserts, removed };
}

function describe({ type, name, version, origin }: Resource): Omit<UpdateEntry, 'memory' | 'offset' | 'length'> {
  return { type, name, version, origin };
}

/** A resource that nobody has looked at yet. */
export class PackedResource {
  readonly name: string;
  readonly version: string;
  readonly origin: string;
  readonly memory: SharedArrayBuffer;
  readonly offset: number;
  readonly length: number;

  constructor(memory: SharedArrayBuffer, entry: Omit<UpdateEntry, 'memory'>) {
    this.name = entry.name;
    this.version = entry.version;
    this.origin = entry.origin;
    this.memory = memory;
    this.offset = entry.offset;
    this.length = entry.length;
  }

  /** As JSON.stringify wrote it. */
  get bytes(): Buffer {
    return Buffer.from(this.memory, this.offset, this.length);
  }

  decode(): Json {
    return JSON.parse(this.bytes.toString('utf8')) as Json;
  }
}

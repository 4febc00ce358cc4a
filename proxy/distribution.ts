/** How configuration travels to data threads: as bytes in shared memory, decoded by whoever first needs a piece. */
import type { Json, Resource, ResourceType } from '../config/resources.ts';

/** What one update says; the same object goes to every thread. */
export interface Update {
  readonly epoch: number;
  readonly memory: SharedArrayBuffer;
  readonly upserts: readonly UpdateEntry[];
  readonly removed: readonly { readonly type: ResourceType; readonly name: string }[];
}

export interface UpdateEntry {
  readonly type: ResourceType;
  readonly name: string;
  readonly version: string;
  readonly origin: string;
  readonly offset: number;
  readonly length: number;
}

/** Work between two turns of the control thread's event loop. */
const SLICE_MS = 5;

/** Writes resources into one piece of shared memory, in slices, so that admin and health keep answering. */
export async function encodeUpdate(
  epoch: number,
  resources: readonly Resource[],
  removed: Update['removed'],
): Promise<Update> {
  const pieces: Buffer[] = [];
  const upserts: UpdateEntry[] = [];
  let offset = 0;
  let sliceEndMs = performance.now() + SLICE_MS;
  for (const { type, name, version, origin, json } of resources) {
    const piece = Buffer.from(JSON.stringify(json));
    pieces.push(piece);
    upserts.push({ type, name, version, origin, offset, length: piece.length });
    offset += piece.length;
    if (performance.now() > sliceEndMs) {
      await new Promise((resolve) => setImmediate(resolve));
      sliceEndMs = performance.now() + SLICE_MS;
    }
  }
  const memory = new SharedArrayBuffer(Math.max(1, offset));
  const bytes = Buffer.from(memory);
  let at = 0;
  for (const piece of pieces) {
    piece.copy(bytes, at);
    at += piece.length;
  }
  return { epoch, memory, upserts, removed };
}

/** A resource that nobody has looked at yet. */
export class PackedResource {
  readonly name: string;
  readonly version: string;
  readonly origin: string;
  readonly #memory: SharedArrayBuffer;
  readonly #offset: number;
  readonly #length: number;

  constructor(memory: SharedArrayBuffer, entry: UpdateEntry) {
    this.name = entry.name;
    this.version = entry.version;
    this.origin = entry.origin;
    this.#memory = memory;
    this.#offset = entry.offset;
    this.#length = entry.length;
  }

  decode(): Json {
    return JSON.parse(Buffer.from(this.#memory, this.#offset, this.#length).toString('utf8')) as Json;
  }
}

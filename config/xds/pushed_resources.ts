/** From a push's bytes to resources that can be served, one by one: what is bad is named and left out. */
import { hash } from 'node:crypto';
import { clusterNameOf, LARGE_BYTES, readInParts } from './large_assignments.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import { decodeMessage } from '../envoy/binary.ts';
import { readMessage } from '../envoy/messages.ts';
import { WireError } from '../envoy/wire_reader.ts';
import type { Json, Resource } from '../resources.ts';
import type { Push, PushedResource } from './discovery_messages.ts';
import type { XdsType } from './resource_types.ts';

export interface BadResource {
  /** '' where not even that could be read. */
  readonly name: string;
  readonly version: string;
  /** A sentence with name, field and reason. */
  readonly reason: string;
  readonly json: Json | undefined;
}

export interface ReadPush {
  /** New or changed, checked. */
  readonly changed: readonly Resource[];
  /** All that are good, changed or not. */
  readonly good: readonly { readonly name: string; readonly version: string }[];
  readonly bad: readonly BadResource[];
  /** `Message 99` of fields that the descriptors do not have. */
  readonly unknownFields: ReadonlySet<string>;
}

export interface ReadPushOptions {
  /** Of the push's type. */
  readonly type: XdsType;
  /** What was asked for; anything else is passed over. undefined: everything is wanted. */
  readonly names: ReadonlySet<string> | undefined;
  readonly origin: string;
  /** Content hashes of what was taken over, by name. */
  readonly known: ReadonlyMap<string, KnownVersion>;
  check(resource: Resource): string | undefined;
  /** What the bootstrap adds to a resource. */
  complete(json: Json): Json;
  /** Gives the event loop a turn when there has been work for long. */
  pause(): Promise<void> | undefined;
}

export interface KnownVersion {
  readonly version: string;
  readonly contentHash: string;
}

/** Never throws for what the server sent. */
export async function readResources(
  push: Push,
  options: ReadPushOptions,
): Promise<ReadPush & { hashes: Map<string, KnownVersion> }> {
  const changed: Resource[] = [];
  const good: { name: string; version: string }[] = [];
  const bad: BadResource[] = [];
  const unknownFields = new Set<string>();
  const hashes = new Map<string, KnownVersion>();
  const twice = namedTwice(push);
  for (const pushed of push.resources) {
    const pause = options.pause();
    if (pause !== undefined) await pause;
    const version = pushed.version || push.version;
    const contentHash = hash('sha1', pushed.bytes, 'base64');
    const known = options.known.get(pushed.name);
    if (pushed.name !== '' && known?.contentHash === contentHash && !twice.has(pushed.name)) {
      hashes.set(pushed.name, known);
      good.push({ name: pushed.name, version });
      continue;
    }
    const isLarge = options.type.resource === 'endpoint' && pushed.bytes.length > LARGE_BYTES;
    const reading = new Reading(pushed, version, contentHash, options);
    const read = isLarge ? await readLarge(reading, unknownFields) : readOne(reading, unknownFields);
    if (read === undefined) continue;
    if ('reason' in read) bad.push(read);
    else if (twice.has(read.name) || hashes.has(read.name)) {
      const reason = `Cannot use ${options.type.resource} "${read.name}": it is in the push twice`;
      bad.push({ name: read.name, version, reason, json: undefined });
      // Which of them is meant nobody knows: neither.
      drop(changed, read.name);
      drop(good, read.name);
      hashes.delete(read.name);
      twice.add(read.name);
    } else {
      good.push({ name: read.name, version });
      const before = options.known.get(read.name);
      hashes.set(read.name, { version: read.version, contentHash });
      if (before?.contentHash !== contentHash) changed.push(read);
    }
  }
  return { changed, good, bad, unknownFields, hashes };
}

/** Names that the push gives more than one content, or content and removal. */
function namedTwice({ resources, removed }: Push): Set<string> {
  const seen = new Set(removed);
  const twice = new Set<string>();
  for (const { name } of resources) {
    if (name === '') continue;
    if (seen.has(name)) twice.add(name);
    seen.add(name);
  }
  return twice;
}

function drop(list: { readonly name: string }[], name: string): void {
  const index = list.findIndex((item) => item.name === name);
  if (index >= 0) list.splice(index, 1);
}

/** One resource of a push: what can be said of it whatever its content is, and however that is read. */
class Reading {
  readonly pushed: PushedResource;
  readonly options: ReadPushOptions;
  /** Its content, as far as it is read: shown when it is refused. */
  json: Json | undefined = undefined;
  readonly #version: string;
  readonly #contentHash: string;
  #name: string;

  constructor(pushed: PushedResource, version: string, contentHash: string, options: ReadPushOptions) {
    this.pushed = pushed;
    this.options = options;
    this.#version = version;
    this.#contentHash = contentHash;
    this.#name = pushed.name;
  }

  /** @param own the name in the content. @returns what it is, without its content; undefined: nobody asked for it. */
  identify(own: string): Omit<Resource, 'json'> | BadResource | undefined {
    const { type, names, origin, known } = this.options;
    if (this.#name === '') this.#name = own;
    const name = this.#name;
    if (names !== undefined && !names.has(name)) return undefined;
    if (own !== '' && own !== name) return this.refuse(`its own name is "${own}"`);
    if (name === '' && type.resource !== undefined) return this.refuse('it has no name');
    // Content that changed under the same version is another version.
    const isSame = known.get(name)?.version === this.#version;
    const version = isSame ? `${this.#version}#${this.#contentHash.slice(0, 8)}` : this.#version;
    return { type: type.resource ?? 'extension', name, version, origin };
  }

  /** undefined: it has the type of its push. */
  ofAnotherType(): BadResource | undefined {
    const { type } = this.options;
    if (this.pushed.typeUrl === type.url) return undefined;
    return this.refuse(`it has type "${this.pushed.typeUrl.slice(0, 200)}" in a push of ${type.message}`);
  }

  refuse(sentence: string): BadResource {
    const { type, origin } = this.options;
    return this.complain(`Cannot use ${type.resource ?? type.message} "${this.#name}" (${origin}): ${sentence}`);
  }

  /** `reason`: a whole sentence. */
  complain(reason: string): BadResource {
    return { name: this.#name, version: this.#version, reason, json: this.json };
  }

  /** What was thrown while it was read, if that is the server's fault. */
  failed(error: unknown): BadResource {
    if (error instanceof ConfigError && error.cause instanceof Complaint) return this.complain(error.message);
    if (error instanceof WireError || error instanceof ConfigError) return this.refuse(error.message);
    throw error;
  }
}

/** undefined: nobody asked for it. */
function readOne(reading: Reading, unknownFields: Set<string>): Resource | BadResource | undefined {
  const { pushed, options } = reading;
  const mistyped = reading.ofAnotherType();
  if (mistyped !== undefined) return mistyped;
  try {
    reading.json = decode(pushed.bytes, options, unknownFields);
    const identity = reading.identify(ownName(reading.json));
    if (identity === undefined || 'reason' in identity) return identity;
    const json = options.complete(validate(reading.json, options));
    reading.json = json;
    const complaint = options.check({ ...identity, json });
    if (complaint !== undefined) return reading.complain(complaint);
    return new KeptResource(identity, Buffer.from(JSON.stringify(json)));
  } catch (error) {
    return reading.failed(error);
  }
}

/** The same for a load assignment, some endpoints at a time. */
async function readLarge(reading: Reading, unknownFields: Set<string>): Promise<Resource | BadResource | undefined> {
  const { pushed, options } = reading;
  const mistyped = reading.ofAnotherType();
  if (mistyped !== undefined) return mistyped;
  try {
    const identity = reading.identify(clusterNameOf(pushed.bytes));
    if (identity === undefined || 'reason' in identity) return identity;
    const readPart = (part: Buffer): Json => {
      const json = validate(decode(part, options, unknownFields), options);
      const complaint = options.check({ ...identity, json });
      if (complaint !== undefined) throw new Complaint(complaint);
      return json;
    };
    return new KeptResource(identity, await readInParts(pushed.bytes, readPart, options.pause));
  } catch (error) {
    return reading.failed(error);
  }
}

function decode(bytes: Buffer, { type }: ReadPushOptions, unknownFields: Set<string>): Json {
  const decoded = decodeMessage(type.message, bytes);
  for (const field of decoded.unknownFields) unknownFields.add(field);
  return decoded.json;
}

function validate(json: Json, { type }: ReadPushOptions): Json {
  return readMessage(type.message, json, { unknownFields: 'refuse', isDecoded: true }).json;
}

/** A whole sentence about a resource. */
class Complaint extends ConfigError {
  constructor(sentence: string) {
    super('', sentence);
  }
}

/** Ten thousand decoded resources that wait for others are much to collect around: bytes are not. */
class KeptResource implements Resource {
  readonly type: Resource['type'];
  readonly name: string;
  readonly version: string;
  readonly origin: string;
  readonly bytes: Buffer;

  constructor({ type, name, version, origin }: Omit<Resource, 'json'>, bytes: Buffer) {
    this.type = type;
    this.name = name;
    this.version = version;
    this.origin = origin;
    this.bytes = bytes;
  }

  get json(): Json {
    return JSON.parse(this.bytes.toString('utf8')) as Json;
  }
}

function ownName(json: Json): string {
  const name = json['name'] ?? json['cluster_name'];
  return typeof name === 'string' ? name : '';
}

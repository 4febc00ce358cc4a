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
    const read = isLarge
      ? await readLarge(pushed, version, contentHash, options, unknownFields)
      : readOne(pushed, version, contentHash, options, unknownFields);
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

/** undefined: nobody asked for it. */
function readOne(
  pushed: PushedResource,
  version: string,
  contentHash: string,
  { type, names, origin, known, check, complete }: ReadPushOptions,
  unknownFields: Set<string>,
): Resource | BadResource | undefined {
  const kind = type.resource ?? type.message;
  let name = pushed.name;
  let json: Json | undefined;
  const refuse = (sentence: string): BadResource => ({
    name,
    version,
    reason: `Cannot use ${kind} "${name}" (${origin}): ${sentence}`,
    json,
  });
  if (pushed.typeUrl !== type.url) {
    return refuse(`it has type "${pushed.typeUrl.slice(0, 200)}" in a push of ${type.message}`);
  }
  try {
    const decoded = decodeMessage(type.message, pushed.bytes);
    json = decoded.json;
    for (const field of decoded.unknownFields) unknownFields.add(field);
    const own = ownName(json);
    if (name === '') name = own;
    if (names !== undefined && !names.has(name)) return undefined;
    if (own !== '' && own !== name) return refuse(`its own name is "${own}"`);
    if (name === '' && type.resource !== undefined) return refuse('it has no name');
    json = complete(readMessage(type.message, json, { unknownFields: 'refuse', isDecoded: true }).json);
  } catch (error) {
    if (error instanceof WireError || error instanceof ConfigError) return refuse(error.message);
    throw error;
  }
  const resource: Resource = {
    type: type.resource ?? 'extension',
    name,
    version: ownVersion(known.get(name), version, contentHash),
    json,
    origin,
  };
  const complaint = check(resource);
  if (complaint !== undefined) return { name, version, reason: complaint, json };
  return new KeptResource(resource, Buffer.from(JSON.stringify(json)));
}

/** The same for a load assignment, some endpoints at a time. */
async function readLarge(
  pushed: PushedResource,
  version: string,
  contentHash: string,
  { type, names, origin, known, check, pause }: ReadPushOptions,
  unknownFields: Set<string>,
): Promise<Resource | BadResource | undefined> {
  let { name } = pushed;
  const refuse = (sentence: string): BadResource => ({
    name,
    version,
    reason: `Cannot use endpoint "${name}" (${origin}): ${sentence}`,
    json: undefined,
  });
  if (pushed.typeUrl !== type.url) {
    return refuse(`it has type "${pushed.typeUrl.slice(0, 200)}" in a push of ${type.message}`);
  }
  try {
    const own = clusterNameOf(pushed.bytes);
    if (name === '') name = own;
    if (names !== undefined && !names.has(name)) return undefined;
    if (own !== '' && own !== name) return refuse(`its own name is "${own}"`);
    const resource = {
      type: 'endpoint',
      name,
      version: ownVersion(known.get(name), version, contentHash),
      origin,
    } as const;
    const bytes = await readInParts(
      pushed.bytes,
      (part) => {
        const decoded = decodeMessage(type.message, part);
        for (const field of decoded.unknownFields) unknownFields.add(field);
        const { json } = readMessage(type.message, decoded.json, { unknownFields: 'refuse', isDecoded: true });
        const complaint = check({ ...resource, json });
        if (complaint !== undefined) throw new Complaint(complaint);
        return json;
      },
      pause,
    );
    return new KeptResource(resource, bytes);
  } catch (error) {
    if (error instanceof ConfigError && error.cause instanceof Complaint) {
      return { name, version, reason: error.message, json: undefined };
    }
    if (error instanceof WireError || error instanceof ConfigError) return refuse(error.message);
    throw error;
  }
}

/** A whole sentence about a resource. */
class Complaint extends ConfigError {
  constructor(sentence: string) {
    super('', sentence);
  }
}

/** Content that changed under the same version is another version. */
function ownVersion(known: KnownVersion | undefined, version: string, contentHash: string): string {
  return known?.version === version ? `${version}#${contentHash.slice(0, 8)}` : version;
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

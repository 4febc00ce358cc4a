/** The messages of the discovery protocol, between bytes and objects. Source: envoy.service.discovery.v3. */
import assert from 'node:assert';
import { fromJson, type JsonValue, toBinary } from '@bufbuild/protobuf';
import { readAny } from '../envoy/binary.ts';
import { descriptors } from '../envoy/descriptors.ts';
import type { Slices } from '../../proxy/telemetry/slices.ts';
import { WireReader } from '../envoy/wire_reader.ts';
import type { Json } from '../resources.ts';

/** A resource of a push, its content unread. */
export interface PushedResource {
  /** '' where the push does not say: it is in the content. */
  readonly name: string;
  /** '' where it has that of the push. */
  readonly version: string;
  /** '' in a delta push: there is no such resource. */
  readonly typeUrl: string;
  readonly bytes: Buffer;
  /** Other names that it was asked for by. */
  readonly aliases?: readonly string[];
}

/** A DiscoveryResponse or a DeltaDiscoveryResponse. */
export interface Push {
  readonly typeUrl: string;
  readonly version: string;
  readonly nonce: string;
  readonly resources: readonly PushedResource[];
  /** Delta only. */
  readonly removed: readonly string[];
  /** State of the world: what it leaves out does not exist. */
  readonly isComplete: boolean;
  /** ControlPlane.identifier. */
  readonly controlPlane: string;
}

const RESOURCE_URL = 'type.googleapis.com/envoy.service.discovery.v3.Resource';

/** In slices: a push may hold ten thousand resources. Rejects with a WireError. */
export async function readPush(bytes: Buffer, protocol: 'sotw' | 'delta', slices: Slices): Promise<Push> {
  const isDelta = protocol === 'delta';
  const reader = new WireReader(bytes);
  const resources: PushedResource[] = [];
  const removed: string[] = [];
  let version = '';
  let typeUrl = '';
  let nonce = '';
  let controlPlane = '';
  while (!reader.isAtEnd) {
    const tag = reader.tag();
    const field = (tag & 7) === 2 ? tag >>> 3 : -1;
    if (field === 1) version = reader.string();
    else if (field === 2) {
      const inner = new WireReader(reader.bytes());
      resources.push(isDelta ? readResource(inner) : unwrap(readAny(inner)));
      if ((resources.length & 63) === 0 && slices.over) await slices.next();
    } else if (field === 4) typeUrl = reader.string();
    else if (field === 5) nonce = reader.string();
    else if (field === 6 && isDelta) removed.push(reader.string());
    else if (field === (isDelta ? 7 : 6)) controlPlane = readIdentifier(new WireReader(reader.bytes()));
    else reader.skip(tag & 7);
  }
  return { typeUrl, version, nonce, resources, removed, controlPlane, isComplete: !isDelta };
}

/** State of the world may wrap a resource to give it a name. */
function unwrap({ typeUrl, value }: { typeUrl: string; value: Buffer }): PushedResource {
  if (typeUrl === RESOURCE_URL) return readResource(new WireReader(value));
  return { name: '', version: '', typeUrl, bytes: value };
}

function readResource(reader: WireReader): PushedResource {
  let name = '';
  let version = '';
  const aliases: string[] = [];
  let any = { typeUrl: '', value: Buffer.alloc(0) as Buffer };
  while (!reader.isAtEnd) {
    const tag = reader.tag();
    if (tag === 0x0a) version = reader.string();
    else if (tag === 0x12) any = readAny(new WireReader(reader.bytes()));
    else if (tag === 0x1a) name = reader.string();
    else if (tag === 0x22) aliases.push(reader.string());
    else reader.skip(tag & 7);
  }
  return { name, version, typeUrl: any.typeUrl, bytes: any.value, ...(aliases.length > 0 && { aliases }) };
}

function readIdentifier(reader: WireReader): string {
  let identifier = '';
  while (!reader.isAtEnd) {
    const tag = reader.tag();
    if (tag === 0x0a) identifier = reader.string();
    else reader.skip(tag & 7);
  }
  return identifier;
}

/** `json` in protobuf JSON form, as bytes. */
export function encodeMessage(typeName: string, json: Json): Buffer {
  const type = descriptors().getMessage(typeName);
  assert(type !== undefined, `no descriptor of ${typeName}`);
  const registry = descriptors();
  const bytes = toBinary(type, fromJson(type, json as JsonValue, { registry, ignoreUnknownFields: true }));
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

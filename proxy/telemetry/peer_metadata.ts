/**
 * What workloads tell each other of themselves, over HTTP headers and over TCP: a google.protobuf.Struct of some of
 * their node metadata. Source: istio/proxy extensions/common/metadata_object.cc; istio.md §2.7.
 */
import type { NodeIdentity } from '../proxy_options.ts';
import { type Peer, peerOfMetadata } from './peer.ts';
import { readFields } from './protobuf_reader.ts';
import { message } from './protobuf_writer.ts';

/** Larger ones are not read: the peer stays unknown. */
export const MAX_PEER_METADATA_BYTES = 16 * 1024;
const MAX_DEPTH = 4;
/** Peers that a thread keeps decoded; beyond, all are forgotten. */
const MAX_CACHED_PEERS = 512;

const TEXT_FIELDS = [
  'NAME',
  'NAMESPACE',
  'CLUSTER_ID',
  'WORKLOAD_NAME',
  'OWNER',
  'IDENTITY',
  'REGION',
  'AVAILABILITY_ZONE',
];
const LABELS = ['app', 'version', 'service.istio.io/canonical-name', 'service.istio.io/canonical-revision'];

/** What we tell, as plain JSON. */
export function ownPeerMetadata({ metadata }: NodeIdentity): Readonly<Record<string, unknown>> {
  const out: Record<string, unknown> = {};
  for (const name of TEXT_FIELDS) {
    const value = metadata[name];
    if (typeof value === 'string' && value !== '') out[name] = value;
  }
  const given = (metadata['LABELS'] ?? {}) as Readonly<Record<string, unknown>>;
  const labels: Record<string, string> = {};
  for (const name of LABELS) {
    const value = given[name];
    if (typeof value === 'string' && value !== '') labels[name] = value;
  }
  if (metadata['WORKLOAD_NAME'] !== undefined) {
    const { canonicalService, canonicalRevision } = peerOfMetadata(metadata);
    labels['service.istio.io/canonical-name'] ??= canonicalService;
    labels['service.istio.io/canonical-revision'] ??= canonicalRevision;
  }
  out['LABELS'] = labels;
  return out;
}

/** google.protobuf.Struct, fields sorted by name: the same metadata are the same bytes. */
export function encodeStruct(fields: Readonly<Record<string, unknown>>): Buffer {
  const entries = Object.keys(fields)
    .sort()
    .map((name) => message(1, Buffer.concat([message(1, Buffer.from(name)), message(2, encodeValue(fields[name]))])));
  return Buffer.concat(entries);
}

function encodeValue(value: unknown): Buffer {
  if (typeof value === 'string') return message(3, Buffer.from(value));
  if (typeof value === 'boolean') return Buffer.from([4 << 3, value ? 1 : 0]);
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(9);
    bytes[0] = (2 << 3) | 1;
    bytes.writeDoubleLE(value, 1);
    return bytes;
  }
  if (Array.isArray(value)) {
    return message(6, Buffer.concat(value.map((item) => message(1, encodeValue(item)))));
  }
  if (value !== null && typeof value === 'object') {
    return message(5, encodeStruct(value as Readonly<Record<string, unknown>>));
  }
  return Buffer.from([1 << 3, 0]);
}

/** Strings and structs only: nothing else is asked for. undefined: unreadable or too deep. */
export function decodeStruct(bytes: Buffer, depth = 0): Record<string, unknown> | undefined {
  if (depth > MAX_DEPTH) return undefined;
  const out: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  const entries = readFields(bytes);
  if (entries === undefined) return undefined;
  for (const entry of entries) {
    if (entry.number !== 1 || entry.wire !== 2) continue;
    const parts = readFields(entry.body);
    const name = parts?.find(({ number, wire }) => number === 1 && wire === 2);
    const value = parts?.find(({ number, wire }) => number === 2 && wire === 2);
    if (name === undefined || value === undefined) continue;
    const [kind] = readFields(value.body) ?? [];
    if (kind?.number === 3 && kind.wire === 2) out[name.body.toString('utf8')] = kind.body.toString('utf8');
    else if (kind?.number === 5 && kind.wire === 2) {
      const inner = decodeStruct(kind.body, depth + 1);
      if (inner === undefined) return undefined;
      out[name.body.toString('utf8')] = inner;
    }
  }
  return out;
}

/** Peers by what they sent: nearly all requests of a connection bring the same. One a thread is enough. */
export class PeerCache {
  readonly #known = new Map<string, Peer | undefined>();

  /** `text`: base64, as in x-envoy-peer-metadata. undefined: it says nothing that can be read. */
  of(text: string): Peer | undefined {
    if (text.length > (MAX_PEER_METADATA_BYTES / 3) * 4) return undefined;
    if (this.#known.has(text)) return this.#known.get(text);
    const metadata = decodeStruct(Buffer.from(text, 'base64'));
    const peer = metadata === undefined ? undefined : peerOfMetadata(metadata);
    if (this.#known.size >= MAX_CACHED_PEERS) this.#known.clear();
    this.#known.set(text, peer);
    return peer;
  }
}

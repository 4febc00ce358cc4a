/**
 * The frame with which both ends of a TCP connection tell each other who they are, where istio-peer-exchange was
 * negotiated: magic, length, a google.protobuf.Any with a Struct. Source: istio/proxy metadata_exchange; istio.md §2.7.
 */
import type { NodeIdentity } from '../proxy_options.ts';
import { decodeStruct, encodeStruct, MAX_PEER_METADATA_BYTES, ownPeerMetadata } from './peer_metadata.ts';
import { message } from './protobuf_writer.ts';
import { readFields } from './protobuf_reader.ts';
import { type Peer, peerOfMetadata } from './peer.ts';

export const PEER_EXCHANGE = 'istio-peer-exchange';
const MAGIC = 0x3d23_0467;
const HEADER_BYTES = 8;
const STRUCT_URL = 'type.googleapis.com/google.protobuf.Struct';

/** What we send first. */
export function ownFrame(node: NodeIdentity): Buffer {
  const struct = encodeStruct({
    'x-envoy-peer-metadata': ownPeerMetadata(node),
    'x-envoy-peer-metadata-id': node.id === '' ? 'unknown' : node.id,
  });
  const any = Buffer.concat([message(1, Buffer.from(STRUCT_URL)), message(2, struct)]);
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32BE(MAGIC, 0);
  header.writeUInt32BE(any.length, 4);
  return Buffer.concat([header, any]);
}

/** more: not all of it is there yet. none: the peer sent none. Else where the frame ends, and what it says. */
export type FrameResult = 'more' | 'none' | { readonly end: number; readonly peer: Peer | undefined };

/** `bytes`: all from the connection's beginning. A frame that is too long counts as none: it is application data then. */
export function readFrame(bytes: Buffer): FrameResult {
  for (let i = 0; i < Math.min(4, bytes.length); i++) {
    if (bytes[i] !== ((MAGIC >>> (24 - 8 * i)) & 0xff)) return 'none';
  }
  if (bytes.length < HEADER_BYTES) return 'more';
  const length = bytes.readUInt32BE(4);
  if (length > MAX_PEER_METADATA_BYTES) return 'none';
  const end = HEADER_BYTES + length;
  return bytes.length < end ? 'more' : { end, peer: peerIn(bytes.subarray(HEADER_BYTES, end)) };
}

function peerIn(any: Buffer): Peer | undefined {
  const struct = readFields(any)?.find(({ number, wire }) => number === 2 && wire === 2)?.body;
  const fields = struct === undefined ? undefined : decodeStruct(struct);
  const metadata = fields?.['x-envoy-peer-metadata'];
  return metadata === undefined ? undefined : peerOfMetadata(metadata as Readonly<Record<string, unknown>>);
}

/** Takes the frame from the beginning of what comes. One a connection. */
export class FrameStripper {
  readonly #onPeer: (peer: Peer | undefined) => void;
  #held: Buffer | undefined = undefined;
  isOver = false;

  /** undefined: the peer says nothing of itself. */
  constructor(onPeer: (peer: Peer | undefined) => void) {
    this.#onPeer = onPeer;
  }

  /** `bytes` are borrowed. @returns what is the application's; undefined: nothing of it yet. */
  take(bytes: Buffer): Buffer | undefined {
    if (this.isOver) return bytes;
    const all = this.#held === undefined ? bytes : Buffer.concat([this.#held, bytes]);
    const result = readFrame(all);
    if (result === 'more') {
      this.#held = this.#held === undefined ? Buffer.from(bytes) : all;
      return undefined;
    }
    this.isOver = true;
    this.#held = undefined;
    this.#onPeer(result === 'none' ? undefined : result.peer);
    if (result === 'none') return all;
    return result.end === all.length ? undefined : all.subarray(result.end);
  }
}

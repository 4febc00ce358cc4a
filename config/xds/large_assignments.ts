/**
 * A load assignment of many endpoints, read some at a time: ten thousand of them in one go would keep the control thread
 * for a tenth of a second. What is cut is protobuf's wire format, before anything of it is decoded.
 */
import { ConfigError } from '../../proxy/config_error.ts';
import { message } from '../../proxy/telemetry/protobuf_writer.ts';
import { LENGTH, WireReader } from '../envoy/wire_reader.ts';
import type { Json } from '../resources.ts';

/** About 150 endpoints: one or two milliseconds. */
const PART_BYTES = 16 * 1024;
/** Below this, cutting costs more than it gives. */
export const LARGE_BYTES = 4 * PART_BYTES;

/** ClusterLoadAssignment.endpoints and LocalityLbEndpoints.lb_endpoints: both field 2, length-delimited. */
const ENDPOINTS_FIELD = 2;
const ENDPOINTS = (ENDPOINTS_FIELD << 3) | LENGTH;
const CLUSTER_NAME = (1 << 3) | LENGTH;

/** A message by itself, with the fields that its whole has beside the endpoints. */
interface Part {
  readonly bytes: Buffer;
  /** Index of its first locality within the whole. */
  readonly locality: number;
  /** Index of its first endpoint within that; above 0, the locality has begun in the part before. */
  readonly endpoint: number;
}

/** Fields of a message: the repeated one, and the bytes of all others. */
interface Cut {
  readonly items: readonly Buffer[];
  readonly others: Buffer;
}

/** @param bytes of an envoy.config.endpoint.v3.ClusterLoadAssignment. @throws {WireError} */
export function clusterNameOf(bytes: Buffer): string {
  const reader = new WireReader(bytes);
  let name = '';
  while (!reader.isAtEnd) {
    const tag = reader.tag();
    if (tag === CLUSTER_NAME) name = reader.string();
    else reader.skip(tag & 7);
  }
  return name;
}

/**
 * Gives `read` one part after the other, and makes JSON text of what it returns.
 * @param read canonical JSON of a part's bytes; throws what is wrong with it. @param pause between two parts.
 * @throws {WireError} {ConfigError} of `read`, its indices those of the whole.
 */
export async function readInParts(
  bytes: Buffer,
  read: (part: Buffer) => Json,
  pause: () => Promise<void> | undefined,
): Promise<Buffer> {
  const text: Buffer[] = [];
  let top = '';
  for (const part of partsOf(bytes)) {
    const turn = pause();
    if (turn !== undefined) await turn;
    const { endpoints = [], ...others } = readPart(part, read) as { endpoints?: readonly Json[] };
    // There is a cluster_name: an object is never empty here.
    if (text.length === 0) top = `${JSON.stringify(others).slice(0, -1)},"endpoints":[`;
    endpoints.forEach((locality, index) => {
      const { lb_endpoints: items = [], ...rest } = locality as { lb_endpoints?: readonly unknown[] };
      const inside = JSON.stringify(items).slice(1, -1);
      if (index === 0 && part.endpoint > 0) text.push(Buffer.from(`,${inside}`));
      else {
        const head = JSON.stringify(rest).slice(0, -1);
        const before = text.length === 0 ? '' : ']},';
        text.push(Buffer.from(`${before}${head}${head === '{' ? '' : ','}"lb_endpoints":[${inside}`));
      }
    });
  }
  return Buffer.concat([Buffer.from(top), ...text, Buffer.from(text.length === 0 ? ']}' : ']}]}')]);
}

function readPart({ bytes, locality, endpoint }: Part, read: (part: Buffer) => Json): Json {
  try {
    return read(bytes);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const message = error.message.replace(
      /\bendpoints\[(\d+)\](?:\.lb_endpoints\[(\d+)\])?/,
      (_, group: string, item: string | undefined) => {
        const inItem = item === undefined ? '' : `.lb_endpoints[${Number(item) + (group === '0' ? endpoint : 0)}]`;
        return `endpoints[${Number(group) + locality}]${inItem}`;
      },
    );
    throw new ConfigError('', message, { cause: error });
  }
}

function* partsOf(bytes: Buffer): Generator<Part> {
  const whole = cut(bytes);
  const { items: localities, others } = whole;
  // What is not endpoints would be in each part: nothing that a server can grow.
  if (others.length > PART_BYTES) {
    yield { bytes, locality: 0, endpoint: 0 };
    return;
  }
  let batch: Buffer[] = [];
  let size = 0;
  let first = 0;
  for (const [index, locality] of localities.entries()) {
    const inner = locality.length > PART_BYTES ? cut(locality) : undefined;
    if (batch.length > 0 && (inner !== undefined || size + locality.length > PART_BYTES)) {
      yield { bytes: Buffer.concat([others, ...batch]), locality: first, endpoint: 0 };
      batch = [];
      size = 0;
    }
    if (batch.length === 0) first = index;
    if (inner === undefined || inner.others.length > PART_BYTES) {
      batch.push(message(ENDPOINTS_FIELD, locality));
      size += locality.length;
    } else {
      for (const piece of piecesOf(inner)) {
        yield {
          bytes: Buffer.concat([others, message(ENDPOINTS_FIELD, piece.bytes)]),
          locality: index,
          endpoint: piece.endpoint,
        };
      }
    }
  }
  if (batch.length > 0 || localities.length === 0) {
    yield { bytes: Buffer.concat([others, ...batch]), locality: first, endpoint: 0 };
  }
}

/** Of a locality with many endpoints: its bytes with some of them. */
function* piecesOf({ items, others }: Cut): Generator<{ readonly bytes: Buffer; readonly endpoint: number }> {
  for (let at = 0; at < items.length; ) {
    const piece: Buffer[] = [others];
    const endpoint = at;
    for (let size = 0; at < items.length && (size === 0 || size < PART_BYTES); at++) {
      const item = items[at] as Buffer;
      piece.push(message(ENDPOINTS_FIELD, item));
      size += item.length;
    }
    yield { bytes: Buffer.concat(piece), endpoint };
  }
}

function cut(bytes: Buffer): Cut {
  const reader = new WireReader(bytes);
  const items: Buffer[] = [];
  const others: Buffer[] = [];
  while (!reader.isAtEnd) {
    const start = reader.position;
    const tag = reader.tag();
    if (tag === ENDPOINTS) items.push(reader.bytes());
    else {
      reader.skip(tag & 7);
      others.push(bytes.subarray(start, reader.position));
    }
  }
  return { items, others: Buffer.concat(others) };
}

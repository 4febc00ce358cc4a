/**
 * JSON as people read it, without its secrets, written in pieces of bounded work however large a value is: a route
 * configuration of a mesh has thousands of virtual hosts. What stands packed as bytes is decoded piece by piece too.
 */
import type { Json } from '../../config/resources.ts';
import type { HeldResource } from '../held_resource.ts';
import { isSecretField, redactJson, redactSecret } from '../telemetry/redaction.ts';
import type { Slices } from '../telemetry/slices.ts';
import { type JsonRange, jsonChildren } from './json_ranges.ts';

/** Values of up to so many nodes are written in one go. */
const SMALL_NODES = 400;
/** Of packed values, so many bytes are decoded in one go. */
const SMALL_BYTES = 32_768;

const PIECE_CHARACTERS = 32_768;

/** Bytes of a JSON text, and which of them. */
export interface PackedJson {
  readonly bytes: Buffer;
  readonly start: number;
  readonly end: number;
}

/** A message as google.protobuf.Any, decoded when it is written. */
export class PackedAny {
  readonly type: string;
  readonly #json: () => Json;
  readonly packed: PackedJson | undefined;

  /** `type`: with its prefix. `packed`: the same as `json` gives, where it stands as bytes. */
  constructor(type: string, json: () => Json, packed: PackedJson | undefined) {
    this.type = type;
    this.#json = json;
    this.packed = packed;
  }

  static of(type: string, resource: HeldResource): PackedAny {
    const bytes = resource.packed?.bytes;
    const packed = bytes === undefined ? undefined : { bytes, start: 0, end: bytes.length };
    return new PackedAny(type, () => resource.json, packed);
  }

  static part(type: string, packed: PackedJson): PackedAny {
    const { bytes, start, end } = packed;
    return new PackedAny(type, () => JSON.parse(bytes.toString('utf8', start, end)) as Json, packed);
  }

  /** Whole, with its secrets. */
  get json(): Json {
    return { '@type': this.type, ...this.#json() };
  }

  /** Whole, and without them. */
  toJSON(): Json {
    return redactJson(this.json) as Json;
  }
}

/** Pieces of `value` behind `depth` spaces; nobody is held up for long between two of them. */
export async function* writeJson(value: unknown, depth: number, slices: Slices): AsyncGenerator<string> {
  if (slices.over) await slices.next();
  if (value instanceof PackedAny) yield* writePacked(value, depth, slices);
  else if (isSmall(value)) yield inOneGo(redactJson(value), depth);
  else if (Array.isArray(value)) yield* writeArray(value, depth, slices);
  else yield* writeObject(value as Readonly<Record<string, unknown>>, depth, slices);
}

async function* writeArray(items: readonly unknown[], depth: number, slices: Slices): AsyncGenerator<string> {
  let before = `${' '.repeat(depth)}[\n`;
  for (const item of items) {
    yield before;
    yield* writeJson(item, depth + 1, slices);
    before = ',\n';
  }
  yield `\n${' '.repeat(depth)}]`;
}

async function* writeObject(
  object: Readonly<Record<string, unknown>>,
  depth: number,
  slices: Slices,
): AsyncGenerator<string> {
  let before = `${' '.repeat(depth)}{\n`;
  for (const [key, item] of Object.entries(object)) {
    if (item === undefined) continue;
    yield `${before}${' '.repeat(depth + 1)}${JSON.stringify(key)}: `;
    if (isSecretField(object, key)) yield inOneGo(redactSecret(key, item), depth + 1).trimStart();
    else yield* unindented(writeJson(item, depth + 1, slices));
    before = ',\n';
  }
  yield before === ',\n' ? `\n${' '.repeat(depth)}}` : `${' '.repeat(depth)}{}`;
}

/** The same text in fewer pieces: each is a write to the client. */
export async function* joined(pieces: AsyncIterable<string>): AsyncGenerator<string> {
  let text = '';
  for await (const piece of pieces) {
    text += piece;
    if (text.length < PIECE_CHARACTERS) continue;
    yield text;
    text = '';
  }
  if (text !== '') yield text;
}

/** Behind a key the first line has no indentation. */
async function* unindented(pieces: AsyncIterable<string>): AsyncGenerator<string> {
  let first = true;
  for await (const piece of pieces) {
    yield first ? piece.trimStart() : piece;
    first = false;
  }
}

async function* writePacked(any: PackedAny, depth: number, slices: Slices): AsyncGenerator<string> {
  const { packed, type } = any;
  if (packed === undefined || packed.end - packed.start <= SMALL_BYTES) yield* writeJson(any.json, depth, slices);
  else yield* writeRange(packed.bytes, { key: undefined, start: packed.start, end: packed.end }, depth, slices, type);
}

/** `type`: stands before the fields of an object. */
async function* writeRange(
  bytes: Buffer,
  { start, end }: JsonRange,
  depth: number,
  slices: Slices,
  type: string | undefined,
): AsyncGenerator<string> {
  const isObject = bytes[start] === 0x7b;
  const isList = bytes[start] === 0x5b;
  if ((end - start <= SMALL_BYTES && type === undefined) || !(isObject || isList)) {
    yield* writeJson(JSON.parse(bytes.toString('utf8', start, end)), depth, slices);
    return;
  }
  const [open, close] = isObject ? '{}' : '[]';
  const inner = ' '.repeat(depth + 1);
  let before = `${' '.repeat(depth)}${open}\n`;
  if (type !== undefined) {
    yield `${before}${inner}"@type": ${JSON.stringify(type)}`;
    before = ',\n';
  }
  for (const child of jsonChildren(bytes, start, end)) {
    if (slices.over) await slices.next();
    if (child === undefined) continue;
    const { key } = child;
    if (key === undefined) yield before;
    else yield `${before}${inner}${JSON.stringify(key)}: `;
    if (key !== undefined && isSecretField({ key: key.endsWith('value') ? headerKey(bytes, start, end) : '' }, key)) {
      const secret: unknown = JSON.parse(bytes.toString('utf8', child.start, child.end));
      yield inOneGo(redactSecret(key, secret), depth + 1).trimStart();
    } else {
      const pieces = writeRange(bytes, child, depth + 1, slices, undefined);
      yield* key === undefined ? pieces : unindented(pieces);
    }
    before = ',\n';
  }
  yield `\n${' '.repeat(depth)}${close}`;
}

/** What an object calls `key`: the name of a header, where it is one. */
function headerKey(bytes: Buffer, start: number, end: number): unknown {
  for (const field of jsonChildren(bytes, start, end)) {
    if (field?.key === 'key') return JSON.parse(bytes.toString('utf8', field.start, field.end));
  }
  return undefined;
}

function inOneGo(value: unknown, depth: number): string {
  const prefix = ' '.repeat(depth);
  return prefix + JSON.stringify(value, undefined, 1).replaceAll('\n', `\n${prefix}`);
}

/** Whether it has few nodes, and nothing that is packed. */
function isSmall(value: unknown): boolean {
  return nodesLeft(value, SMALL_NODES) >= 0;
}

function nodesLeft(value: unknown, most: number): number {
  let left = most - 1;
  if (value === null || typeof value !== 'object') return left;
  if (value instanceof PackedAny) return -1;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length && left >= 0; i++) left = nodesLeft(value[i], left);
    return left;
  }
  const object = value as Readonly<Record<string, unknown>>;
  for (const key in object) {
    left = nodesLeft(object[key], left);
    if (left < 0) break;
  }
  return left;
}

/**
 * Binary protobuf to protobuf JSON with the protos' own field names. Unknown fields are left out and named; an Any of
 * an unknown type keeps its `@type` and nothing else, for whoever builds it to refuse. Check the result with readMessage.
 */
import assert from 'node:assert';
import { type DescEnum, type DescField, type DescMessage, ScalarType } from '@bufbuild/protobuf';
import type { Json } from '../resources.ts';
import { descriptors } from './descriptors.ts';
import { scalarDefault } from './scalars.ts';
import { LENGTH, WireError, WireReader } from './wire_reader.ts';

export interface Decoded {
  readonly json: Json;
  /** Message type and field number of what the descriptors do not have: `envoy.config.cluster.v3.Cluster 999`. */
  readonly unknownFields: readonly string[];
}

/** As protobuf's own libraries. */
const MAX_DEPTH = 100;

/** @throws {WireError} for bytes that are no such message. */
export function decodeMessage(typeName: string, bytes: Buffer): Decoded {
  const type = descriptors().getMessage(typeName);
  assert(type !== undefined, `no descriptor of ${typeName}`);
  const decoder = new Decoder();
  return { json: decoder.message(type, new WireReader(bytes)) as Json, unknownFields: [...decoder.unknown] };
}

interface FieldReader {
  readonly descriptor: DescField;
  /** Other members of its oneof. */
  readonly rivals: readonly string[];
}

const readers = new Map<DescMessage, ReadonlyMap<number, FieldReader>>();

function readersOf(type: DescMessage): ReadonlyMap<number, FieldReader> {
  let found = readers.get(type);
  if (found === undefined) {
    found = new Map(
      type.fields.map((descriptor) => [
        descriptor.number,
        {
          descriptor,
          rivals: (descriptor.oneof?.fields ?? []).map(({ name }) => name).filter((name) => name !== descriptor.name),
        },
      ]),
    );
    readers.set(type, found);
  }
  return found;
}

type Open = Record<string, unknown>;

class Decoder {
  readonly unknown = new Set<string>();
  #depth = 0;

  /** Reads to the end of what the reader may see. */
  message(type: DescMessage, reader: WireReader, into?: unknown): unknown {
    if (++this.#depth > MAX_DEPTH) throw new WireError(`messages nest deeper than ${MAX_DEPTH}`);
    const value = this.#read(type, reader, into);
    this.#depth--;
    return value;
  }

  #read(type: DescMessage, reader: WireReader, into: unknown): unknown {
    switch (type.typeName) {
      case 'google.protobuf.Any':
        return this.#any(reader);
      case 'google.protobuf.Duration':
        return durationText(this.#fields(type, reader, {}));
      case 'google.protobuf.Timestamp':
        return timestampText(this.#fields(type, reader, {}));
      case 'google.protobuf.FieldMask':
        return ((this.#fields(type, reader, {})['paths'] as string[] | undefined) ?? []).join(',');
      case 'google.protobuf.Struct':
        return this.#fields(type, reader, {})['fields'] ?? {};
      case 'google.protobuf.ListValue':
        return this.#fields(type, reader, {})['values'] ?? [];
      case 'google.protobuf.Value':
        return Object.values(this.#fields(type, reader, {}))[0] ?? null;
      default:
        break;
    }
    if (type.typeName.startsWith('google.protobuf.') && type.typeName.endsWith('Value')) {
      const field = type.fields[0] as DescField & { fieldKind: 'scalar' };
      return this.#fields(type, reader, {})['value'] ?? scalarDefault(field.scalar);
    }
    return this.#fields(type, reader, (into as Open | undefined) ?? {});
  }

  #fields(type: DescMessage, reader: WireReader, out: Open): Open {
    const fields = readersOf(type);
    while (!reader.isAtEnd) {
      const tag = reader.tag();
      const field = fields.get(tag >>> 3);
      if (field === undefined || !this.#field(field, tag & 7, reader, out)) {
        this.unknown.add(`${type.typeName} ${tag >>> 3}`);
        reader.skip(tag & 7);
      }
    }
    return out;
  }

  /** @returns false for a wire type that the field cannot have: it counts as unknown. */
  #field({ descriptor, rivals }: FieldReader, wireType: number, reader: WireReader, out: Open): boolean {
    const { name } = descriptor;
    switch (descriptor.fieldKind) {
      case 'message': {
        if (wireType !== LENGTH) return false;
        // A field that comes twice is merged.
        out[name] = this.#inner(descriptor.message, reader, out[name]);
        break;
      }
      case 'scalar':
        if (wireType !== wireTypeOf(descriptor.scalar)) return false;
        out[name] = scalar(descriptor.scalar, reader);
        break;
      case 'enum':
        if (wireType !== 0) return false;
        out[name] = enumValue(descriptor.enum, reader);
        break;
      case 'list':
        return this.#list(descriptor, wireType, reader, out);
      case 'map':
        if (wireType !== LENGTH) return false;
        this.#mapEntry(descriptor, reader, out);
        break;
    }
    for (const rival of rivals) delete out[rival];
    return true;
  }

  #inner(type: DescMessage, reader: WireReader, into?: unknown): unknown {
    const outer = reader.enter();
    const value = this.message(type, reader, into);
    reader.leave(outer);
    return value;
  }

  #list(field: DescField & { fieldKind: 'list' }, wireType: number, reader: WireReader, out: Open): boolean {
    const list = (out[field.name] as unknown[] | undefined) ?? [];
    if (field.listKind === 'message') {
      if (wireType !== LENGTH) return false;
      list.push(this.#inner(field.message, reader));
    } else {
      const single = field.listKind === 'enum' ? 0 : wireTypeOf(field.scalar);
      const one = (): unknown =>
        field.listKind === 'enum' ? enumValue(field.enum, reader) : scalar(field.scalar, reader);
      if (wireType === single) list.push(one());
      else if (wireType === LENGTH) {
        const outer = reader.enter();
        while (!reader.isAtEnd) list.push(one());
        reader.leave(outer);
      } else return false;
    }
    out[field.name] = list;
    return true;
  }

  #mapEntry(field: DescField & { fieldKind: 'map' }, reader: WireReader, out: Open): void {
    // Without a prototype: the keys are of somebody's choosing.
    const map = (out[field.name] as Open | undefined) ?? (Object.create(null) as Open);
    let key: unknown = scalarDefault(field.mapKey);
    let value: unknown;
    const outer = reader.enter();
    while (!reader.isAtEnd) {
      const tag = reader.tag();
      if (tag >>> 3 === 1) key = scalar(field.mapKey, reader);
      else if (tag >>> 3 !== 2) reader.skip(tag & 7);
      else if (field.mapKind === 'message') value = this.#inner(field.message, reader);
      else if (field.mapKind === 'enum') value = enumValue(field.enum, reader);
      else value = scalar(field.scalar, reader);
    }
    reader.leave(outer);
    if (value === undefined) {
      if (field.mapKind === 'message') value = this.message(field.message, new WireReader(Buffer.alloc(0)));
      else value = field.mapKind === 'enum' ? (field.enum.values[0]?.name ?? 0) : scalarDefault(field.scalar);
    }
    map[String(key)] = value;
    out[field.name] = map;
  }

  #any(reader: WireReader): unknown {
    const { typeUrl, value } = readAny(reader);
    if (typeUrl === '' && value.length === 0) return {};
    const type = descriptors().getMessage(typeUrl.slice(typeUrl.lastIndexOf('/') + 1));
    if (type === undefined) return { '@type': typeUrl };
    const content = this.message(type, new WireReader(value));
    const isPlain = type.typeName.startsWith('google.protobuf.') && type.typeName !== 'google.protobuf.Empty';
    return isPlain ? { '@type': typeUrl, value: content } : { '@type': typeUrl, ...(content as Open) };
  }
}

/** google.protobuf.Any with its content unread. */
export function readAny(reader: WireReader): { readonly typeUrl: string; readonly value: Buffer } {
  let typeUrl = '';
  let value: Buffer = Buffer.alloc(0);
  while (!reader.isAtEnd) {
    const tag = reader.tag();
    if (tag === 0x0a) typeUrl = reader.string();
    else if (tag === 0x12) value = reader.bytes();
    else reader.skip(tag & 7);
  }
  return { typeUrl, value };
}

function enumValue(type: DescEnum, reader: WireReader): unknown {
  const number = reader.uint32() | 0;
  if (type.typeName === 'google.protobuf.NullValue') return null;
  return type.value[number]?.name ?? number;
}

function wireTypeOf(type: ScalarType): number {
  switch (type) {
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return LENGTH;
    case ScalarType.DOUBLE:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return 1;
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
      return 5;
    default:
      return 0;
  }
}

function scalar(type: ScalarType, reader: WireReader): unknown {
  switch (type) {
    case ScalarType.STRING:
      return reader.string();
    case ScalarType.BYTES:
      return reader.bytes().toString('base64');
    case ScalarType.BOOL:
      return reader.uint64() !== 0n;
    case ScalarType.INT32:
      return reader.uint32() | 0;
    case ScalarType.UINT32:
      return reader.uint32();
    case ScalarType.SINT32: {
      const value = reader.uint32();
      return (value >>> 1) ^ -(value & 1);
    }
    case ScalarType.FIXED32:
      return reader.fixed32();
    case ScalarType.SFIXED32:
      return reader.fixed32() | 0;
    case ScalarType.INT64:
      return String(BigInt.asIntN(64, reader.uint64()));
    case ScalarType.UINT64:
      return String(reader.uint64());
    case ScalarType.SINT64: {
      const value = reader.uint64();
      return String((value >> 1n) ^ -(value & 1n));
    }
    case ScalarType.FIXED64:
      return String(reader.fixed64());
    case ScalarType.SFIXED64:
      return String(BigInt.asIntN(64, reader.fixed64()));
    case ScalarType.FLOAT:
      return special(shortest(reader.float()));
    case ScalarType.DOUBLE:
      return special(reader.double());
  }
}

/** 0.1 as a float is 0.1 again, not 0.10000000149011612. */
function shortest(value: number): number {
  if (!Number.isFinite(value)) return value;
  for (let digits = 6; digits < 9; digits++) {
    const text = Number(value.toPrecision(digits));
    if (Math.fround(text) === value) return text;
  }
  return value;
}

function special(value: number): number | string {
  return Number.isFinite(value) ? value : Number.isNaN(value) ? 'NaN' : value > 0 ? 'Infinity' : '-Infinity';
}

function durationText(fields: Open): string {
  const seconds = BigInt((fields['seconds'] as string | undefined) ?? '0');
  const nanos = (fields['nanos'] as number | undefined) ?? 0;
  if (Math.abs(nanos) > 999_999_999) throw new WireError('a duration has more than a second of nanoseconds');
  const sign = seconds < 0n || nanos < 0 ? '-' : '';
  const whole = seconds < 0n ? -seconds : seconds;
  const fraction = nanos === 0 ? '' : `.${String(Math.abs(nanos)).padStart(9, '0')}`;
  return `${sign}${whole}${fraction}s`;
}

function timestampText(fields: Open): string {
  const seconds = Number((fields['seconds'] as string | undefined) ?? '0');
  const nanos = (fields['nanos'] as number | undefined) ?? 0;
  const date = new Date(seconds * 1000);
  if (Number.isNaN(date.getTime())) throw new WireError('a time is out of range');
  const fraction = nanos === 0 ? '' : `.${String(nanos).padStart(9, '0')}`;
  return `${date.toISOString().slice(0, 19)}${fraction}Z`;
}

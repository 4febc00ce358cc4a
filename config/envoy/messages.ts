/**
 * Reads protobuf JSON as strictly as Envoy does: unknown fields, wrong types, required oneofs and the validate
 * annotations, each complaint with its field; what comes out is in one canonical spelling.
 */
import assert from 'node:assert';
import type { DescEnum, DescField, DescMessage, ScalarType } from '@bufbuild/protobuf';
import { ConfigError } from '../../proxy/config_error.ts';
import { show } from '../../proxy/resource_fields.ts';
import { closest } from '../istio/spelling.ts';
import type { Json } from '../resources.ts';
import { descriptors } from './descriptors.ts';
import { type FieldPlan, type MessagePlan, planOf } from './message_plan.ts';
import { isEmptyScalar, readEnum, readScalar } from './scalars.ts';
import { readWellKnown, wellKnownKind } from './well_known_types.ts';

export interface ReadOptions {
  /** `collect`: they are left out and named in `unknown`. An unknown enum value or extension is never left out. */
  readonly unknownFields: 'refuse' | 'collect';
  /**
   * It is what decodeMessage gave, and nobody else's: a field has one spelling there and a oneof one member, and what is
   * read is written over it. Default false.
   */
  readonly isDecoded?: boolean;
}

export interface ReadResult {
  /**
   * The proto's own field names; enum values by name; defaults of fields without presence left out; 64-bit numbers
   * as strings; `Any` with `@type` and its content, which stays as it was when the type is not known.
   */
  readonly json: Json;
  /** Paths. Empty when unknown fields are refused. */
  readonly unknown: readonly string[];
}

/** A complaint about one field of a message. */
export class MessageError extends ConfigError {
  /** Keys and indexes as the input spells them, for finding the place in a file. */
  readonly keys: readonly (string | number)[];

  constructor(path: string, sentence: string, keys: readonly (string | number)[]) {
    super(path, sentence);
    this.name = 'MessageError';
    this.keys = keys;
  }
}

/**
 * @param typeName a message of the descriptors: `envoy.config.cluster.v3.Cluster`.
 * @throws {MessageError}
 */
export function readMessage(typeName: string, json: unknown, options: ReadOptions): ReadResult {
  const type = descriptors().getMessage(typeName);
  assert(type !== undefined, `no descriptor of ${typeName}`);
  const reader = new MessageReader(options);
  return { json: reader.read(type, json) as Json, unknown: reader.unknown };
}

/** Before a key of a map, in the reader's path: no field's name begins so. */
const IN_MAP = '\0';
const WRAPPED_KEYS = new Set(['@type', 'value']);

class MessageReader {
  readonly unknown: string[] = [];
  readonly #collects: boolean;
  readonly #isDecoded: boolean;
  /** Where the reader stands: as the input spells it, and as the complaint does (indexes and keys of maps as such). */
  readonly #keys: (string | number)[] = [];
  readonly #names: (string | number)[] = [];
  /** False below a field whose message the annotations exempt. */
  #validates = true;

  constructor({ unknownFields, isDecoded = false }: ReadOptions) {
    this.#collects = unknownFields === 'collect';
    this.#isDecoded = isDecoded;
  }

  read(type: DescMessage, json: unknown): unknown {
    try {
      return this.message(type, json);
    } catch (error) {
      if (!(error instanceof ConfigError) || error instanceof MessageError) throw error;
      // A complaint about one value, which knows no path: the reader still stands there.
      return this.#fail(error.message);
    }
  }

  message(type: DescMessage, json: unknown): unknown {
    if (type.typeName === 'google.protobuf.Any') return this.#any(json);
    if (wellKnownKind(type) !== undefined) return readWellKnown(type, json);
    return this.#fields(type, this.#object(json), undefined);
  }

  #object(json: unknown): Readonly<Record<string, unknown>> {
    if (json === null || typeof json !== 'object' || Array.isArray(json)) {
      return this.#fail(`an object is wanted, got ${show(json)}`);
    }
    return json as Readonly<Record<string, unknown>>;
  }

  /** `typeUrl`: the message stands in an Any. */
  #fields(type: DescMessage, json: Readonly<Record<string, unknown>>, typeUrl: string | undefined): Json {
    const plan = planOf(type);
    const out: Record<string, unknown> = this.#isDecoded ? json : {};
    if (typeUrl !== undefined) out['@type'] = typeUrl;
    const given = this.#isDecoded ? undefined : new Map<FieldPlan | string, string>();
    for (const key of Object.keys(json)) {
      if (key === '@type' && typeUrl !== undefined) continue;
      const field = plan.byKey.get(key);
      if (field === undefined) {
        this.#unknownField(plan, key);
        continue;
      }
      const value = json[key];
      if (value === undefined || (value === null && !field.takesNull)) continue;
      this.#enter(key, field.name);
      if (given !== undefined) this.#onlyOne(field, key, given);
      if (field.isDisallowed) this.#fail('is not supported any more: Envoy refuses it');
      const read = this.#field(field, value);
      if (read !== undefined) out[field.name] = read;
      else if (this.#isDecoded) delete out[field.name];
      this.#leave();
    }
    if (this.#validates) this.#validate(plan, out, given);
    return out;
  }

  /** A field has two spellings, and a oneof takes one member. */
  #onlyOne(field: FieldPlan, key: string, given: Map<FieldPlan | string, string>): void {
    const other = given.get(field);
    if (other !== undefined) this.#fail(`is given twice, as ${other} and as ${key}`);
    given.set(field, key);
    if (field.oneof === undefined) return;
    const rival = given.get(field.oneof);
    if (rival !== undefined) this.#fail(`cannot stand beside ${rival}: only one of them may be set`);
    given.set(field.oneof, field.name);
  }

  #unknownField(plan: MessagePlan, key: string): void {
    this.#enter(key, key);
    if (this.#collects) this.unknown.push(this.#where());
    else {
      const near = key.startsWith('@') ? undefined : closest(key, plan.names);
      this.#fail(
        near === undefined
          ? `is not a field of ${plan.typeName}`
          : `is not a field of ${plan.typeName}; did you mean ${near}?`,
      );
    }
    this.#leave();
  }

  /** @returns undefined for a value that canonical JSON leaves out. */
  #field({ descriptor: field, rules, hasPresence }: FieldPlan, value: unknown): unknown {
    switch (field.fieldKind) {
      case 'scalar': {
        const read = readScalar(field.scalar, value);
        return !hasPresence && isEmptyScalar(read) ? undefined : read;
      }
      case 'enum': {
        const read = this.#enum(field.enum, value, rules.isDefinedOnly);
        return !hasPresence && read === field.enum.values[0]?.name ? undefined : read;
      }
      case 'message':
        return this.#inner(field.message, value, rules.skip);
      case 'list':
        return this.#list(field, value, rules);
      case 'map':
        return this.#map(field, value, rules);
    }
  }

  #inner(type: DescMessage, value: unknown, skip: boolean): unknown {
    const before = this.#validates;
    this.#validates = before && !skip;
    const read = this.message(type, value);
    this.#validates = before;
    return read;
  }

  #list(field: DescField & { fieldKind: 'list' }, value: unknown, rules: FieldPlan['rules']): unknown {
    // Envoy takes a single item for a list of one.
    if (!Array.isArray(value)) return [this.#listItem(field, value, rules)];
    if (value.length === 0) return undefined;
    const out: unknown[] = this.#isDecoded ? value : [];
    for (let index = 0; index < value.length; index++) {
      this.#enter(index, index);
      out[index] = this.#listItem(field, value[index], rules);
      this.#leave();
    }
    return out;
  }

  #listItem(field: DescField & { fieldKind: 'list' }, item: unknown, rules: FieldPlan['rules']): unknown {
    const read = this.#item(field, item, rules);
    this.#complain(rules.item?.(read));
    return read;
  }

  #map(field: DescField & { fieldKind: 'map' }, value: unknown, rules: FieldPlan['rules']): unknown {
    const map = this.#object(value);
    const keys = Object.keys(map);
    if (keys.length === 0) return undefined;
    // Without a prototype: the keys are of somebody's choosing.
    const out: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
    for (const key of keys) {
      this.#enter(key, IN_MAP + key);
      readScalar(field.mapKey, key, 'key');
      this.#complain(rules.key?.(key));
      const read = this.#item(field, map[key], rules);
      this.#complain(rules.item?.(read));
      out[key] = read;
      this.#leave();
    }
    return out;
  }

  #item(
    field: DescField & { fieldKind: 'list' | 'map' },
    item: unknown,
    { isDefinedOnly, skip }: FieldPlan['rules'],
  ): unknown {
    if (field.message !== undefined) return this.#inner(field.message, item, skip);
    if (field.enum !== undefined) return this.#enum(field.enum, item, isDefinedOnly);
    return readScalar(field.scalar as ScalarType, item);
  }

  #enum(type: DescEnum, value: unknown, isDefinedOnly: boolean): unknown {
    return readEnum(type, value, isDefinedOnly && this.#validates);
  }

  #any(json: unknown): unknown {
    const fields = this.#object(json);
    const typeUrl = fields['@type'];
    if (typeUrl === undefined) {
      if (Object.keys(fields).length === 0) return {};
      return this.#fail('"@type" is required: it says what the other fields mean');
    }
    if (typeof typeUrl !== 'string' || !typeUrl.includes('/')) {
      this.#enter('@type', '@type');
      return this.#fail(`a type such as "type.googleapis.com/package.Message" is wanted, got ${show(typeUrl)}`);
    }
    const type = descriptors().getMessage(typeUrl.slice(typeUrl.lastIndexOf('/') + 1));
    if (type === undefined) return json;
    const known = `type.googleapis.com/${type.typeName}`;
    if (wellKnownKind(type) === undefined) return this.#fields(type, fields, known);
    for (const key of Object.keys(fields)) {
      if (WRAPPED_KEYS.has(key)) continue;
      this.#enter(key, key);
      if (!this.#collects) this.#fail(`is not a field here: ${type.typeName} has its content in "value"`);
      this.unknown.push(this.#where());
      this.#leave();
    }
    this.#enter('value', 'value');
    const value = this.message(type, fields['value']);
    this.#leave();
    return { '@type': known, value };
  }

  /** After all fields were read: the rules that also hold for what is not there. */
  #validate(plan: MessagePlan, out: Json, given: ReadonlyMap<FieldPlan | string, string> | undefined): void {
    for (const field of plan.checked) {
      const value = out[field.name] ?? field.absent;
      let complaint: string | undefined;
      if (value !== undefined) complaint = field.rules.check?.(value);
      else if (field.rules.required) complaint = 'is required';
      if (complaint === undefined) continue;
      this.#enter(given?.get(field) ?? field.name, field.name);
      this.#fail(complaint);
    }
    for (const members of plan.requiredOneofs) {
      if (hasOneOf(out, members)) continue;
      this.#fail(members.length === 1 ? `${members[0]} is required` : `one of ${members.join(', ')} is required`);
    }
  }

  #enter(key: string | number, name: string | number): void {
    this.#keys.push(key);
    this.#names.push(name);
  }

  #leave(): void {
    this.#keys.pop();
    this.#names.pop();
  }

  #where(): string {
    let path = '';
    for (const name of this.#names) {
      if (typeof name === 'number') path += `[${name}]`;
      else if (name.startsWith(IN_MAP)) path += `[${name.slice(IN_MAP.length)}]`;
      else path += path === '' ? name : `.${name}`;
    }
    return path;
  }

  #complain(complaint: string | undefined): void {
    if (complaint !== undefined && this.#validates) this.#fail(complaint);
  }

  #fail(sentence: string): never {
    throw new MessageError(this.#where(), sentence, [...this.#keys]);
  }
}

function hasOneOf(json: Json, names: readonly string[]): boolean {
  for (const name of names) if (json[name] !== undefined) return true;
  return false;
}

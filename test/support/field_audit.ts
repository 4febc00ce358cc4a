/** Finds fields of a message that code passes over: sets each in turn, lets the code read it, and looks whether it did. */
import type { DescField, DescMessage } from '@bufbuild/protobuf';
import { descriptors } from '../../config/envoy/descriptors.ts';
import { type FieldPlan, planOf } from '../../config/envoy/message_plan.ts';
import { readMessage } from '../../config/envoy/messages.ts';
import { wellKnownKind } from '../../config/envoy/well_known_types.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import { Fields } from '../../proxy/resource_fields.ts';

type Json = Record<string, unknown>;

export interface AuditRoot {
  /** The message's full name. */
  readonly type: string;
  /** The least that the reader takes; undefined: what the annotations ask for. */
  readonly base?: Json | undefined;
  /** Whatever in the product reads the message; may be a promise. @throws {ConfigError} */
  read(json: Json): unknown;
}

export interface AuditOptions {
  /** What stands in a message of this type when it is there at all, by full name. */
  readonly samples: Readonly<Record<string, Json>>;
  /** The value that one field is set to, by `Type.field`, and what has to stand beside it. */
  readonly values: Readonly<Record<string, unknown>>;
  readonly beside: Readonly<Record<string, Json>>;
  /** Types into which the walk does not go. */
  readonly closed: ReadonlySet<string>;
}

export type Verdict = 'read' | 'refused' | 'passed over' | 'cannot be set';

export interface Finding {
  /** `envoy.config.cluster.v3.Cluster.name` */
  readonly field: string;
  readonly verdict: Verdict;
  /** Of a refusal, or of what stands in the way. */
  readonly sentence: string;
  readonly json: Json;
}

const MAX_DEPTH = 8;

type Step = { readonly field: DescField; readonly container: DescMessage };

/** Each type below the root once, where the walk meets it first; nothing below what is passed over or refused. */
export async function auditFields(root: AuditRoot, options: AuditOptions): Promise<Finding[]> {
  const type = messageOf(root.type);
  const findings: Finding[] = [];
  const seen = new Set([root.type, ...options.closed]);
  const queue: { readonly type: DescMessage; readonly path: readonly Step[] }[] = [{ type, path: [] }];
  for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
    for (const field of next.type.fields) {
      const path = [...next.path, { field, container: next.type }];
      findings.push(await auditField(root, path, options));
      const inner = field.message;
      if (findings.at(-1)?.verdict !== 'read' || inner === undefined) continue;
      if (isLeaf(inner) || seen.has(inner.typeName)) continue;
      seen.add(inner.typeName);
      queue.push({ type: inner, path });
    }
  }
  return findings;
}

async function auditField(root: AuditRoot, path: readonly Step[], options: AuditOptions): Promise<Finding> {
  const last = path.at(-1) as Step;
  const field = `${last.container.typeName}.${last.field.name}`;
  let verdict: Verdict = 'cannot be set';
  let sentence = 'it has no value';
  let json: Json = {};
  // An enum may have values that are refused: the field is read if one of them is.
  for (const value of valuesOf(last.field, last.container, options)) {
    const made = place(root, path, value, options);
    ({ json } = made);
    try {
      json = readMessage(root.type, made.json, { unknownFields: 'refuse' }).json as Json;
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      sentence = error.message;
      if (/not supported any more/.test(sentence)) return { field, verdict: 'refused', sentence, json };
      continue;
    }
    const outcome = await watched(() => root.read(json), path, json);
    if (outcome.verdict === 'read' || outcome.verdict === 'passed over') return { field, ...outcome, json };
    ({ verdict, sentence } = outcome);
  }
  return { field, verdict, sentence, json };
}

/** Runs `read` and says what became of the field at the end of the path. */
async function watched(
  read: () => unknown,
  path: readonly Step[],
  json: Json,
): Promise<Pick<Finding, 'verdict' | 'sentence'>> {
  const name = (path.at(-1) as Step).field.name;
  const container = containerIn(json, path);
  const shape = shapeOf(container);
  let isRead = false;
  const plain = Fields.prototype.raw;
  Fields.prototype.raw = function raw(this: Fields, asked: string): unknown {
    if (asked === name && (this.json === container || shapeOf(this.json) === shape)) isRead = true;
    return plain.call(this, asked);
  };
  try {
    await read();
    return { verdict: isRead ? 'read' : 'passed over', sentence: '' };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { verdict: verdictOf(error, path.at(-1) as Step, isRead), sentence: error.message };
  } finally {
    Fields.prototype.raw = plain;
  }
}

/** A complaint about the field itself refuses it; one about what is in it, or about its neighbour, came of reading it. */
function verdictOf({ path, message }: ConfigError, { field }: Step, isRead: boolean): Verdict {
  const labels = path.replace(/\[[^\]]*\]/g, '').split('.');
  // Of a oneof, the members that are executed may be named instead.
  const names = [field.name, ...(field.oneof?.fields ?? []).map((rival) => rival.name)];
  const ownWords = path === '' ? message : '';
  if (names.some((name) => labels.at(-1) === name || ownWords.includes(name))) return 'refused';
  return isRead || labels.includes(field.name) ? 'read' : 'cannot be set';
}

function containerIn(json: Json, path: readonly Step[]): Json {
  let here: unknown = json;
  for (const { field } of path.slice(0, -1)) {
    const value = (here as Json)[field.name];
    here =
      field.fieldKind === 'list'
        ? (value as unknown[])[0]
        : field.fieldKind === 'map'
          ? Object.values(value as Json)[0]
          : value;
  }
  return here as Json;
}

function shapeOf(json: unknown): string {
  const { '@type': _, ...rest } = (json ?? {}) as Json;
  return JSON.stringify(rest);
}

function place(root: AuditRoot, path: readonly Step[], value: unknown, options: AuditOptions): { json: Json } {
  const json = structuredClone(root.base ?? (leastOf(messageOf(root.type), options) as Json));
  let here: Json = json;
  path.forEach(({ field, container }, index) => {
    const isLast = index === path.length - 1;
    for (const [key, item] of Object.entries(options.beside[`${container.typeName}.${field.name}`] ?? {})) {
      if (item === null) delete here[key];
      else here[key] = structuredClone(item);
    }
    for (const rival of field.oneof?.fields ?? []) if (rival !== field) delete here[rival.name];
    if (isLast) {
      here[field.name] = value;
      return;
    }
    here = descend(here, field, options);
  });
  return { json };
}

/** The message in a field, made if it is not there. */
function descend(here: Json, field: DescField, options: AuditOptions): Json {
  const fresh = (): Json => leastOf(field.message as DescMessage, options) as Json;
  if (field.fieldKind === 'list') {
    const list = (here[field.name] ?? [fresh()]) as Json[];
    here[field.name] = list;
    return list[0] as Json;
  }
  if (field.fieldKind === 'map') {
    const map = (here[field.name] ?? { x: fresh() }) as Record<string, Json>;
    here[field.name] = map;
    return Object.values(map)[0] as Json;
  }
  here[field.name] ??= fresh();
  return here[field.name] as Json;
}

function* valuesOf(field: DescField, container: DescMessage, options: AuditOptions): Iterable<unknown> {
  const key = `${container.typeName}.${field.name}`;
  if (Object.hasOwn(options.values, key)) {
    yield structuredClone(options.values[key]);
    return;
  }
  for (const value of single(field, options)) yield* filled(field, value);
}

/** One item or, where that is not enough, two. */
function* filled(field: DescField, value: unknown): Iterable<unknown> {
  if (field.fieldKind !== 'list') yield field.fieldKind === 'map' ? { x: value } : value;
  else yield* [[value], [value, structuredClone(value)]];
}

function* single(field: DescField, options: AuditOptions, depth = 0): Iterable<unknown> {
  if (field.message !== undefined) {
    if (/^google\.protobuf\.\w*(?:Int\d+|Float|Double)Value$/.test(field.message.typeName)) yield* NUMBERS;
    else yield leastOf(field.message, options, depth);
    return;
  }
  if (field.enum !== undefined) {
    for (const value of field.enum.values.slice(1)) yield value.name;
    return;
  }
  yield* scalarValues(field.scalar as number);
}

/** A port, a count, a status, an interval, a window: one of them is within any rule. */
const NUMBERS: readonly unknown[] = [7, 1, 200, 1000, 70_000];

/** bool, string and bytes by their protobuf numbers; all else is a number. */
function scalarValues(scalar: number): readonly unknown[] {
  return (
    (
      { 8: [true], 9: ['x', '/x', '127.0.0.1', 'ab'.repeat(32), 'A'.repeat(43).concat('=')], 12: ['eA=='] } as Record<
        number,
        unknown[]
      >
    )[scalar] ?? NUMBERS
  );
}

/** The least that the annotations take of a message. */
function leastOf(type: DescMessage, options: AuditOptions, depth = 0): unknown {
  // A matcher of matchers: the samples say where such a thing ends.
  if (depth > MAX_DEPTH) return {};
  if (isLeaf(type)) return structuredClone(WELL_KNOWN[type.typeName] ?? 7);
  const sample = options.samples[type.typeName];
  if (sample !== undefined) return structuredClone(sample);
  const plan = planOf(type);
  const json: Json = {};
  const fill = (name: string): void => {
    const field = plan.byKey.get(name)?.descriptor;
    if (field === undefined) return;
    const { rules } = plan.byKey.get(name) as FieldPlan;
    for (const item of single(field, options, depth + 1)) {
      if (field.fieldKind === 'list' && rules.item?.(item) !== undefined) continue;
      for (const value of filled(field, item)) if (rules.check?.(value) === undefined) json[name] ??= value;
      if (json[name] !== undefined) return;
    }
  };
  for (const { name, rules, absent } of plan.checked) {
    if (rules.required || (absent !== undefined && rules.check?.(absent) !== undefined)) fill(name);
  }
  for (const [first] of plan.requiredOneofs) if (first !== undefined) fill(first);
  return json;
}

const WELL_KNOWN: Readonly<Record<string, unknown>> = {
  'google.protobuf.Duration': '7s',
  'google.protobuf.Timestamp': '2020-01-01T00:00:00Z',
  'google.protobuf.Struct': { x: 'y' },
  'google.protobuf.Value': 'y',
  'google.protobuf.Any': { '@type': 'type.googleapis.com/google.protobuf.Empty' },
  'google.protobuf.BoolValue': true,
  'google.protobuf.StringValue': 'x',
  'google.protobuf.BytesValue': 'eA==',
  'google.protobuf.Empty': {},
};

function isLeaf(type: DescMessage): boolean {
  return type.typeName === 'google.protobuf.Any' || wellKnownKind(type) !== undefined;
}

function messageOf(name: string): DescMessage {
  const type = descriptors().getMessage(name);
  if (type === undefined) throw new Error(`no descriptor of ${name}`);
  return type;
}

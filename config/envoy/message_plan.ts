/** What reading a message type takes, looked up once: fields by both spellings, rules, required oneofs. */
import assert from 'node:assert';
import { type DescField, type DescMessage, getOption, hasOption } from '@bufbuild/protobuf';
import { descriptors } from './descriptors.ts';
import { type FieldRules, isRequired, rulesOf } from './rules.ts';
import { scalarDefault } from './scalars.ts';

export interface FieldPlan {
  /** The proto's own. */
  readonly name: string;
  readonly descriptor: DescField;
  readonly rules: FieldRules;
  /** Whether its default, written out, differs from its absence. */
  readonly hasPresence: boolean;
  /** JSON null is a value of it rather than its absence. */
  readonly takesNull: boolean;
  /** Deprecated so long that Envoy refuses it. */
  readonly isDisallowed: boolean;
  readonly oneof: string | undefined;
  /** What its rules see when it is absent; undefined: nothing, they do not apply. */
  readonly absent: unknown;
}

export interface MessagePlan {
  readonly typeName: string;
  readonly byKey: ReadonlyMap<string, FieldPlan>;
  readonly names: readonly string[];
  /** Fields with rules for the whole value. */
  readonly checked: readonly FieldPlan[];
  /** The members of each. */
  readonly requiredOneofs: readonly (readonly string[])[];
}

/** google.protobuf.FeatureSet.FieldPresence.IMPLICIT: a proto3 scalar that is not optional. */
const IMPLICIT_PRESENCE = 2;
/** Goes with the descriptors. */
const plans = new WeakMap<DescMessage, MessagePlan>();

export function planOf(type: DescMessage): MessagePlan {
  let plan = plans.get(type);
  if (plan === undefined) {
    plan = makePlan(type);
    plans.set(type, plan);
  }
  return plan;
}

function makePlan(type: DescMessage): MessagePlan {
  const fields = type.fields.map(makeField);
  return {
    typeName: type.typeName,
    byKey: new Map(
      fields.flatMap((field) => [
        [field.name, field],
        [field.descriptor.jsonName, field],
      ]),
    ),
    names: fields.map(({ name }) => name),
    checked: fields.filter(({ rules }) => rules.required || rules.check !== undefined),
    requiredOneofs: type.oneofs.filter(isRequired).map((oneof) => oneof.fields.map(({ name }) => name)),
  };
}

function makeField(descriptor: DescField): FieldPlan {
  const hasPresence = descriptor.presence !== IMPLICIT_PRESENCE;
  const oneof = descriptor.oneof?.name;
  const rules = rulesOf(descriptor);
  return {
    name: descriptor.name,
    descriptor,
    // In a oneof, being required is the oneof's affair.
    rules: oneof === undefined ? rules : { ...rules, required: false },
    hasPresence,
    takesNull:
      descriptor.message?.typeName === 'google.protobuf.Value' ||
      descriptor.enum?.typeName === 'google.protobuf.NullValue',
    isDisallowed: isDisallowed(descriptor),
    oneof,
    absent: absentValue(descriptor, hasPresence),
  };
}

function isDisallowed(field: DescField): boolean {
  const extension = descriptors().getExtension('envoy.annotations.disallowed_by_default');
  assert(extension !== undefined);
  return hasOption(field, extension) && getOption(field, extension) === true;
}

function absentValue(field: DescField, hasPresence: boolean): unknown {
  switch (field.fieldKind) {
    case 'list':
      return [];
    case 'map':
      return {};
    case 'enum':
      return hasPresence ? undefined : field.enum.values[0]?.name;
    case 'scalar':
      return hasPresence ? undefined : scalarDefault(field.scalar);
    default:
      return undefined;
  }
}

/**
 * CEL that comes parsed: google.api.expr.v1alpha1.{Expr, ParsedExpr, CheckedExpr} and cel.expr's, which are the same.
 * Operators are calls of functions with odd names (`_==_`), `has(a.b)` is a selection with test_only.
 */
import type { Fields } from '../../resource_fields.ts';
import type { Expression } from './parser.ts';

/** Nodes of one expression: they come from configuration, and deeper or larger ones are refused. */
const MAX_NODES = 1024;
const MAX_DEPTH = 64;

const BINARY: Readonly<Record<string, string>> = {
  '_==_': '==',
  '_!=_': '!=',
  '_<_': '<',
  '_<=_': '<=',
  '_>_': '>',
  '_>=_': '>=',
  '_&&_': '&&',
  '_||_': '||',
  '_+_': '+',
  '_-_': '-',
  '_*_': '*',
  '_/_': '/',
  '_%_': '%',
  '@in': 'in',
  _in_: 'in',
};
const UNARY: Readonly<Record<string, '!' | '-'>> = { '!_': '!', '-_': '-' };

/** @throws {ConfigError} with the place of what is not executed. */
export function readExpression(fields: Fields): Expression {
  return new Reader().read(fields, 0);
}

class Reader {
  #nodes = 0;

  read(fields: Fields, depth: number): Expression {
    if (depth > MAX_DEPTH) fields.fail('id', `a CEL expression nests at most ${MAX_DEPTH} deep`);
    if (++this.#nodes > MAX_NODES) fields.fail('id', `a CEL expression has at most ${MAX_NODES} parts`);
    const inner = (part: Fields): Expression => this.read(part, depth + 1);
    const constant = fields.message('const_expr');
    if (constant !== undefined) return readConstant(constant);
    const name = fields.message('ident_expr');
    if (name !== undefined) return { kind: 'name', name: name.requiredString('name') };
    const select = fields.message('select_expr');
    if (select !== undefined) {
      const field: Expression = {
        kind: 'field',
        of: inner(select.requiredMessage('operand')),
        name: select.requiredString('field'),
      };
      if (select.boolean('test_only') !== true) return field;
      return { kind: 'call', name: 'has', target: undefined, parameters: [field] };
    }
    const call = fields.message('call_expr');
    if (call !== undefined) return this.#call(call, inner);
    const list = fields.message('list_expr');
    if (list !== undefined) {
      if (list.list('optional_indices').length > 0) list.fail('optional_indices', 'is not executed by this version');
      return { kind: 'list', items: list.messages('elements').map(inner) };
    }
    const struct = fields.message('struct_expr');
    if (struct !== undefined) return readMap(struct, inner);
    if (fields.has('comprehension_expr')) {
      fields.fail('comprehension_expr', 'comprehensions (all, exists, map, filter) are not executed, by Envoy neither');
    }
    return fields.fail('call_expr', 'one kind of CEL expression that this version knows is required');
  }

  #call(call: Fields, inner: (part: Fields) => Expression): Expression {
    const name = call.requiredString('function');
    const target = call.message('target');
    const given = call.messages('args');
    const wanted = (count: number): void => {
      if (given.length !== count || target !== undefined) call.fail('args', `${name} takes ${count}`);
    };
    if (Object.hasOwn(BINARY, name)) {
      wanted(2);
      const [left, right] = given.map(inner) as [Expression, Expression];
      return { kind: 'binary', operator: BINARY[name] as string, left, right };
    }
    if (Object.hasOwn(UNARY, name)) {
      wanted(1);
      const [operand] = given.map(inner) as [Expression];
      return { kind: 'unary', operator: UNARY[name] as '!' | '-', operand };
    }
    if (name === '_?_:_') {
      wanted(3);
      const [test, yes, no] = given.map(inner) as [Expression, Expression, Expression];
      return { kind: 'conditional', test, yes, no };
    }
    if (name === '_[_]') {
      wanted(2);
      const [of, key] = given.map(inner) as [Expression, Expression];
      return { kind: 'index', of, key };
    }
    if (!/^[A-Za-z]/.test(name)) call.fail('function', `the CEL function "${name}" is not executed by this version`);
    return {
      kind: 'call',
      name,
      target: target === undefined ? undefined : inner(target),
      parameters: given.map(inner),
    };
  }
}

function readMap(struct: Fields, inner: (part: Fields) => Expression): Expression {
  const type = struct.string('message_name') ?? '';
  if (type !== '') struct.fail('message_name', `messages such as ${type} are not made by this version`);
  return {
    kind: 'map',
    entries: struct
      .messages('entries')
      .map((entry) => [inner(entry.requiredMessage('map_key')), inner(entry.requiredMessage('value'))] as const),
  };
}

function readConstant(fields: Fields): Expression {
  const boolean = fields.boolean('bool_value');
  if (boolean !== undefined) return { kind: 'constant', value: boolean };
  for (const name of ['int64_value', 'uint64_value']) {
    const integer = fields.number(name);
    if (integer === undefined) continue;
    if (!Number.isSafeInteger(integer)) fields.fail(name, 'whole numbers beyond 2^53 are not executed by this version');
    return { kind: 'constant', value: integer };
  }
  const double = fields.number('double_value');
  if (double !== undefined) return { kind: 'constant', value: double, isDouble: true };
  const text = fields.string('string_value');
  if (text !== undefined) return { kind: 'constant', value: text };
  const bytes = fields.string('bytes_value');
  if (bytes !== undefined) return { kind: 'constant', value: Buffer.from(bytes, 'base64').toString() };
  for (const name of ['duration_value', 'timestamp_value'] as const) {
    const value = fields.string(name);
    if (value === undefined) continue;
    const parameters: Expression[] = [{ kind: 'constant', value }];
    return { kind: 'call', name: name.slice(0, name.indexOf('_')), target: undefined, parameters };
  }
  // google.protobuf.NullValue is null in JSON, or its name.
  if (Object.hasOwn(fields.json, 'null_value')) return { kind: 'constant', value: null };
  return fields.fail('string_value', 'a constant of a kind that this version knows is required');
}

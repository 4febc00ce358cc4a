/** CEL text as the parsed form that configurations carry (google.api.expr.v1alpha1.Expr), for tests. */
import type { Json } from '../../config/resources.ts';
import { type Expression, parseCel } from '../../proxy/telemetry/cel/parser.ts';

export function celJson(text: string): Json {
  let id = 0;
  const call = (name: string, args: readonly Expression[], target?: Expression): Json => ({
    id: String(++id),
    call_expr: {
      function: name,
      args: args.map(write),
      ...(target !== undefined && { target: write(target) }),
    },
  });
  return write(parseCel(text));

  function write(expression: Expression): Json {
    switch (expression.kind) {
      case 'constant':
        return { id: String(++id), const_expr: constant(expression.value, expression.isDouble === true) };
      case 'name':
        return { id: String(++id), ident_expr: { name: expression.name } };
      case 'field':
        return { id: String(++id), select_expr: { operand: write(expression.of), field: expression.name } };
      case 'index':
        return call('_[_]', [expression.of, expression.key]);
      case 'unary':
        return call(`${expression.operator}_`, [expression.operand]);
      case 'binary':
        return call(expression.operator === 'in' ? '@in' : `_${expression.operator}_`, [
          expression.left,
          expression.right,
        ]);
      case 'conditional':
        return call('_?_:_', [expression.test, expression.yes, expression.no]);
      case 'list':
        return { id: String(++id), list_expr: { elements: expression.items.map(write) } };
      case 'map':
        return {
          id: String(++id),
          struct_expr: {
            entries: expression.entries.map(([key, value]) => ({
              id: String(++id),
              map_key: write(key),
              value: write(value),
            })),
          },
        };
      case 'call': {
        const [first] = expression.parameters;
        if (expression.name !== 'has' || first?.kind !== 'field') {
          return call(expression.name, expression.parameters, expression.target);
        }
        return { id: String(++id), select_expr: { operand: write(first.of), field: first.name, test_only: true } };
      }
      default:
        return expression satisfies never;
    }
  }
}

function constant(value: unknown, isDouble: boolean): Json {
  switch (typeof value) {
    case 'boolean':
      return { bool_value: value };
    case 'number':
      return isDouble ? { double_value: value } : { int64_value: String(value) };
    case 'string':
      return { string_value: value };
    default:
      return { null_value: null };
  }
}

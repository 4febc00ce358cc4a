/**
 * CEL expressions over the attributes of a stream, compiled to functions. Errors are values: an expression that fails
 * (a missing attribute, a type that does not fit) has no value, and `||`, `&&` and `?:` treat it as the language says.
 * Source: the CEL language definition; Envoy docs "Attributes"; used by access-log filters, %CEL()% and istio.stats.
 */
import { ConfigError } from '../../config_error.ts';
import { Regex } from '../../http/matchers.ts';
import { celFunction, type CelOptions, EVERYTHING } from './functions.ts';
import { type Expression, parseCel } from './parser.ts';
import { CEL_ERROR, equal, index, isCelObject, select } from './values.ts';

/** Reads an attribute by its first name: `request`, `response`, …; CEL_ERROR where there is none of that name. */
export interface CelSource<I> {
  /** @returns how to read a root; undefined: there is no such root. */
  root(name: string): ((input: I) => unknown) | undefined;
  /** The same for a field right below a root, which can be read without making the whole of it. */
  field?(root: string, name: string): ((input: I) => unknown) | undefined;
}

export type Evaluate<I> = (input: I) => unknown;

/** @throws {ConfigError} for text that is no CEL, unknown names and functions. */
export function compileCel<I>(text: string, source: CelSource<I>, options = EVERYTHING): Evaluate<I> {
  return new Compiler(text, source, options).compile(parseCel(text));
}

/** The same for what comes parsed. @throws {ConfigError} for unknown names and functions. */
export function compileExpression<I>(expression: Expression, source: CelSource<I>, options = EVERYTHING): Evaluate<I> {
  return new Compiler('', source, options).compile(expression);
}

/** Whether the value is true; errors are not. */
export function isTrue(value: unknown): boolean {
  return value === true;
}

class Compiler<I> {
  readonly #text: string;
  readonly #source: CelSource<I>;
  readonly #options: CelOptions;

  constructor(text: string, source: CelSource<I>, options: CelOptions) {
    this.#text = text;
    this.#source = source;
    this.#options = options;
  }

  compile(expression: Expression): Evaluate<I> {
    switch (expression.kind) {
      case 'constant': {
        const { value } = expression;
        return () => value;
      }
      case 'name':
        return this.#source.root(expression.name) ?? this.#fail(`there is no attribute "${expression.name}"`);
      case 'field': {
        if (expression.of.kind === 'name') {
          const direct = this.#source.field?.(expression.of.name, expression.name);
          if (direct !== undefined) return direct;
        }
        const of = this.compile(expression.of);
        const { name } = expression;
        return (input) => select(of(input), name);
      }
      case 'index': {
        const [of, key] = [this.compile(expression.of), this.compile(expression.key)];
        return (input) => index(of(input), key(input));
      }
      case 'unary':
        return this.#unary(expression.operator, this.compile(expression.operand));
      case 'binary':
        return this.#binary(
          expression.operator === '/' && isDouble(expression) ? 'double /' : expression.operator,
          this.compile(expression.left),
          this.compile(expression.right),
        );
      case 'conditional': {
        const [test, yes, no] = [
          this.compile(expression.test),
          this.compile(expression.yes),
          this.compile(expression.no),
        ];
        return (input) => {
          const value = test(input);
          return value === true ? yes(input) : value === false ? no(input) : CEL_ERROR;
        };
      }
      case 'list': {
        const items = expression.items.map((item) => this.compile(item));
        return (input) => items.map((item) => item(input));
      }
      case 'map': {
        const entries = expression.entries.map(([key, value]) => [this.compile(key), this.compile(value)] as const);
        return (input) => new Map(entries.map(([key, value]) => [key(input), value(input)]));
      }
      case 'call':
        return this.#call(expression);
      default:
        return expression satisfies never;
    }
  }

  #fail(says: string): never {
    throw new ConfigError('', `CEL${this.#text === '' ? '' : ` "${this.#text.slice(0, 200)}"`}: ${says}`);
  }

  #unary(operator: '!' | '-', operand: Evaluate<I>): Evaluate<I> {
    if (operator === '!') {
      return (input) => {
        const value = operand(input);
        return typeof value === 'boolean' ? !value : CEL_ERROR;
      };
    }
    return (input) => {
      const value = operand(input);
      return typeof value === 'number' ? -value : CEL_ERROR;
    };
  }

  #binary(operator: string, left: Evaluate<I>, right: Evaluate<I>): Evaluate<I> {
    // Either side decides, whatever became of the other: CEL's logical operators are commutative.
    if (operator === '||' || operator === '&&') {
      const deciding = operator === '||';
      return (input) => {
        const first = left(input);
        if (first === deciding) return deciding;
        const second = right(input);
        if (second === deciding) return deciding;
        return typeof first === 'boolean' && typeof second === 'boolean' ? !deciding : CEL_ERROR;
      };
    }
    const name = operator === '+' && this.#options.concatenation ? 'text +' : operator;
    const apply = BINARY[name] ?? this.#fail(`there is no operator ${operator}`);
    return (input) => {
      const first = left(input);
      if (first === CEL_ERROR) return CEL_ERROR;
      const second = right(input);
      return second === CEL_ERROR ? CEL_ERROR : apply(first, second);
    };
  }

  #call({ name, target, parameters }: Extract<Expression, { kind: 'call' }>): Evaluate<I> {
    if (target === undefined && name === 'has') return this.#has(parameters);
    const given = [...(target === undefined ? [] : [target]), ...parameters];
    if (name === 'matches') return this.#matches(given);
    const known = celFunction(name, this.#options);
    if (known === undefined) return this.#fail(`there is no function ${name}`);
    if (!known.arities.includes(given.length)) {
      return this.#fail(`${name} takes ${known.arities.join(' or ')} values, got ${given.length}`);
    }
    const values = given.map((item) => this.compile(item));
    return (input) => {
      const made = values.map((value) => value(input));
      return made.includes(CEL_ERROR) ? CEL_ERROR : known.apply(...made);
    };
  }

  #has(parameters: readonly Expression[]): Evaluate<I> {
    const [field] = parameters;
    if (parameters.length !== 1 || field?.kind !== 'field') return this.#fail('has() takes one field: has(a.b)');
    const of = this.compile(field.of);
    const { name } = field;
    return (input) => {
      const object = of(input);
      if (object !== null && typeof object === 'object' && !(object instanceof Map) && isCelObject(object)) {
        if (object.has !== undefined) return object.has(name);
      }
      const found = select(object, name);
      return found !== CEL_ERROR && found !== undefined;
    };
  }

  /** A constant pattern is compiled once; RE2 semantics, anywhere in the text. */
  #matches(given: readonly Expression[]): Evaluate<I> {
    const [text, pattern] = given;
    if (given.length !== 2 || text === undefined || pattern === undefined)
      return this.#fail('matches takes a text and a pattern');
    if (pattern.kind !== 'constant' || typeof pattern.value !== 'string')
      return this.#fail('the pattern of matches is a constant text');
    const regex = new Regex(`(?s:.*)(?:${pattern.value})(?s:.*)`, '');
    const value = this.compile(text);
    return (input) => {
      const found = value(input);
      return typeof found === 'string' ? regex.matches(found) : CEL_ERROR;
    };
  }
}

/** Numbers here do not know whether they are integers; what is written says it. */
function isDouble(expression: Expression): boolean {
  switch (expression.kind) {
    case 'constant':
      return expression.isDouble === true;
    case 'binary':
      return isDouble(expression.left) || isDouble(expression.right);
    case 'unary':
      return isDouble(expression.operand);
    case 'call':
      return expression.name === 'double';
    default:
      return false;
  }
}

type Binary = (left: unknown, right: unknown) => unknown;

const numeric =
  (apply: (left: number, right: number) => unknown): Binary =>
  (left, right) =>
    typeof left === 'number' && typeof right === 'number' ? apply(left, right) : CEL_ERROR;

const ordered =
  (apply: (left: never, right: never) => boolean): Binary =>
  (left, right) =>
    typeof left === typeof right && (typeof left === 'number' || typeof left === 'string' || typeof left === 'boolean')
      ? apply(left as never, right as never)
      : CEL_ERROR;

const BINARY: Readonly<Record<string, Binary>> = {
  '==': (left, right) => equal(left, right),
  '!=': (left, right) => !equal(left, right),
  '<': ordered((left, right) => left < right),
  '<=': ordered((left, right) => left <= right),
  '>': ordered((left, right) => left > right),
  '>=': ordered((left, right) => left >= right),
  // Envoy joins no lists.
  '+': numeric((left, right) => left + right),
  'text +': (left, right) =>
    (typeof left === 'string' && typeof right === 'string') || (typeof left === 'number' && typeof right === 'number')
      ? (left as string) + (right as string)
      : CEL_ERROR,
  '-': numeric((left, right) => left - right),
  '*': numeric((left, right) => left * right),
  '/': numeric((left, right) => {
    if (right === 0) return CEL_ERROR;
    return Number.isInteger(left) && Number.isInteger(right) ? Math.trunc(left / right) : left / right;
  }),
  'double /': numeric((left, right) => left / right),
  '%': numeric((left, right) => (right === 0 ? CEL_ERROR : left % right)),
  in: (left, right) => {
    if (Array.isArray(right)) return right.some((item) => equal(item, left));
    if (right instanceof Map) return right.has(left);
    const found = index(right, left);
    return found !== CEL_ERROR && found !== undefined;
  },
};

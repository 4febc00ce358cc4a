/**
 * CEL expressions over the attributes of a stream, compiled to functions. Errors are values: an expression that fails
 * (a missing attribute, a type that does not fit) has no value, and `||`, `&&` and `?:` treat it as the language says.
 * Source: the CEL language definition; Envoy docs "Attributes"; used by access-log filters, %CEL()% and istio.stats.
 */
import { ConfigError } from '../../config_error.ts';
import { Regex } from '../../http/matchers.ts';
import { type Expression, parseCel } from './parser.ts';

/** No value: an attribute that is not there, a division by zero, text where a number is wanted. */
export const CEL_ERROR: unique symbol = Symbol('no value');

/** Reads an attribute by its first name: `request`, `response`, …; CEL_ERROR where there is none of that name. */
export interface CelSource<I> {
  /** @returns how to read a root; undefined: there is no such root. */
  root(name: string): ((input: I) => unknown) | undefined;
  /** The same for a field right below a root, which can be read without making the whole of it. */
  field?(root: string, name: string): ((input: I) => unknown) | undefined;
}

/** An object of attributes: what it does not have is an error, in CEL's sense. */
export interface CelObject {
  get(name: string): unknown;
  has?(name: string): boolean;
  /** For `size()`. */
  size?(): number;
}

export type Evaluate<I> = (input: I) => unknown;

/** @throws {ConfigError} for text that is no CEL, unknown names and functions. */
export function compileCel<I>(text: string, source: CelSource<I>): Evaluate<I> {
  return new Compiler(text, source).compile(parseCel(text));
}

/** The same for what comes parsed. @throws {ConfigError} for unknown names and functions. */
export function compileExpression<I>(expression: Expression, source: CelSource<I>): Evaluate<I> {
  return new Compiler('', source).compile(expression);
}

/** Whether the value is true; errors are not. */
export function isTrue(value: unknown): boolean {
  return value === true;
}

/** As text for labels and logs; undefined for an error or null. */
export function celText(value: unknown): string | undefined {
  if (value === CEL_ERROR || value === null || value === undefined) return undefined;
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  return JSON.stringify(plain(value));
}

/** As JSON has it: texts, numbers, booleans, lists and objects; undefined: no value. */
export function celJson(value: unknown): string | number | boolean | object | undefined {
  if (value === CEL_ERROR || value === null || value === undefined) return undefined;
  return typeof value === 'object' ? (plain(value) as object) : (value as string | number | boolean);
}

function plain(value: unknown): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, item]) => [String(key), plain(item)]));
  if (Array.isArray(value)) return value.map(plain);
  return value;
}

class Compiler<I> {
  readonly #text: string;
  readonly #source: CelSource<I>;

  constructor(text: string, source: CelSource<I>) {
    this.#text = text;
    this.#source = source;
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
    const apply = BINARY[operator] ?? this.#fail(`there is no operator ${operator}`);
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
    const known = Object.hasOwn(FUNCTIONS, name) ? FUNCTIONS[name] : undefined;
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
    (typeof left === 'number' && typeof right === 'number') || (typeof left === 'string' && typeof right === 'string')
      ? apply(left as never, right as never)
      : CEL_ERROR;

const BINARY: Readonly<Record<string, Binary>> = {
  '==': (left, right) => equal(left, right),
  '!=': (left, right) => !equal(left, right),
  '<': ordered((left, right) => left < right),
  '<=': ordered((left, right) => left <= right),
  '>': ordered((left, right) => left > right),
  '>=': ordered((left, right) => left >= right),
  '+': (left, right) => {
    if (typeof left === 'string' && typeof right === 'string') return left + right;
    if (Array.isArray(left) && Array.isArray(right)) return [...left, ...right];
    return typeof left === 'number' && typeof right === 'number' ? left + right : CEL_ERROR;
  },
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

function equal(left: unknown, right: unknown): boolean {
  if (Array.isArray(left) && Array.isArray(right)) {
    return left.length === right.length && left.every((item, i) => equal(item, right[i]));
  }
  if (left instanceof Map && right instanceof Map) {
    return left.size === right.size && [...left].every(([key, item]) => right.has(key) && equal(item, right.get(key)));
  }
  return left === right;
}

/** `a.name` */
function select(of: unknown, name: string): unknown {
  if (of === CEL_ERROR || of === null || of === undefined || typeof of !== 'object') return CEL_ERROR;
  if (of instanceof Map) return of.has(name) ? of.get(name) : CEL_ERROR;
  if (isCelObject(of)) return of.get(name) ?? CEL_ERROR;
  return Object.hasOwn(of, name) ? (of as Record<string, unknown>)[name] : CEL_ERROR;
}

/** `a[key]` */
function index(of: unknown, key: unknown): unknown {
  if (Array.isArray(of)) return typeof key === 'number' && key in of ? of[key] : CEL_ERROR;
  if (of instanceof Map) return of.has(key) ? of.get(key) : CEL_ERROR;
  return typeof key === 'string' ? select(of, key) : CEL_ERROR;
}

function isCelObject(value: object): value is CelObject {
  return 'get' in value && typeof value.get === 'function';
}

interface CelFunction {
  readonly arities: readonly number[];
  apply(...values: unknown[]): unknown;
}

const onText = (apply: (text: string, part: string) => unknown): CelFunction => ({
  arities: [2],
  apply: (text, part) => (typeof text === 'string' && typeof part === 'string' ? apply(text, part) : CEL_ERROR),
});

const FUNCTIONS: Readonly<Record<string, CelFunction>> = {
  startsWith: onText((text, part) => text.startsWith(part)),
  endsWith: onText((text, part) => text.endsWith(part)),
  contains: onText((text, part) => text.includes(part)),
  lowerAscii: { arities: [1], apply: (text) => (typeof text === 'string' ? text.toLowerCase() : CEL_ERROR) },
  upperAscii: { arities: [1], apply: (text) => (typeof text === 'string' ? text.toUpperCase() : CEL_ERROR) },
  trim: { arities: [1], apply: (text) => (typeof text === 'string' ? text.trim() : CEL_ERROR) },
  split: onText((text, part) => text.split(part)),
  replace: {
    arities: [3],
    apply: (text, from, to) =>
      typeof text === 'string' && typeof from === 'string' && typeof to === 'string'
        ? text.replaceAll(from, () => to)
        : CEL_ERROR,
  },
  size: {
    arities: [1],
    apply(value) {
      if (typeof value === 'string') return [...value].length;
      if (Array.isArray(value)) return value.length;
      if (value instanceof Map) return value.size;
      if (value === null || typeof value !== 'object') return CEL_ERROR;
      if (typeof (value as CelObject).get !== 'function') return Object.keys(value).length;
      return (value as CelObject).size?.() ?? CEL_ERROR;
    },
  },
  int: { arities: [1], apply: (value) => integer(value) },
  uint: {
    arities: [1],
    apply(value) {
      const number = integer(value);
      return typeof number === 'number' && number < 0 ? CEL_ERROR : number;
    },
  },
  double: {
    arities: [1],
    apply(value) {
      const number =
        typeof value === 'number' || (typeof value === 'string' && value.trim() !== '') ? Number(value) : Number.NaN;
      return Number.isNaN(number) ? CEL_ERROR : number;
    },
  },
  string: { arities: [1], apply: (value) => celText(value) ?? CEL_ERROR },
  bool: {
    arities: [1],
    apply: (value) =>
      value === true || value === 'true' ? true : value === false || value === 'false' ? false : CEL_ERROR,
  },
  bytes: { arities: [1], apply: (value) => (typeof value === 'string' ? value : CEL_ERROR) },
  type: {
    arities: [1],
    apply: (value) =>
      value === null
        ? 'null_type'
        : Array.isArray(value)
          ? 'list'
          : typeof value === 'number'
            ? 'int'
            : typeof value === 'boolean'
              ? 'bool'
              : typeof value === 'string'
                ? 'string'
                : 'map',
  },
  duration: {
    arities: [1],
    apply(value) {
      const match = typeof value === 'string' ? /^(-?\d+(?:\.\d+)?)(h|m|s|ms|us|ns)$/.exec(value) : null;
      if (match === null) return CEL_ERROR;
      const ms = { h: 3_600_000, m: 60_000, s: 1000, ms: 1, us: 0.001, ns: 0.000001 }[
        match[2] as 'h' | 'm' | 's' | 'ms' | 'us' | 'ns'
      ];
      return Number(match[1]) * ms;
    },
  },
  timestamp: {
    arities: [1],
    apply(value) {
      const ms = typeof value === 'string' ? Date.parse(value) : Number.NaN;
      return Number.isNaN(ms) ? CEL_ERROR : ms;
    },
  },
};

function integer(value: unknown): unknown {
  if (typeof value === 'boolean') return value ? 1 : 0;
  if (typeof value === 'number') return Math.trunc(value);
  return typeof value === 'string' && /^-?\d+$/.test(value) ? Number(value) : CEL_ERROR;
}

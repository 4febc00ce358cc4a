/** CEL tokens to a tree. Precedence: ?:, ||, &&, relations and in, + -, * / %, unary, member. */
import { ConfigError } from '../../config_error.ts';
import { type Token, tokenize } from './lexer.ts';

export type Expression =
  | { readonly kind: 'constant'; readonly value: unknown; readonly isDouble?: boolean }
  | { readonly kind: 'name'; readonly name: string }
  | { readonly kind: 'field'; readonly of: Expression; readonly name: string }
  | { readonly kind: 'index'; readonly of: Expression; readonly key: Expression }
  | {
      readonly kind: 'call';
      readonly name: string;
      readonly target: Expression | undefined;
      readonly parameters: readonly Expression[];
    }
  | { readonly kind: 'unary'; readonly operator: '!' | '-'; readonly operand: Expression }
  | { readonly kind: 'binary'; readonly operator: string; readonly left: Expression; readonly right: Expression }
  | { readonly kind: 'conditional'; readonly test: Expression; readonly yes: Expression; readonly no: Expression }
  | { readonly kind: 'list'; readonly items: readonly Expression[] }
  | { readonly kind: 'map'; readonly entries: readonly (readonly [Expression, Expression])[] };

/** Expressions come from configuration; longer ones, and deeper ones, are refused. */
export const MAX_CEL_LENGTH = 4096;
const MAX_DEPTH = 64;
const RELATIONS = ['<', '<=', '>', '>=', '==', '!='];

/** @throws {ConfigError} */
export function parseCel(text: string): Expression {
  if (text.length > MAX_CEL_LENGTH)
    throw new ConfigError(
      '',
      `the CEL expression has ${text.length} characters; at most ${MAX_CEL_LENGTH} are accepted`,
    );
  return new Parser(text).parse();
}

class Parser {
  readonly #text: string;
  readonly #tokens: readonly Token[];
  #at = 0;
  #depth = 0;

  constructor(text: string) {
    this.#text = text;
    this.#tokens = tokenize(text);
  }

  parse(): Expression {
    const expression = this.#conditional();
    if (this.#peek.kind !== 'end') this.#fail('an operator or the end is wanted');
    return expression;
  }

  get #peek(): Token {
    return this.#tokens[this.#at] as Token;
  }

  #is(operator: string): boolean {
    const token = this.#peek;
    return token.kind === 'operator' && token.value === operator;
  }

  #take(operator: string): boolean {
    if (!this.#is(operator)) return false;
    this.#at++;
    return true;
  }

  #want(operator: string): void {
    if (!this.#take(operator)) this.#fail(`"${operator}" is wanted`);
  }

  #fail(says: string): never {
    const token = this.#peek;
    const found = token.kind === 'end' ? 'the end' : `"${'value' in token ? token.value : ''}"`;
    throw new ConfigError('', `CEL "${this.#text.slice(0, 200)}": ${says}, got ${found}`);
  }

  #conditional(): Expression {
    if (++this.#depth > MAX_DEPTH) this.#fail('less nesting');
    const test = this.#or();
    let whole = test;
    if (this.#take('?')) {
      const yes = this.#or();
      this.#want(':');
      whole = { kind: 'conditional', test, yes, no: this.#conditional() };
    }
    this.#depth--;
    return whole;
  }

  #or(): Expression {
    let left = this.#and();
    while (this.#take('||')) left = { kind: 'binary', operator: '||', left, right: this.#and() };
    return left;
  }

  #and(): Expression {
    let left = this.#relation();
    while (this.#take('&&')) left = { kind: 'binary', operator: '&&', left, right: this.#relation() };
    return left;
  }

  #relation(): Expression {
    let left = this.#sum();
    for (;;) {
      const token = this.#peek;
      if (token.kind === 'operator' && RELATIONS.includes(token.value)) {
        this.#at++;
        left = { kind: 'binary', operator: token.value, left, right: this.#sum() };
      } else if (token.kind === 'name' && token.value === 'in') {
        this.#at++;
        left = { kind: 'binary', operator: 'in', left, right: this.#sum() };
      } else return left;
    }
  }

  #sum(): Expression {
    let left = this.#product();
    for (;;) {
      const operator = this.#is('+') ? '+' : this.#is('-') ? '-' : undefined;
      if (operator === undefined) return left;
      this.#at++;
      left = { kind: 'binary', operator, left, right: this.#product() };
    }
  }

  #product(): Expression {
    let left = this.#unary();
    for (;;) {
      const operator = ['*', '/', '%'].find((item) => this.#is(item));
      if (operator === undefined) return left;
      this.#at++;
      left = { kind: 'binary', operator, left, right: this.#unary() };
    }
  }

  #unary(): Expression {
    if (++this.#depth > MAX_DEPTH) this.#fail('less nesting');
    const operator = this.#take('!') ? '!' : this.#take('-') ? '-' : undefined;
    const found: Expression =
      operator === undefined ? this.#member() : { kind: 'unary', operator, operand: this.#unary() };
    this.#depth--;
    return found;
  }

  #member(): Expression {
    let of = this.#primary();
    for (;;) {
      if (this.#take('.')) {
        const name = this.#name();
        of = this.#take('(')
          ? { kind: 'call', name, target: of, parameters: this.#parameters() }
          : { kind: 'field', of, name };
      } else if (this.#take('[')) {
        of = { kind: 'index', of, key: this.#conditional() };
        this.#want(']');
      } else return of;
    }
  }

  #name(): string {
    const token = this.#peek;
    if (token.kind !== 'name') return this.#fail('a name is wanted');
    this.#at++;
    return token.value;
  }

  #parameters(end = ')'): Expression[] {
    const list: Expression[] = [];
    while (!this.#take(end)) {
      if (list.length > 0) {
        this.#want(',');
        if (this.#take(end)) break;
      }
      list.push(this.#conditional());
    }
    return list;
  }

  #primary(): Expression {
    const token = this.#peek;
    switch (token.kind) {
      case 'number':
        this.#at++;
        return { kind: 'constant', value: token.value, isDouble: !token.isInteger };
      case 'string':
      case 'bytes':
        this.#at++;
        return { kind: 'constant', value: token.value };
      case 'name': {
        this.#at++;
        if (token.value === 'true' || token.value === 'false')
          return { kind: 'constant', value: token.value === 'true' };
        if (token.value === 'null') return { kind: 'constant', value: null };
        if (this.#take('('))
          return { kind: 'call', name: token.value, target: undefined, parameters: this.#parameters() };
        return { kind: 'name', name: token.value };
      }
      default:
        if (this.#take('(')) {
          const inner = this.#conditional();
          this.#want(')');
          return inner;
        }
        if (this.#take('[')) return { kind: 'list', items: this.#parameters(']') };
        if (this.#take('{')) return { kind: 'map', entries: this.#entries() };
        return this.#fail('a value is wanted');
    }
  }

  #entries(): (readonly [Expression, Expression])[] {
    const entries: (readonly [Expression, Expression])[] = [];
    while (!this.#take('}')) {
      if (entries.length > 0) {
        this.#want(',');
        if (this.#take('}')) break;
      }
      const key = this.#conditional();
      this.#want(':');
      entries.push([key, this.#conditional()]);
    }
    return entries;
  }
}

/** CEL text to tokens. Source: the CEL language definition, "Syntax". */
import { ConfigError } from '../../config_error.ts';

export type Token =
  | { readonly kind: 'number'; readonly value: number; readonly isInteger: boolean }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'bytes'; readonly value: string }
  | { readonly kind: 'name'; readonly value: string }
  | { readonly kind: 'operator'; readonly value: string }
  | { readonly kind: 'end' };

const OPERATORS = [
  '&&',
  '||',
  '==',
  '!=',
  '<=',
  '>=',
  '<',
  '>',
  '+',
  '-',
  '*',
  '/',
  '%',
  '!',
  '?',
  ':',
  '.',
  ',',
  '(',
  ')',
  '[',
  ']',
  '{',
  '}',
];
const NUMBER = /(?:0x[0-9a-fA-F]+|\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?|\d+)[uU]?/y;
const NAME = /[_a-zA-Z][_a-zA-Z0-9]*/y;
const ESCAPES: Readonly<Record<string, string>> = {
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
  '\\': '\\',
  '?': '?',
  '"': '"',
  "'": "'",
  '`': '`',
};

/** @throws {ConfigError} with the place in the text. */
export function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  const fail = (says: string): never => {
    throw new ConfigError('', `CEL "${text.slice(0, 200)}", character ${at + 1}: ${says}`);
  };
  while (at < text.length) {
    const char = text[at] as string;
    if (/\s/.test(char)) {
      at++;
    } else if (text.startsWith('//', at)) {
      const end = text.indexOf('\n', at);
      at = end < 0 ? text.length : end;
    } else if (/^(?:[rR]?[bB]?|[bB][rR])["']/.test(text.slice(at, at + 3))) {
      const prefix = /^[a-zA-Z]*/.exec(text.slice(at, at + 2))?.[0].toLowerCase() ?? '';
      at += prefix.length;
      const found = readString(text, at, prefix.includes('r')) ?? fail('this string has no end');
      tokens.push({ kind: prefix.includes('b') ? 'bytes' : 'string', value: found.value });
      at = found.end;
    } else if (/[0-9]/.test(char) || (char === '.' && /[0-9]/.test(text[at + 1] ?? ''))) {
      NUMBER.lastIndex = at;
      const digits = NUMBER.exec(text)?.[0] ?? fail('a number is wanted');
      tokens.push({
        kind: 'number',
        value: Number(digits.replace(/[uU]$/, '')),
        isInteger: !/[.eE]/.test(digits) || digits.startsWith('0x'),
      });
      at += digits.length;
    } else if (/[_a-zA-Z]/.test(char)) {
      NAME.lastIndex = at;
      const name = NAME.exec(text)?.[0] ?? '';
      tokens.push({ kind: 'name', value: name });
      at += name.length;
    } else {
      const operator = OPERATORS.find((item) => text.startsWith(item, at)) ?? fail(`"${char}" is not expected`);
      tokens.push({ kind: 'operator', value: operator });
      at += operator.length;
    }
  }
  tokens.push({ kind: 'end' });
  return tokens;
}

function readString(text: string, start: number, raw: boolean): { value: string; end: number } | undefined {
  const quote = text.startsWith(text[start]?.repeat(3) ?? '', start)
    ? (text[start] as string).repeat(3)
    : (text[start] as string);
  let value = '';
  let at = start + quote.length;
  while (at < text.length) {
    if (text.startsWith(quote, at)) return { value, end: at + quote.length };
    if (text[at] !== '\\' || raw) {
      value += text[at++];
      continue;
    }
    const next = text[at + 1] ?? '';
    const coded = /^(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2}))/.exec(
      text.slice(at + 1, at + 10),
    );
    if (coded !== null) {
      const [whole, two, four, eight, octal] = coded;
      const code =
        octal === undefined ? Number.parseInt(two ?? four ?? (eight as string), 16) : Number.parseInt(octal, 8);
      value += code <= 0x10ffff ? String.fromCodePoint(code) : '';
      at += 1 + whole.length;
    } else if (Object.hasOwn(ESCAPES, next)) {
      value += ESCAPES[next];
      at += 2;
    } else return undefined;
  }
  return undefined;
}

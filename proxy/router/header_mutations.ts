/** Adds and removes header fields as routes and filters configure it. Envoy: HeaderValueOption, HeaderParser. */
import { ConfigError } from '../config_error.ts';
import { compileFormat, type FormatInput, type Formatter } from '../http/formatter.ts';
import type { Headers, RequestHeaders } from '../http/headers.ts';
import type { Fields } from '../resource_fields.ts';
import { refuseUnexecuted } from '../unexecuted_fields.ts';

export type AppendAction = 'append' | 'add_if_absent' | 'overwrite' | 'overwrite_if_present';

interface HeaderAddition {
  readonly name: string;
  readonly value: Formatter;
  readonly action: AppendAction;
  readonly keepEmpty: boolean;
}

const ACTIONS = {
  APPEND_IF_EXISTS_OR_ADD: 'append',
  ADD_IF_ABSENT: 'add_if_absent',
  OVERWRITE_IF_EXISTS_OR_ADD: 'overwrite',
  OVERWRITE_IF_EXISTS: 'overwrite_if_present',
} as const;

/** One level's mutations; removal comes first, as in Envoy. */
export class HeaderMutations {
  readonly #removed: ReadonlySet<string>;
  readonly #added: readonly HeaderAddition[];

  constructor(removed: readonly string[], added: readonly HeaderAddition[]) {
    this.#removed = new Set(removed);
    this.#added = added;
  }

  get isEmpty(): boolean {
    return this.#removed.size === 0 && this.#added.length === 0;
  }

  apply(headers: Headers, input: FormatInput): void {
    if (this.#removed.size > 0) headers.filter((name) => !this.#removed.has(name));
    for (const addition of this.#added) applyAddition(headers, addition, input);
  }
}

/** Reads `<side>_headers_to_add` and `<side>_headers_to_remove`. @throws {ConfigError} */
export function parseHeaderMutations(fields: Fields, side: 'request' | 'response'): HeaderMutations | undefined {
  const removed = fields.strings(`${side}_headers_to_remove`).map((name, index) => {
    const lower = name.toLowerCase();
    if (lower.startsWith(':') || lower === 'host') {
      throw new ConfigError(`${fields.at(`${side}_headers_to_remove`)}[${index}]`, `"${name}" cannot be removed`);
    }
    return lower;
  });
  const mutations = new HeaderMutations(removed, fields.messages(`${side}_headers_to_add`).map(parseHeaderAddition));
  return mutations.isEmpty ? undefined : mutations;
}

/** envoy.config.core.v3.HeaderValueOption. */
export function parseHeaderAddition(option: Fields): HeaderAddition {
  const header = option.requiredMessage('header');
  refuseUnexecuted(header, 'HeaderValue');
  const name = header.requiredString('key').toLowerCase();
  if (!/^:?[!#$%&'*+\-.^_`|~0-9a-z]+$/.test(name)) header.fail('key', `"${name}" is not a header name`);
  const text = header.string('value') ?? '';
  if (/[\r\n\0]/.test(text)) header.fail('value', 'must not hold CR, LF or NUL');
  const legacy = option.boolean('append');
  const action = option.oneOf(
    'append_action',
    ['APPEND_IF_EXISTS_OR_ADD', 'ADD_IF_ABSENT', 'OVERWRITE_IF_EXISTS_OR_ADD', 'OVERWRITE_IF_EXISTS'],
    legacy === false ? 'OVERWRITE_IF_EXISTS_OR_ADD' : 'APPEND_IF_EXISTS_OR_ADD',
  );
  let value: Formatter;
  try {
    value = compileFormat(text, { absent: 'empty' });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    throw new ConfigError(header.at('value'), error.message, { cause: error });
  }
  return {
    name: name === 'host' ? ':authority' : name,
    value,
    action: ACTIONS[action],
    keepEmpty: option.boolean('keep_empty_value') ?? false,
  };
}

/** Also used by the header_mutation filter. */
export function applyAddition(headers: Headers, addition: HeaderAddition, input: FormatInput): void {
  const { name, action } = addition;
  if (action === 'add_if_absent' && headers.has(name)) return;
  if (action === 'overwrite_if_present' && !headers.has(name)) return;
  const value = clean(addition.value.constant ?? addition.value.format(input));
  if (value === '' && !addition.keepEmpty) return;
  if (name === ':path' || name === ':authority' || name === ':method') {
    // A pseudo-header has one value: appending means replacing.
    if (name === ':path') (headers as RequestHeaders).path = value;
    else headers.set(name, value);
  } else if (action === 'append' || action === 'add_if_absent') headers.append(name, value);
  else headers.set(name, value);
}

/** What a format took from a peer must not break the head. Text that is more than latin1 goes out as UTF-8. */
function clean(value: string): string {
  const text = /[\r\n\0]/.test(value) ? value.replace(/[\r\n\0]/g, '') : value;
  return /[^\0-\xff]/.test(text) ? Buffer.from(text).latin1Slice() : text;
}

export type { HeaderAddition };

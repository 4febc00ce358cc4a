/** What CEL expressions work on: values, their absence, and how they are looked into, compared and printed. */

/** No value: an attribute that is not there, a division by zero, text where a number is wanted. */
export const CEL_ERROR: unique symbol = Symbol('no value');

/** An object of attributes: what it does not have is an error, in CEL's sense. */
export interface CelObject {
  get(name: string): unknown;
  has?(name: string): boolean;
  /** For `size()`. */
  size?(): number;
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

export function equal(left: unknown, right: unknown): boolean {
  if (Array.isArray(left) && Array.isArray(right)) {
    return left.length === right.length && left.every((item, i) => equal(item, right[i]));
  }
  if (left instanceof Map && right instanceof Map) {
    return left.size === right.size && [...left].every(([key, item]) => right.has(key) && equal(item, right.get(key)));
  }
  return left === right;
}

/** `a.name` */
export function select(of: unknown, name: string): unknown {
  if (of === CEL_ERROR || of === null || of === undefined || typeof of !== 'object') return CEL_ERROR;
  if (of instanceof Map) return of.has(name) ? of.get(name) : CEL_ERROR;
  if (isCelObject(of)) return of.get(name) ?? CEL_ERROR;
  return Object.hasOwn(of, name) ? (of as Record<string, unknown>)[name] : CEL_ERROR;
}

/** `a[key]` */
export function index(of: unknown, key: unknown): unknown {
  if (Array.isArray(of)) return typeof key === 'number' && key in of ? of[key] : CEL_ERROR;
  if (of instanceof Map) return of.has(key) ? of.get(key) : CEL_ERROR;
  return typeof key === 'string' ? select(of, key) : CEL_ERROR;
}

export function isCelObject(value: object): value is CelObject {
  return 'get' in value && typeof value.get === 'function';
}

/** Compares resources after taking out what Envoy does not see: protobuf defaults and orders that mean nothing. */

/** One place where two resources differ; `path` '' is the resource itself, which one side lacks. */
export interface Difference {
  readonly path: string;
  readonly expected: unknown;
  readonly actual: unknown;
}

/** Lists of which the order means nothing to Envoy, by field name, and what sorts them. */
const UNORDERED: Readonly<Record<string, (item: unknown) => string>> = {
  domains: String,
  query_parameters: (item) => String((item as { name?: unknown }).name),
  endpoints: (item) => JSON.stringify((item as { locality?: unknown }).locality ?? {}),
  lb_endpoints: (item) => JSON.stringify((item as { endpoint?: unknown }).endpoint),
};

/** Fields that say what Envoy assumes without them. */
const DEFAULTS: Readonly<Record<string, unknown>> = {
  case_sensitive: true,
  lb_policy: 'ROUND_ROBIN',
  denominator: 'HUNDRED',
  generate_request_id: true,
};

/** A copy in a form in which equal meaning is equal JSON. */
export function normalise(value: unknown, field = ''): unknown {
  if (Array.isArray(value)) {
    const items = value.map((item) => normalise(item));
    // By name, so that one host more does not shift the others against each other.
    if (field === 'virtual_hosts' || field === 'http_filters' || (field === 'filters' && items.every(isNamed)))
      return Object.fromEntries(named(items));
    // Matchers of a route must all hold, in whatever order they are asked.
    const key = UNORDERED[field] ?? (field === 'headers' ? (item: unknown) => JSON.stringify(item) : undefined);
    return key === undefined ? items : items.sort((a, b) => (key(a) < key(b) ? -1 : 1));
  }
  if (value === null || typeof value !== 'object') return value;
  const out: Record<string, unknown> = {};
  for (const [name, item] of Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (Object.hasOwn(DEFAULTS, name) && DEFAULTS[name] === item) continue;
    if (Array.isArray(item) && item.length === 0) continue;
    out[name] = normalise(item, name);
  }
  return out;
}

function isNamed(item: unknown): boolean {
  return isObject(item) && typeof item['name'] === 'string';
}

/** By name; the second of a name is `NAME#2`, so that none hides another. */
function named(items: readonly unknown[]): [string, unknown][] {
  const seen = new Map<string, number>();
  return items.map((item) => {
    const name = String((item as { name: unknown }).name);
    const count = (seen.get(name) ?? 0) + 1;
    seen.set(name, count);
    return [count === 1 ? name : `${name}#${count}`, item];
  });
}

/** Every leaf that differs between two normalised values. */
export function differences(expected: unknown, actual: unknown, path = ''): Difference[] {
  if (isObject(expected) && isObject(actual)) {
    const names = new Set([...Object.keys(expected), ...Object.keys(actual)]);
    return [...names].flatMap((name) =>
      differences(expected[name], actual[name], path === '' ? name : `${path}.${name}`),
    );
  }
  if (Array.isArray(expected) && Array.isArray(actual)) {
    const length = Math.max(expected.length, actual.length);
    return Array.from({ length }, (_, index) =>
      differences(expected[index], actual[index], `${path}[${index}]`),
    ).flat();
  }
  return Object.is(expected, actual) ? [] : [{ path, expected, actual }];
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

/** Whether a text fits a pattern in which `*` stands for anything. */
export function fits(pattern: string, text: string): boolean {
  const parts = pattern.split('*');
  const first = parts[0] as string;
  if (parts.length === 1) return pattern === text;
  if (!text.startsWith(first)) return false;
  let at = first.length;
  for (const part of parts.slice(1, -1)) {
    const found = text.indexOf(part, at);
    if (found < 0) return false;
    at = found + part.length;
  }
  const last = parts.at(-1) as string;
  return text.length - at >= last.length && text.endsWith(last);
}

/** Headers that a route sets, adds and removes. */
import type { Json } from '../resources.ts';
import { compareText } from './route_match.ts';
import type { HeaderOperations } from './virtual_service.ts';

type Lists = Record<
  'request_headers_to_add' | 'request_headers_to_remove' | 'response_headers_to_add' | 'response_headers_to_remove',
  unknown[]
>;

/** Operations gathered from several levels, in their order. */
export class HeaderChanges {
  readonly #lists: Lists = {
    request_headers_to_add: [],
    request_headers_to_remove: [],
    response_headers_to_add: [],
    response_headers_to_remove: [],
  };

  /** The new authority: Host cannot be changed as a header, so setting it rewrites the host. The first one stays. */
  authority = '';

  add(headers: HeaderOperations | undefined): void {
    const request = headers?.request;
    const response = headers?.response;
    this.#lists.request_headers_to_add.push(...additions(request?.set, true), ...additions(request?.add, false));
    this.#lists.response_headers_to_add.push(...additions(response?.set, true), ...additions(response?.add, false));
    this.#lists.request_headers_to_remove.push(...(request?.remove ?? []).filter((name) => !isInternal(name)));
    this.#lists.response_headers_to_remove.push(...(response?.remove ?? []).filter((name) => !isInternal(name)));
    const authority = authorityIn(request?.set) ?? authorityIn(request?.add) ?? '';
    if (this.authority === '') this.authority = authority;
  }

  /** The fields of a route or of a weighted cluster; empty lists are left out. */
  fields(): Json {
    return Object.fromEntries(Object.entries(this.#lists).filter(([, list]) => list.length > 0));
  }
}

function additions(headers: ReadonlyMap<string, string> | undefined, overwrite: boolean): Json[] {
  return [...(headers ?? [])]
    .filter(([name]) => !isInternal(name))
    .sort(([a], [b]) => compareText(a, b))
    .map(([key, value]) => ({
      header: { key, value },
      ...(overwrite && { append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }),
    }));
}

function authorityIn(headers: ReadonlyMap<string, string> | undefined): string | undefined {
  for (const [name, value] of headers ?? []) {
    const lower = name.toLowerCase();
    if (lower === ':authority' || lower === 'host') return value;
  }
  return undefined;
}

function isInternal(name: string): boolean {
  return name.startsWith(':') || name.toLowerCase() === 'host';
}

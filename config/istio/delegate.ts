/** Merges the routes of delegate VirtualServices into their roots (istio/istio: pilot/pkg/model/virtualservice.go). */
import type { HttpMatch, HttpRoute, StringMatch, VirtualService } from './virtual_service.ts';
import { isVisible } from './visibility.ts';

/**
 * The VirtualServices that have hosts, each delegating route replaced by the routes of its delegate. A delegate that
 * is missing or not exported to the root's namespace drops that route only.
 * @param warn gets a sentence for each dropped route
 */
export function mergeDelegates(
  all: readonly VirtualService[],
  warn: (sentence: string, root: VirtualService, route: HttpRoute) => void,
): VirtualService[] {
  const delegates = new Map<string, VirtualService>();
  for (const service of all) {
    if (service.hosts.length === 0) delegates.set(`${service.namespace}/${service.name}`, service);
  }
  return all
    .filter((service) => service.hosts.length > 0)
    .map((root) => {
      if (!root.http.some((route) => route.delegate !== undefined)) return root;
      return { ...root, http: root.http.flatMap((route) => expand(root, route, delegates, warn)) };
    });
}

function expand(
  root: VirtualService,
  route: HttpRoute,
  delegates: ReadonlyMap<string, VirtualService>,
  warn: (sentence: string, root: VirtualService, route: HttpRoute) => void,
): HttpRoute[] {
  if (route.delegate === undefined) return [route];
  const name = `${route.delegate.namespace ?? root.namespace}/${route.delegate.name}`;
  const delegate = delegates.get(name);
  if (delegate === undefined) {
    warn(`the delegate VirtualService "${name}" does not exist, its route is left out`, root, route);
    return [];
  }
  if (!isVisible(delegate.visibility, root.namespace)) {
    warn(
      `the delegate VirtualService "${name}" is not exported to ${root.namespace}, its route is left out`,
      root,
      route,
    );
    return [];
  }
  return delegate.http.flatMap((leaf) => {
    const match = mergeMatches(route.match ?? [], leaf.match ?? []);
    if (match === undefined) {
      warn(`a match of the delegate "${name}" is no refinement of its root's, that route is left out`, root, route);
      return [];
    }
    return [mergeRoute(route, leaf, match)];
  });
}

/** What the delegate sets overrides the root's. */
function mergeRoute(root: HttpRoute, leaf: HttpRoute, match: readonly HttpMatch[]): HttpRoute {
  const { delegate: _delegate, name: _name, match: _match, ...inherited } = root;
  const { name: _leafName, match: _leafMatch, ...own } = leaf;
  const name = joinNames(root.name, leaf.name);
  return { ...inherited, ...own, ...(name !== '' && { name }), ...(match.length > 0 && { match }) };
}

function joinNames(root: string | undefined, leaf: string | undefined): string {
  return [root, leaf].filter((name) => name !== undefined && name !== '').join('-');
}

/** @returns undefined where one of the delegate's matches fits none of the root's. */
function mergeMatches(root: readonly HttpMatch[], leaf: readonly HttpMatch[]): readonly HttpMatch[] | undefined {
  if (root.length === 0) return leaf;
  if (leaf.length === 0) return root;
  const out: HttpMatch[] = [];
  for (const inner of leaf) {
    const fitting = root.filter((outer) => !conflicts(outer, inner));
    if (fitting.length === 0) return undefined;
    for (const outer of fitting) out.push(mergeMatch(outer, inner));
  }
  return out;
}

function mergeMatch(outer: HttpMatch, inner: HttpMatch): HttpMatch {
  const name = joinNames(outer.name, inner.name);
  return {
    ...outer,
    ...inner,
    ...(name !== '' && { name }),
    ...bothMaps('headers', outer, inner),
    ...bothMaps('withoutHeaders', outer, inner),
    ...bothMaps('queryParams', outer, inner),
  };
}

type MapField = 'headers' | 'withoutHeaders' | 'queryParams';

function bothMaps(
  name: MapField,
  outer: HttpMatch,
  inner: HttpMatch,
): Partial<Record<MapField, ReadonlyMap<string, StringMatch>>> {
  const merged = new Map([...(outer[name] ?? []), ...(inner[name] ?? [])]);
  return merged.size === 0 ? {} : { [name]: merged };
}

function conflicts(outer: HttpMatch, inner: HttpMatch): boolean {
  for (const name of ['uri', 'scheme', 'method', 'authority'] as const) {
    if (excludes(outer[name], inner[name])) return true;
  }
  for (const name of ['headers', 'withoutHeaders', 'queryParams'] as const) {
    for (const [key, value] of inner[name] ?? []) {
      if (excludes(outer[name]?.get(key), value)) return true;
    }
  }
  if ((outer.ignoreUriCase ?? false) !== (inner.ignoreUriCase ?? false)) return true;
  return outer.port !== undefined && inner.port !== undefined && outer.port !== inner.port;
}

/** Whether `inner` is no refinement of `outer`. Regular expressions cannot be compared, so they always conflict. */
function excludes(outer: StringMatch | undefined, inner: StringMatch | undefined): boolean {
  if (outer === undefined || inner === undefined) return false;
  if (outer.regex !== undefined || inner.regex !== undefined) return true;
  if (outer.exact !== undefined) return inner.exact !== outer.exact;
  if (outer.prefix !== undefined) return !(inner.prefix ?? inner.exact ?? '').startsWith(outer.prefix);
  return true;
}

/** What a change of configuration changed, in a few words for a person. */
import type { Json, Resource } from '../config/resources.ts';

/** `2 routes changed, 1 cluster added`; '' when nothing did. Endpoint lists count as endpoints of their cluster. */
export function summarizeChange(before: ReadonlyMap<string, Resource>, after: ReadonlyMap<string, Resource>): string {
  const counts = new Map<string, number>();
  const count = (noun: string, verb: string, by = 1): void => {
    if (by > 0) counts.set(`${noun} ${verb}`, (counts.get(`${noun} ${verb}`) ?? 0) + by);
  };
  for (const [key, resource] of after) {
    const old = before.get(key);
    if (old?.version === resource.version) continue;
    if (resource.type === 'route') {
      const difference = compareRoutes(old?.json, resource.json);
      count('route', 'added', difference.added);
      count('route', 'changed', difference.changed);
      count('route', 'removed', difference.removed);
      if (difference.added + difference.changed + difference.removed === 0) count('route configuration', 'changed');
    } else count(nouns[resource.type], old === undefined ? 'added' : 'changed');
  }
  for (const [key, resource] of before) {
    if (after.has(key)) continue;
    if (resource.type === 'route') count('route', 'removed', routesOf(resource.json).size);
    else count(nouns[resource.type], 'removed');
  }
  return [...counts].map(([what, number]) => phrase(what, number)).join(', ');
}

const nouns = {
  cluster: 'cluster',
  endpoint: 'endpoint list',
  secret: 'secret',
  listener: 'listener',
  route: 'route',
  extension: 'extension',
} as const;

function phrase(what: string, number: number): string {
  const space = what.lastIndexOf(' ');
  const noun = what.slice(0, space);
  return `${number} ${noun}${number === 1 ? '' : 's'} ${what.slice(space + 1)}`;
}

function compareRoutes(before: Json | undefined, after: Json): { added: number; changed: number; removed: number } {
  const old = before === undefined ? new Map<string, string>() : routesOf(before);
  const now = routesOf(after);
  let added = 0;
  let changed = 0;
  let removed = 0;
  for (const [key, text] of now) {
    const was = old.get(key);
    if (was === undefined) added++;
    else if (was !== text) changed++;
  }
  for (const key of old.keys()) if (!now.has(key)) removed++;
  return { added, changed, removed };
}

/** Each route by virtual host and place in its list. */
function routesOf(json: Json): Map<string, string> {
  const routes = new Map<string, string>();
  for (const host of list(json['virtual_hosts'])) {
    list(host['routes']).forEach((route, index) => {
      routes.set(`${String(host['name'])} ${index}`, JSON.stringify(route));
    });
  }
  return routes;
}

function list(value: unknown): Record<string, unknown>[] {
  return Array.isArray(value) ? (value as Record<string, unknown>[]) : [];
}

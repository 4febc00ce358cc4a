/** What a change of configuration changed, in a few words for a person. */
import type { Json, Resource } from '../config/resources.ts';

/** Counts changes one by one; `text` is `2 routes changed, 1 cluster added`, '' when there were none. */
export class ChangeSummary {
  readonly #counts = new Map<string, number>();

  get text(): string {
    return [...this.#counts].map(([what, number]) => phrase(what, number)).join(', ');
  }

  /** `before`: undefined for what is new. */
  served(resource: Resource, before: Resource | undefined): void {
    if (before?.version === resource.version) return;
    if (resource.type !== 'route') {
      this.#count(nouns[resource.type], before === undefined ? 'added' : 'changed');
      return;
    }
    const difference = compareRoutes(before?.json, resource.json);
    this.#count('route', 'added', difference.added);
    this.#count('route', 'changed', difference.changed);
    this.#count('route', 'removed', difference.removed);
    if (difference.added + difference.changed + difference.removed === 0) this.#count('route configuration', 'changed');
  }

  dropped(resource: Resource): void {
    if (resource.type === 'route') this.#count('route', 'removed', routesOf(resource.json).size);
    else this.#count(nouns[resource.type], 'removed');
  }

  #count(noun: string, verb: string, by = 1): void {
    if (by > 0) this.#counts.set(`${noun} ${verb}`, (this.#counts.get(`${noun} ${verb}`) ?? 0) + by);
  }
}

const nouns = {
  cluster: 'cluster',
  endpoint: 'endpoint list',
  secret: 'secret',
  listener: 'listener',
  route: 'route',
  extension: 'extension',
  scope: 'scope',
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

/**
 * Virtual hosts that come apart from their route configurations (VHDS): asked for together, put where their names say
 * (`ROUTES/…`). A route configuration is given once its hosts are there, and given again when they change. Hosts that
 * single requests ask for (the on_demand filter) come under the name `ROUTES/HOST`, or have it as an alias. Source: Envoy docs "VHDS".
 */
import type { Json, Resource } from '../resources.ts';
import type { BadResource } from './pushed_resources.ts';

type Check = (resource: Resource) => string | undefined;

export class PushedVirtualHosts {
  /** Route configurations that name VHDS. */
  readonly #routes = new Map<string, Resource>();
  readonly #hosts = new Map<string, Json>();
  /** Names of those that were given. */
  readonly #given = new Set<string>();
  #isAnswered = false;
  #round = 0;

  /** Whether a route configuration waits for its hosts. */
  static isMeant(resource: Pick<Resource, 'type' | 'json'>): boolean {
    return resource.type === 'route' && resource.json['vhds'] !== undefined;
  }

  /** As they may be given; a new one waits for its first hosts. */
  take(routes: readonly Resource[]): Resource[] {
    return routes.flatMap((route) => {
      if (!PushedVirtualHosts.isMeant(route)) {
        this.forget(route.name);
        return [route];
      }
      this.#routes.set(route.name, route);
      return this.#given.has(route.name) || this.#hostsOf(route.name).length > 0 ? [this.#whole(route)] : [];
    });
  }

  /** Where a route configuration's hosts come from; undefined: it has none by VHDS. */
  sourceOf(route: string): Json | undefined {
    return (this.#routes.get(route)?.json['vhds'] as { readonly config_source?: Json } | undefined)?.config_source;
  }

  forget(route: string): void {
    this.#routes.delete(route);
    this.#given.delete(route);
  }

  /** The wait for its hosts is over. */
  release(name: string): Resource[] {
    const route = this.#routes.get(name);
    return route === undefined || this.#given.has(name) ? [] : [this.#whole(route)];
  }

  /** Hosts that make their route configuration one that cannot be used. */
  conflicting(changed: readonly Resource[], check: Check): BadResource[] {
    return changed.flatMap(({ name, version, json }) => {
      const route = this.#routeOf(name);
      if (route === undefined) return [];
      const others = this.#hostsOf(route.name).filter(([other]) => other !== name);
      const complaint = check({ ...withHosts(route, [...others.map(([, host]) => host), json]), name: route.name });
      return complaint === undefined ? [] : [{ name, version, json, reason: complaint }];
    });
  }

  /** @returns the route configurations that have changed by it. */
  update(changed: readonly Resource[], removed: readonly string[]): Resource[] {
    this.#round++;
    const touched = new Set<Resource>();
    const gone = removed.filter((name) => this.#hosts.has(name));
    for (const name of [...changed.map((host) => host.name), ...gone]) {
      const route = this.#routeOf(name);
      if (route !== undefined) touched.add(route);
    }
    for (const { name, json } of changed) this.#hosts.set(name, json);
    for (const name of gone) this.#hosts.delete(name);
    // The answer to the first question is for all that were there: some have no hosts.
    if (!this.#isAnswered) for (const route of this.#routes.values()) touched.add(route);
    this.#isAnswered = true;
    return [...touched].map((route) => this.#whole(route));
  }

  #whole(route: Resource): Resource {
    this.#given.add(route.name);
    const whole = withHosts(
      route,
      this.#hostsOf(route.name).map(([, host]) => host),
    );
    return { ...whole, version: `${route.version}+${this.#round}` };
  }

  #hostsOf(route: string): [string, Json][] {
    return [...this.#hosts].filter(([name]) => this.#routeOf(name)?.name === route);
  }

  /** Names of route configurations may hold slashes: the longest that fits. */
  #routeOf(host: string): Resource | undefined {
    for (let end = host.lastIndexOf('/'); end > 0; end = host.lastIndexOf('/', end - 1)) {
      const route = this.#routes.get(host.slice(0, end));
      if (route !== undefined) return route;
    }
    return undefined;
  }
}

/** As it is executed: hosts of its own first. */
export function withHosts(route: Resource, hosts: readonly Json[]): Resource {
  const own = (route.json['virtual_hosts'] ?? []) as readonly Json[];
  // What is left of `vhds` says that more hosts come when they are asked for.
  return { ...route, bytes: undefined, json: { ...route.json, vhds: {}, virtual_hosts: [...own, ...hosts] } };
}

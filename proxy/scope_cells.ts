/** Scopes that a control plane pushed, on one data thread: by name to be replaced, by key to be found. */
import type { Json } from '../config/resources.ts';
import type { PackedResource } from './distribution.ts';
import type { RouteTable } from './router/route.ts';
import type { Scope } from './router/scoped_routes.ts';

export class ScopeCells {
  readonly #byName = new Map<string, Scope>();
  readonly #byKey = new Map<string, Scope>();
  readonly #build: (json: Json, origin: string) => Scope;
  readonly #routes: (name: string) => RouteTable | undefined;

  /** `routes`: by RDS name, the newest. */
  constructor(build: (json: Json, origin: string) => Scope, routes: (name: string) => RouteTable | undefined) {
    this.#build = build;
    this.#routes = routes;
  }

  get(key: string): RouteTable | undefined {
    const routes = this.#byKey.get(key)?.routes;
    if (routes === undefined) return undefined;
    return 'table' in routes ? routes.table : this.#routes(routes.rdsName);
  }

  set(packed: PackedResource): void {
    this.delete(packed.name);
    const scope = this.#build(packed.decode(), packed.origin);
    this.#byName.set(packed.name, scope);
    this.#byKey.set(scope.key, scope);
  }

  delete(name: string): void {
    const scope = this.#byName.get(name);
    if (scope === undefined) return;
    this.#byName.delete(name);
    // Another scope may have taken its key over in the same update.
    if (this.#byKey.get(scope.key) === scope) this.#byKey.delete(scope.key);
  }
}

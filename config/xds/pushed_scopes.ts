/** Scopes of one control plane (SRDS): asked for together, each with a key of its own, named by connection managers. */
import { Fields } from '../../proxy/resource_fields.ts';
import { scopeKey } from '../../proxy/router/scoped_routes.ts';
import { ALL_SCOPES, type ConfigSink, type Dependency, type Json, type Resource } from '../resources.ts';
import type { BadResource } from './pushed_resources.ts';

export class PushedScopes {
  readonly #names = new Map<string, string>();
  #routeSource: Json = {};
  #isGiven = false;

  /** A listener wants them; `give` is called once they are there. */
  wanted({ routeSource }: Dependency, give: (whole: Resource) => void): void {
    this.#routeSource = routeSource ?? {};
    // Another listener had them: nothing is pushed again.
    if (this.#isGiven) setImmediate(() => give(this.#whole([])));
  }

  /** Says where the route configurations come from. */
  sourced(scope: Resource): Resource {
    return { ...scope, routeSource: this.#routeSource };
  }

  /** Two scopes with one key: nobody knows which is meant. Envoy refuses the later. */
  conflicting(changed: readonly Resource[], removed: readonly string[], origin: string): BadResource[] {
    const byKey = new Map<string, string>();
    const isNew = new Set(changed.map(({ name }) => name));
    for (const [name, key] of this.#names) {
      if (!isNew.has(name) && !removed.includes(name)) byKey.set(key, name);
    }
    return changed.flatMap(({ name, version, json }) => {
      const key = scopeKey(new Fields(json));
      const other = byKey.get(key);
      if (other === undefined) {
        byKey.set(key, name);
        return [];
      }
      return [{ name, version, json, reason: `Cannot use scope "${name}" (${origin}): scope "${other}" has its key` }];
    });
  }

  /** Taken over. With the first push listeners stop waiting, once its route configurations are there. */
  taken(changed: readonly Resource[], removed: readonly string[], sink: ConfigSink): void {
    for (const { name, json } of changed) this.#names.set(name, scopeKey(new Fields(json)));
    for (const name of removed) this.#names.delete(name);
    if (this.#isGiven) return;
    this.#isGiven = true;
    const whole = this.#whole(changed);
    sink.check(whole);
    sink.update({ upserts: [whole], removed: [], full: false, atomic: false, checked: true });
  }

  #whole(scopes: readonly Resource[]): Resource {
    const names = scopes.flatMap(({ json }) => json['route_configuration_name'] ?? []);
    const json = { route_configuration_names: names };
    return { type: 'scope', name: ALL_SCOPES, version: '', json, origin: '', routeSource: this.#routeSource };
  }
}

/** Runtime values in layers, the later over the earlier. Envoy: envoy.config.bootstrap.v3.LayeredRuntime. */
import { ConfigError } from './config_error.ts';
import { Fields } from './resource_fields.ts';

export type RuntimeValues = ReadonlyMap<string, string>;

interface Layer {
  readonly name: string;
  readonly values: Map<string, string>;
  /** Written by /runtime_modify. */
  readonly isAdmin: boolean;
}

/** Values that an operator sets by hand. */
export const MAX_ADMIN_OVERRIDES = 1000;

export class RuntimeLayers {
  readonly #layers: readonly Layer[];

  /** `json`: the bootstrap's layered_runtime; undefined: no layers. @throws {ConfigError} */
  constructor(json: unknown, path = 'layered_runtime') {
    this.#layers = new Fields(json ?? {}, path).messages('layers').map((fields) => {
      const name = fields.requiredString('name');
      if (fields.has('static_layer')) {
        const values = new Map<string, string>();
        flatten(fields.raw('static_layer'), '', values);
        return { name, values, isAdmin: false };
      }
      if (fields.has('admin_layer')) return { name, values: new Map(), isAdmin: true };
      throw new ConfigError(fields.path, `layer "${name}": static_layer and admin_layer are supported`);
    });
    if (this.#layers.filter(({ isAdmin }) => isAdmin).length > 1) {
      throw new ConfigError(path, 'there is more than one admin_layer');
    }
  }

  get layerCount(): number {
    return this.#layers.length;
  }

  get overrideCount(): number {
    return this.#admin?.values.size ?? 0;
  }

  get #admin(): Layer | undefined {
    return this.#layers.find(({ isAdmin }) => isAdmin);
  }

  /** What holds: the last layer that has a key decides. */
  values(): RuntimeValues {
    const merged = new Map<string, string>();
    for (const { values } of this.#layers) for (const [key, value] of values) merged.set(key, value);
    return merged;
  }

  /** An empty value takes the override away. @returns a complaint. */
  modify(changes: Iterable<readonly [string, string]>): string | undefined {
    const layer = this.#admin;
    if (layer === undefined) return 'No admin layer specified';
    for (const [key, value] of changes) {
      if (value === '') layer.values.delete(key);
      else if (layer.values.size >= MAX_ADMIN_OVERRIDES && !layer.values.has(key)) return 'too many overrides';
      else layer.values.set(key, value);
    }
    return undefined;
  }

  /** As /runtime prints it. */
  dump(): object {
    const entries: Record<string, object> = Object.create(null);
    for (const [key, final] of [...this.values()].sort(([a], [b]) => (a < b ? -1 : 1))) {
      entries[key] = {
        final_value: final,
        layer_values: this.#layers.map(({ values }) => values.get(key) ?? ''),
      };
    }
    return { layers: this.#layers.map(({ name }) => name), entries };
  }
}

/** Nested objects become dotted keys; a fractional percent stays one value. */
function flatten(value: unknown, key: string, into: Map<string, string>): void {
  if (value === null || typeof value !== 'object') {
    if (key !== '') into.set(key, String(value));
    return;
  }
  if ('numerator' in value) {
    into.set(key, JSON.stringify(value));
    return;
  }
  for (const [name, item] of Object.entries(value)) flatten(item, key === '' ? name : `${key}.${name}`, into);
}

/** Runtime values in layers, the later over the earlier. Envoy: envoy.config.bootstrap.v3.LayeredRuntime. */
import { ConfigError } from './config_error.ts';
import { Fields } from './resource_fields.ts';

export type RuntimeValues = ReadonlyMap<string, string>;

interface Layer {
  readonly name: string;
  readonly values: Map<string, string>;
  /** Written by /runtime_modify. */
  readonly isAdmin: boolean;
  /** The Runtime resource that fills it; '': none. */
  readonly resource: string;
}

/** A layer that comes by RTDS. */
export interface PushedLayer {
  readonly resource: string;
  /** envoy.config.core.v3.ConfigSource */
  readonly source: Fields;
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
        return { name, values, isAdmin: false, resource: '' };
      }
      if (fields.has('admin_layer')) return { name, values: new Map(), isAdmin: true, resource: '' };
      const rtds = fields.message('rtds_layer');
      if (rtds !== undefined) {
        return { name, values: new Map(), isAdmin: false, resource: rtds.requiredString('name') };
      }
      throw new ConfigError(fields.path, `layer "${name}": static_layer, rtds_layer and admin_layer are supported`);
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

  /** What a control plane says of a layer, whole. @throws {ConfigError} for values that are none. */
  push(resource: string, layer: unknown): void {
    const values = layerValues(layer);
    for (const { resource: wanted, values: held } of this.#layers) {
      if (wanted !== resource) continue;
      held.clear();
      for (const [key, value] of values) held.set(key, value);
    }
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

/** Of a bootstrap's layered_runtime. @throws {ConfigError} */
export function pushedLayers(json: unknown, path = 'layered_runtime'): PushedLayer[] {
  return new Fields(json ?? {}, path).messages('layers').flatMap((layer) => {
    const rtds = layer.message('rtds_layer');
    if (rtds === undefined) return [];
    return [{ resource: rtds.requiredString('name'), source: rtds.requiredMessage('rtds_config') }];
  });
}

/** The values of envoy.service.runtime.v3.Runtime.layer. @throws {ConfigError} for lists, as Envoy does. */
export function layerValues(layer: unknown): ReadonlyMap<string, string> {
  const values = new Map<string, string>();
  flatten(new Fields(layer ?? {}, 'layer').json, '', values);
  return values;
}

/** Nested objects become dotted keys; a fractional percent stays one value. */
function flatten(value: unknown, key: string, into: Map<string, string>): void {
  if (value === null || typeof value !== 'object') {
    if (key !== '') into.set(key, String(value));
    return;
  }
  if (Array.isArray(value)) throw new ConfigError(key, 'a list is no runtime value');
  if ('numerator' in value) {
    into.set(key, JSON.stringify(value));
    return;
  }
  for (const [name, item] of Object.entries(value)) flatten(item, key === '' ? name : `${key}.${name}`, into);
}

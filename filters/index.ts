/**
 * Finds the filters beside it: every file of this folder, of network/ and of listener/ is one filter. Nothing else
 * has to change when a filter is added.
 */
import { readdirSync } from 'node:fs';
import type { FilterFactory } from '../proxy/http/filter.ts';
import type { ListenerFilterFactory } from '../proxy/net/listener_filter.ts';
import type { NetworkFilterFactory } from '../proxy/net/network_filter.ts';

/** Factories with their type parameters erased: `parse` made the configuration that `create` gets back. */
export type AnyFilterFactory = FilterFactory<unknown, unknown, unknown>;
export type AnyNetworkFilterFactory = NetworkFilterFactory<unknown, unknown>;
export type AnyListenerFilterFactory = ListenerFilterFactory<unknown>;

export const httpFilters: ReadonlyMap<string, AnyFilterFactory> = await byTypeUrl<AnyFilterFactory>('./');
export const networkFilters: ReadonlyMap<string, AnyNetworkFilterFactory> =
  await byTypeUrl<AnyNetworkFilterFactory>('./network/');
export const listenerFilters: ReadonlyMap<string, AnyListenerFilterFactory> =
  await byTypeUrl<AnyListenerFilterFactory>('./listener/');

/** Which HTTP filter reads a per-route configuration of this type. */
export const routeFilters: ReadonlyMap<string, AnyFilterFactory> = new Map(
  [...new Set(httpFilters.values())].flatMap((factory) =>
    (factory.routeTypeUrls ?? []).map((typeUrl) => [typeUrl, factory] as const),
  ),
);

async function byTypeUrl<F extends { readonly typeUrls: readonly string[] }>(folder: string): Promise<Map<string, F>> {
  const found = new Map<string, F>();
  const url = new URL(folder, import.meta.url);
  // .ts in a checkout, .js in dist: whatever this file itself is.
  const extension = import.meta.url.slice(import.meta.url.lastIndexOf('.'));
  for (const entry of readdirSync(url, { withFileTypes: true })) {
    if (!entry.isFile() || !entry.name.endsWith(extension) || entry.name === `index${extension}`) continue;
    if (entry.name.endsWith('.d.ts')) continue;
    const module = (await import(new URL(entry.name, url).href)) as { default: F };
    for (const typeUrl of module.default.typeUrls) {
      const other = found.get(typeUrl);
      if (other !== undefined) throw new Error(`two filters answer to ${typeUrl}: one is ${entry.name}`);
      found.set(typeUrl, module.default);
    }
  }
  return found;
}

/**
 * Applies EnvoyFilters to what was compiled: filters of connection managers, routes, virtual hosts, clusters. Any other
 * patch that would hold for the workload is refused by name: what it was to protect or change would be missing unseen.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Json, Resource } from '../resources.ts';
import { resource } from './envoy_json.ts';
import type { EnvoyFilter, EnvoyPatch } from './envoy_filter.ts';
import { selects } from './model.ts';
import { fail, within } from './shape.ts';

type Mutable = { [field: string]: unknown };

const MANAGER = 'envoy.filters.network.http_connection_manager';

/** Which operations are executed on what. */
const EXECUTED: Readonly<Record<string, readonly string[]>> = {
  HTTP_FILTER: ['INSERT_BEFORE', 'INSERT_AFTER', 'INSERT_FIRST', 'ADD', 'MERGE', 'REPLACE', 'REMOVE'],
  HTTP_ROUTE: ['MERGE'],
  VIRTUAL_HOST: ['MERGE'],
  ROUTE_CONFIGURATION: ['MERGE'],
  CLUSTER: ['MERGE', 'ADD', 'REMOVE'],
};

/** Those that hold for a workload, in the order in which they apply: priority, the root namespace first, age. `all` oldest first. */
export function envoyFiltersFor(
  all: readonly EnvoyFilter[],
  namespace: string,
  labels: Readonly<Record<string, string>>,
  rootNamespace: string,
): EnvoyFilter[] {
  return all
    .filter(
      (filter) =>
        !filter.targeted &&
        filter.patches.some(concernsSidecar) &&
        (filter.namespace === namespace || filter.namespace === rootNamespace) &&
        (filter.selector === undefined || selects(filter.selector, labels)),
    )
    .sort(
      (a, b) =>
        a.priority - b.priority || Number(b.namespace === rootNamespace) - Number(a.namespace === rootNamespace),
    );
}

/** @throws {ConfigError} at a patch that Pillion does not execute */
export function applyEnvoyFilters(filters: readonly EnvoyFilter[], resources: readonly Resource[]): Resource[] {
  const patches = filters.flatMap((filter) => filter.patches).filter(concernsSidecar);
  if (patches.length === 0) return [...resources];
  for (const patch of patches) checkExecuted(patch);
  const out: Resource[] = [];
  for (const item of resources) {
    const json = structuredClone(item.json) as Mutable;
    let kept = true;
    for (const patch of patches) {
      if (item.type === 'listener') patchListener(json, patch);
      else if (item.type === 'route') patchRoutes(json, patch, 'SIDECAR_OUTBOUND');
      else if (item.type === 'cluster') kept &&= patchCluster(json, patch);
    }
    if (!kept) continue;
    out.push(isDeepStrictEqual(json, item.json) ? item : resource(item.type, item.name, json, item.origin));
  }
  for (const patch of patches) {
    if (patch.applyTo !== 'CLUSTER' || patch.patch?.operation !== 'ADD') continue;
    const json = patch.patch.value as Json;
    const { object } = patch.at;
    out.push(resource('cluster', String(json['name']), json, object.source.locate(patch.at.path)));
  }
  return out;
}

function concernsSidecar({ match }: EnvoyPatch): boolean {
  const context = match?.context ?? 'ANY';
  return context !== 'GATEWAY' && context !== 'WAYPOINT';
}

function checkExecuted({ applyTo = 'INVALID', patch, at }: EnvoyPatch): void {
  const operation = patch?.operation ?? 'INVALID';
  const known = EXECUTED[applyTo] ?? [];
  if (!known.includes(operation)) {
    fail(
      at,
      `Pillion does not execute EnvoyFilter patches that ${operation} to ${applyTo}; it executes ` +
        Object.entries(EXECUTED)
          .map(([what, operations]) => `${what} (${operations.join(', ')})`)
          .join(', '),
    );
  }
  const { value } = patch ?? {};
  if (operation !== 'REMOVE' && (value === null || typeof value !== 'object' || Array.isArray(value)))
    fail(within(at, 'patch', 'value'), 'an object is required');
  if ((applyTo === 'HTTP_FILTER' || applyTo === 'CLUSTER') && operation !== 'REMOVE' && operation !== 'MERGE') {
    if (typeof (value as Mutable)['name'] !== 'string')
      fail(within(at, 'patch', 'value', 'name'), 'a name is required');
  }
}

// ── listeners ─────────────────────────────────────────────────────────────────────────────────────────────────────

function patchListener(listener: Mutable, patch: EnvoyPatch): void {
  const inbound = listener['traffic_direction'] === 'INBOUND';
  const context = patch.match?.context ?? 'ANY';
  if (context !== 'ANY' && context !== (inbound ? 'SIDECAR_INBOUND' : 'SIDECAR_OUTBOUND')) return;
  const wanted = patch.match?.listener;
  if (wanted?.name !== undefined && wanted.name !== listener['name']) return;
  const chains = [...listOf(listener['filter_chains']), ...listOf([listener['default_filter_chain']])];
  const listenerPort = portOf(listener);
  for (const chain of chains) {
    const match = (chain['filter_chain_match'] ?? {}) as Mutable;
    const { filterChain, portNumber } = wanted ?? {};
    // On the shared inbound listener a port is that of the chain.
    if (
      portNumber !== undefined &&
      portNumber !== (inbound ? (match['destination_port'] ?? listenerPort) : listenerPort)
    )
      continue;
    if (filterChain?.name !== undefined && filterChain.name !== chain['name']) continue;
    if (filterChain?.destinationPort !== undefined && filterChain.destinationPort !== match['destination_port'])
      continue;
    if (filterChain?.transportProtocol !== undefined && filterChain.transportProtocol !== match['transport_protocol'])
      continue;
    if (filterChain?.sni !== undefined && !textsOf(match['server_names']).includes(filterChain.sni)) continue;
    if (filterChain?.applicationProtocols !== undefined) {
      const asked = filterChain.applicationProtocols.split(',').map((name) => name.trim());
      const have = textsOf(match['application_protocols']);
      if (!asked.every((name) => have.includes(name))) continue;
    }
    for (const filter of listOf(chain['filters'])) {
      if (filter['name'] !== MANAGER) continue;
      if (filterChain?.filter?.name !== undefined && filterChain.filter.name !== MANAGER) continue;
      const config = filter['typed_config'] as Mutable;
      if (patch.applyTo === 'HTTP_FILTER') patchFilters(config, patch, filterChain?.filter?.subFilter?.name);
      else if (config['route_config'] !== undefined)
        patchRoutes(config['route_config'] as Mutable, patch, inbound ? 'SIDECAR_INBOUND' : 'SIDECAR_OUTBOUND');
    }
  }
}

function patchFilters(config: Mutable, { patch }: EnvoyPatch, beside: string | undefined): void {
  const filters = listOf(config['http_filters']);
  const index = beside === undefined ? -1 : filters.findIndex((filter) => filter['name'] === beside);
  // Beside a filter that is not there nothing happens, as with istiod.
  if (beside !== undefined && index < 0) return;
  const value = structuredClone(patch?.value) as Mutable;
  switch (patch?.operation) {
    case 'INSERT_FIRST':
      filters.unshift(value);
      break;
    case 'INSERT_BEFORE':
      // Without a neighbour: before all others.
      filters.splice(Math.max(0, index), 0, value);
      break;
    case 'INSERT_AFTER':
      // Behind the router nothing runs.
      filters.splice(index < 0 ? filters.length : index + 1, 0, value);
      break;
    case 'ADD':
      filters.splice(Math.max(0, filters.length - 1), 0, value);
      break;
    case 'REMOVE':
      if (index >= 0) filters.splice(index, 1);
      break;
    case 'REPLACE':
      if (index >= 0) filters[index] = value;
      break;
    case 'MERGE':
      for (const filter of index >= 0 ? [filters[index] as Mutable] : filters) merge(filter, value);
      break;
    default:
      break;
  }
  config['http_filters'] = filters;
}

// ── routes ────────────────────────────────────────────────────────────────────────────────────────────────────────

function patchRoutes(table: Mutable, patch: EnvoyPatch, side: 'SIDECAR_INBOUND' | 'SIDECAR_OUTBOUND'): void {
  const context = patch.match?.context ?? 'ANY';
  if (context !== 'ANY' && context !== side) return;
  const wanted = patch.match?.routeConfiguration;
  if (wanted?.name !== undefined && wanted.name !== table['name']) return;
  if (wanted?.gateway !== undefined) return;
  const number = Number(/(\d+)(?:\|\|)?$/.exec(String(table['name']))?.[1]);
  if (wanted?.portNumber !== undefined && wanted.portNumber !== number) return;
  const value = patch.patch?.value as Mutable;
  if (patch.applyTo === 'ROUTE_CONFIGURATION') merge(table, value);
  if (patch.applyTo !== 'VIRTUAL_HOST' && patch.applyTo !== 'HTTP_ROUTE') return;
  const { vhost } = wanted ?? {};
  for (const host of listOf(table['virtual_hosts'])) {
    if (vhost?.name !== undefined && vhost.name !== host['name']) continue;
    if (vhost?.domainName !== undefined && !textsOf(host['domains']).includes(vhost.domainName)) continue;
    if (patch.applyTo === 'VIRTUAL_HOST') {
      merge(host, value);
      continue;
    }
    for (const route of listOf(host['routes'])) {
      if (vhost?.route?.name !== undefined && vhost.route.name !== route['name']) continue;
      const action = vhost?.route?.action ?? 'ANY';
      if (action !== 'ANY' && route[action.toLowerCase()] === undefined) continue;
      merge(route, value);
    }
  }
}

// ── clusters ──────────────────────────────────────────────────────────────────────────────────────────────────────

/** @returns false: it is removed */
function patchCluster(cluster: Mutable, patch: EnvoyPatch): boolean {
  if (patch.applyTo !== 'CLUSTER' || patch.patch?.operation === 'ADD') return true;
  const name = String(cluster['name']);
  const [direction, number, subset = '', host] = name.split('|');
  const context = patch.match?.context ?? 'ANY';
  if (context === 'SIDECAR_INBOUND' && direction !== 'inbound') return true;
  if (context === 'SIDECAR_OUTBOUND' && direction === 'inbound') return true;
  const wanted = patch.match?.cluster;
  if (wanted?.name !== undefined && wanted.name !== name) return true;
  if (wanted?.service !== undefined && wanted.service !== host) return true;
  if (wanted?.subset !== undefined && wanted.subset !== subset) return true;
  if (wanted?.portNumber !== undefined && wanted.portNumber !== Number(number)) return true;
  if (patch.patch?.operation === 'REMOVE') return false;
  merge(cluster, patch.patch?.value as Mutable);
  return true;
}

// ── pieces ────────────────────────────────────────────────────────────────────────────────────────────────────────

/** As protobuf merges: messages field by field, lists one behind the other, all else replaced; an `Any` of another type too. */
function merge(into: Mutable, from: Mutable): void {
  for (const [name, value] of Object.entries(from)) {
    const old = Object.hasOwn(into, name) ? into[name] : undefined;
    if (Array.isArray(value) && Array.isArray(old)) into[name] = [...old, ...structuredClone(value)];
    else if (isMessage(value) && isMessage(old) && (value['@type'] ?? old['@type']) === old['@type']) merge(old, value);
    else
      Object.defineProperty(into, name, {
        value: structuredClone(value),
        enumerable: true,
        writable: true,
        configurable: true,
      });
  }
}

function isMessage(value: unknown): value is Mutable {
  return value !== null && typeof value === 'object' && !Array.isArray(value);
}

function listOf(value: unknown): Mutable[] {
  return Array.isArray(value) ? value.filter(isMessage) : [];
}

function textsOf(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.map(String) : [];
}

function portOf(listener: Mutable): unknown {
  const address = listener['address'] as { readonly socket_address?: { readonly port_value?: unknown } } | undefined;
  return address?.socket_address?.port_value;
}

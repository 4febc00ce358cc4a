/** How a cluster's names are resolved: envoy.config.cluster.v3.Cluster's DNS fields, envoy.extensions.clusters.dns.v3.DnsCluster. */
import { isIP } from 'node:net';
import { Fields } from '../../proxy/resource_fields.ts';
import type { DnsOptions, DnsResolverOptions } from '../../proxy/upstream/dns_options.ts';
import { typedConfig } from './extensions.ts';
import { refuseUnexecuted } from '../../proxy/unexecuted_fields.ts';

const TYPE = 'type.googleapis.com/';
const RESOLVERS = `${TYPE}envoy.extensions.network.dns_resolver`;
export const DNS_CLUSTER = `${TYPE}envoy.extensions.clusters.dns.v3.DnsCluster`;

const FAMILIES = ['AUTO', 'V4_ONLY', 'V6_ONLY', 'V4_PREFERRED', 'ALL'] as const;
/** envoy.extensions.clusters.common.dns.v3.DnsLookupFamily. */
const DNS_CLUSTER_FAMILIES = ['UNSPECIFIED', ...FAMILIES] as const;

/** `cluster`: the whole message; `extension`: of cluster_type, which then says all. @throws {ConfigError} */
export function buildDns(cluster: Fields, extension: Fields | undefined): DnsOptions {
  const fields = extension ?? cluster;
  const family =
    extension === undefined
      ? fields.oneOf('dns_lookup_family', FAMILIES, 'AUTO')
      : fields.oneOf('dns_lookup_family', DNS_CLUSTER_FAMILIES, 'UNSPECIFIED');
  return {
    family: (family === 'UNSPECIFIED' ? 'AUTO' : family).toLowerCase() as DnsOptions['family'],
    respectTtl: fields.boolean('respect_dns_ttl') ?? false,
    refreshMs: atLeast1Ms(fields, 'dns_refresh_rate') ?? 5000,
    minRefreshMs: atLeast1Ms(fields, 'dns_min_refresh_rate') ?? 0,
    failure: buildFailureRate(fields.message('dns_failure_refresh_rate')),
    jitterMs: fields.durationMs('dns_jitter') ?? 0,
    // A bootstrap's resolver stands in the cluster.
    resolver: buildResolver(fields.has('typed_dns_resolver_config') || extension === undefined ? fields : cluster),
  };
}

function atLeast1Ms(fields: Fields, name: string): number | undefined {
  const value = fields.durationMs(name);
  if (value !== undefined && value < 1) fields.fail(name, `must be at least 0.001s, got ${value / 1000}s`);
  return value;
}

/** envoy.config.cluster.v3.Cluster.RefreshRate. */
function buildFailureRate(fields: Fields | undefined): DnsOptions['failure'] {
  if (fields === undefined) return undefined;
  const baseMs = atLeast1Ms(fields, 'base_interval') ?? fields.fail('base_interval', 'is required');
  const maxMs = atLeast1Ms(fields, 'max_interval') ?? baseMs * 10;
  if (maxMs < baseMs) fields.fail('max_interval', `must not be below base_interval, got ${maxMs / 1000}s`);
  return { baseMs, maxMs };
}

/** typed_dns_resolver_config, else dns_resolution_config, else the old fields of the cluster itself, as in Envoy. */
function buildResolver(fields: Fields): DnsResolverOptions {
  const typed = fields.message('typed_dns_resolver_config');
  if (typed !== undefined) return buildTypedResolver(typed);
  const resolution = fields.message('dns_resolution_config');
  if (resolution !== undefined) return buildCares(resolution, 'resolvers');
  if (fields.boolean('use_tcp_for_dns_lookups') === true) fields.fail('use_tcp_for_dns_lookups', OVER_UDP);
  return buildCares(fields, 'dns_resolvers');
}

const OVER_UDP = 'is not supported: names are asked for over UDP, and over TCP where the answer was cut';

function buildTypedResolver(typed: Fields): DnsResolverOptions {
  const at = typed.at('typed_config');
  const { typeUrl, json } = typedConfig(typed.raw('typed_config') ?? {}, at);
  const config = new Fields(json, at);
  switch (typeUrl) {
    case `${RESOLVERS}.cares.v3.CaresDnsResolverConfig`:
      return buildCares(config, 'resolvers');
    case `${RESOLVERS}.getaddrinfo.v3.GetAddrInfoDnsResolverConfig`:
      return { kind: 'getaddrinfo', retries: config.integer('num_retries') };
    default:
      return typed.fail('typed_config', `DNS resolver ${typeUrl.replace(TYPE, '')} is not supported`);
  }
}

/** envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig, and what came before it. */
function buildCares(fields: Fields, resolvers: string): DnsResolverOptions {
  const options = fields.message('dns_resolver_options');
  if (options?.boolean('use_tcp_for_dns_lookups') === true) options.fail('use_tcp_for_dns_lookups', OVER_UDP);
  if (fields.boolean('filter_unroutable_families') === true) {
    fields.fail('filter_unroutable_families', 'is not supported: dns_lookup_family says which addresses are wanted');
  }
  const seconds = fields.integer('query_timeout_seconds', 1);
  return {
    kind: 'cares',
    servers: fields.messages(resolvers).map(serverOf),
    onlyWithoutOthers: fields.boolean('use_resolvers_as_fallback') ?? false,
    searches: options?.boolean('no_default_search_domain') !== true,
    timeoutMs: seconds === undefined ? undefined : seconds * 1000,
    tries: fields.integer('query_tries', 1),
  };
}

/** envoy.config.core.v3.Address → `ip:port`. */
function serverOf(fields: Fields): string {
  const address = fields.requiredMessage('socket_address');
  refuseUnexecuted(address, 'SocketAddress');
  const ip = address.requiredString('address');
  if (isIP(ip) === 0) address.fail('address', `a resolver is named by its IP address, got "${ip}"`);
  const port = address.integer('port_value', 0, 65_535) || 53;
  return isIP(ip) === 6 ? `[${ip}]:${port}` : `${ip}:${port}`;
}

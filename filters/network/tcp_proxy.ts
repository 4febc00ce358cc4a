/** Carries a connection's bytes to a cluster and back. Envoy: envoy.extensions.filters.network.tcp_proxy.v3. */
import type { BuildContext } from '../../proxy/build_context.ts';
import { compileFormat } from '../../proxy/http/formatter.ts';
import type { Metadata } from '../../proxy/http/stream_info.ts';
import type { NetworkFilterFactory } from '../../proxy/net/network_filter.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import { HeaderMutations, parseHeaderAddition } from '../../proxy/router/header_mutations.ts';
import { TcpProxyConnection } from '../../proxy/tcp/tcp_proxy.ts';
import type { TcpDestination, TcpHashPolicy, TcpProxyConfig, TunnelConfig } from '../../proxy/tcp/tcp_proxy_config.ts';
import { TcpProxyRuntime } from '../../proxy/tcp/tcp_proxy_runtime.ts';
import { refuseUnexecuted } from '../../proxy/unexecuted_fields.ts';

const DEFAULT_IDLE_MS = 3_600_000;
/** Fields that would change what the proxy does, and that it does not do. */
const UNSUPPORTED = ['on_demand', 'proxy_protocol_tlvs', 'upstream_connect_mode', 'max_early_data_bytes'];

export default {
  typeUrls: ['type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy'],
  parse,
  create(config, { services }) {
    const runtime = new TcpProxyRuntime(config, services);
    return { takeOver: (stream, _newest, connection) => new TcpProxyConnection(stream, runtime, connection) };
  },
} satisfies NetworkFilterFactory<TcpProxyConfig>;

function parse(json: unknown, build: BuildContext): TcpProxyConfig {
  const fields = new Fields(json);
  for (const name of UNSUPPORTED) if (fields.has(name)) fields.fail(name, 'is not supported');
  refuseUnexecuted(fields, 'TcpProxy');
  const clusters = parseClusters(fields);
  const attempts = fields.integer('max_connect_attempts', 1) ?? 1;
  const backoff = fields.message('backoff_options');
  const baseMs = backoff === undefined ? 0 : (backoff.durationMs('base_interval') ?? 0);
  const options = fields.message('access_log_options');
  for (const name of ['access_log_flush_interval'] as const) {
    if (options?.has(name) || fields.has(name))
      fields.fail(name, 'logging while the connection lasts is not supported');
  }
  return {
    statPrefix: fields.requiredString('stat_prefix').replace(/;$/, ''),
    clusters,
    totalWeight: clusters.reduce((sum, { weight }) => sum + weight, 0),
    idleTimeoutMs: fields.durationMs('idle_timeout') ?? DEFAULT_IDLE_MS,
    maxConnectionDurationMs: fields.durationMs('max_downstream_connection_duration') ?? 0,
    maxDurationJitterPercent:
      fields.message('max_downstream_connection_duration_jitter_percentage')?.number('value', 0, 100) ?? 0,
    maxConnectAttempts: attempts,
    backoffBaseMs: baseMs,
    backoffMaxMs: backoff?.durationMs('max_interval') ?? baseMs * 10,
    hashPolicy: parseHashPolicy(fields),
    tunnel: parseTunnel(fields.message('tunneling_config')),
    accessLogs: build.accessLogs(fields.list('access_log'), 'access_log'),
    logOnConnected:
      options?.boolean('flush_access_log_on_connected') ?? fields.boolean('flush_access_log_on_connected') ?? false,
  };
}

function parseClusters(fields: Fields): TcpDestination[] {
  const metadataMatch = metadataOf(fields.message('metadata_match'));
  const weighted = fields.message('weighted_clusters');
  if (weighted === undefined) {
    return [{ cluster: fields.requiredString('cluster'), weight: 1, metadataMatch }];
  }
  if (fields.has('cluster')) fields.fail('cluster', 'cluster and weighted_clusters exclude each other');
  const clusters = weighted.messages('clusters').map((entry) => {
    const own = metadataOf(entry.message('metadata_match'));
    return {
      cluster: entry.requiredString('name'),
      weight: entry.integer('weight', 1) ?? entry.fail('weight', 'is required'),
      metadataMatch: own === undefined ? metadataMatch : mergeMetadata(metadataMatch, own),
    };
  });
  if (clusters.length === 0) weighted.fail('clusters', 'at least one cluster is required');
  return clusters;
}

function metadataOf(metadata: Fields | undefined): Metadata | undefined {
  return metadata === undefined ? undefined : ((metadata.raw('filter_metadata') ?? {}) as Metadata);
}

/** The entry's own values win, key by key. */
function mergeMetadata(outer: Metadata | undefined, own: Metadata): Metadata {
  const merged: Record<string, Readonly<Record<string, unknown>>> = { ...outer };
  for (const [namespace, values] of Object.entries(own)) merged[namespace] = { ...merged[namespace], ...values };
  return merged;
}

/** At most one. */
function parseHashPolicy(fields: Fields): TcpHashPolicy | undefined {
  const policies = fields.messages('hash_policy');
  if (policies.length > 1) fields.fail('hash_policy', 'at most one hash policy is allowed');
  const [policy] = policies;
  if (policy === undefined) return undefined;
  const state = policy.message('filter_state');
  if (state !== undefined) return { kind: 'filter_state', key: state.requiredString('key') };
  if (policy.has('source_ip')) return { kind: 'source_ip' };
  return policy.fail('source_ip', 'source_ip or filter_state is required');
}

function parseTunnel(fields: Fields | undefined): TunnelConfig | undefined {
  if (fields === undefined) return undefined;
  refuseUnexecuted(fields, 'TcpTunneling');
  for (const name of ['propagate_response_headers', 'propagate_response_trailers']) {
    if (fields.boolean(name) === true) fields.fail(name, 'is not supported');
  }
  const post = fields.boolean('use_post') ?? false;
  const path = fields.string('post_path');
  if (path !== undefined && path !== '' && !post) fields.fail('post_path', 'needs use_post');
  const additions = fields.messages('headers_to_add').map(parseHeaderAddition);
  return {
    hostname: compileFormat(fields.requiredString('hostname'), { absent: 'empty' }),
    method: post ? 'POST' : 'CONNECT',
    path: path || '/',
    headers: additions.length === 0 ? undefined : new HeaderMutations([], additions),
  };
}

/**
 * Every field of the messages that are read is executed, refused by name, or passed over for a reason that stands in
 * passed_over.ts: what changes the meaning of a configuration is never skipped silently.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { readBootstrap } from '../../config/bootstrap.ts';
import { inspectResource } from '../../config/build/check.ts';
import { buildContext } from '../../config/build/extensions.ts';
import type { Resource, ResourceType } from '../../config/resources.ts';
import { xdsSource } from '../../config/xds/bootstrap_source.ts';
import { httpFilters, listenerFilters, networkFilters, routeFilters } from '../../filters/index.ts';
import type { ParsedDocument } from '../../config/yaml_documents.ts';
import { AdminAccess } from '../../proxy/admin/admin_access.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import { type AuditOptions, type AuditRoot, auditFields, type Finding } from '../support/field_audit.ts';
import { inlineCertificate, MeshCa } from '../support/mesh_ca.ts';
import { PASSED_OVER } from './passed_over.ts';

type Json = Record<string, unknown>;

const TYPE = 'type.googleapis.com/';
const CLUSTER = 'envoy.config.cluster.v3.Cluster';
const LISTENER = 'envoy.config.listener.v3.Listener';
const ROUTES = 'envoy.config.route.v3.RouteConfiguration';
const SECRET = 'envoy.extensions.transport_sockets.tls.v3.Secret';
const BOOTSTRAP = 'envoy.config.bootstrap.v3.Bootstrap';
const HCM = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager';
const TLS = 'envoy.extensions.transport_sockets.tls.v3';
const HTTP_OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
const NETWORK = 'envoy.extensions.filters.network';
const HTTP_FILTERS = 'envoy.extensions.filters.http';

const any = (type: string, json: Json = {}): Json => ({ '@type': TYPE + type, ...json });
const ADS = { ads: {} };
const GRPC = { envoy_grpc: { cluster_name: 'x' } };
const ROUTER = { name: 'r', typed_config: any(`${HTTP_FILTERS}.router.v3.Router`) };
const CORS = { name: 'c', typed_config: any(`${HTTP_FILTERS}.cors.v3.Cors`) };
const ADDRESS = { socket_address: { address: '127.0.0.1', port_value: 7 } };
const ROUTE_CONFIG = {
  name: 'x',
  virtual_hosts: [{ name: 'x', domains: ['*'], routes: [{ match: { prefix: '/' }, route: { cluster: 'x' } }] }],
};
const TCP_PROXY = any(`${NETWORK}.tcp_proxy.v3.TcpProxy`, { stat_prefix: 'x', cluster: 'x' });
const OPEN_TELEMETRY = {
  name: 't',
  typed_config: any('envoy.config.trace.v3.OpenTelemetryConfig', { grpc_service: GRPC }),
};

const CONFIG_SERVER = {
  name: 'x',
  load_assignment: { cluster_name: 'x', endpoints: [{ lb_endpoints: [{ endpoint: { address: ADDRESS } }] }] },
};
const CA = new MeshCa();
const PAIR = inlineCertificate(CA.issue('spiffe://x')) as Json;
const TWO_REQUIREMENTS = [{ allow_missing: {} }, { allow_missing_or_failed: {} }];

const OPTIONS: AuditOptions = {
  samples: {
    'envoy.config.rbac.v3.Permission': { any: true },
    'envoy.config.rbac.v3.Principal': { any: true },
    'envoy.config.accesslog.v3.AccessLog': {
      name: 'x',
      typed_config: any('envoy.extensions.access_loggers.file.v3.FileAccessLog', { path: '/dev/null' }),
    },
    'envoy.config.accesslog.v3.AccessLogFilter': { not_health_check_filter: {} },
    'envoy.config.accesslog.v3.MetadataFilter': {
      matcher: { filter: 'x', path: [{ key: 'x' }], value: { present_match: true } },
    },
    [`${CLUSTER}.CustomClusterType`]: {
      name: 'x',
      typed_config: any('envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig', {
        dns_cache_config: { name: 'x' },
      }),
    },
    'envoy.config.cluster.v3.Filter': {
      name: 'x',
      typed_config: any('envoy.tcp.metadataexchange.config.MetadataExchange', { protocol: 'x' }),
    },
    'envoy.config.listener.v3.Filter': { name: 'x', typed_config: TCP_PROXY },
    'envoy.config.listener.v3.FilterChain': {},
    'envoy.config.listener.v3.ListenerFilter': {
      name: 'x',
      typed_config: any('envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector'),
    },
    'envoy.config.listener.v3.ListenerFilterChainMatchPredicate': { any_match: true },
    'envoy.config.listener.v3.AdditionalAddress': { address: ADDRESS },
    'envoy.config.core.v3.ApiConfigSource': { api_type: 'GRPC', transport_api_version: 'V3', grpc_services: [GRPC] },
    'envoy.config.core.v3.CidrRange': { address_prefix: '10.0.0.0', prefix_len: 8 },
    'envoy.config.core.v3.TransportSocket': {
      name: 'x',
      typed_config: any('envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer'),
    },
    'envoy.config.core.v3.ExtensionConfigSource': {
      config_source: ADS,
      type_urls: [`${TYPE}${HTTP_FILTERS}.cors.v3.Cors`],
    },
    'envoy.config.core.v3.ExtraSourceAddress': { address: { address: '127.0.0.1', port_value: 0 } },
    'envoy.config.core.v3.DataSource': { inline_string: 'x' },
    'envoy.config.core.v3.HttpUri': { uri: 'http://x', cluster: 'x', timeout: '7s' },
    'envoy.config.endpoint.v3.LbEndpoint': { endpoint: { address: ADDRESS } },
    'envoy.config.endpoint.v3.Endpoint': { address: ADDRESS },
    'envoy.config.endpoint.v3.Endpoint.AdditionalAddress': { address: ADDRESS },
    'envoy.config.route.v3.RateLimit': { actions: [{ remote_address: {} }] },
    'envoy.config.route.v3.RetryPolicy.RetryHostPredicate': {
      name: 'x',
      typed_config: any('envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate'),
    },
    'envoy.config.route.v3.RetryPolicy.RetryPriority': {
      name: 'x',
      typed_config: any('envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig', {
        update_frequency: 2,
      }),
    },
    'envoy.config.route.v3.RouteAction.RequestMirrorPolicy': { cluster: 'x' },
    'envoy.extensions.common.ratelimit.v3.LocalRateLimitDescriptor': {
      entries: [{ key: 'x', value: 'y' }],
      token_bucket: { max_tokens: 7, fill_interval: '7s' },
    },
    [`${HTTP_FILTERS}.ext_authz.v3.HttpService`]: { server_uri: { uri: 'http://x', cluster: 'x', timeout: '7s' } },
    [`${NETWORK}.http_connection_manager.v3.Rds`]: { route_config_name: 'x', config_source: ADS },
    [`${NETWORK}.http_connection_manager.v3.ScopedRoutes`]: {
      name: 'x',
      scope_key_builder: {
        fragments: [{ header_value_extractor: { name: 'x', element: { key: 'x', separator: '=' } } }],
      },
      rds_config_source: ADS,
      scoped_rds: { scoped_rds_config_source: ADS },
    },
    'envoy.type.tracing.v3.CustomTag.Metadata': {
      kind: { request: {} },
      metadata_key: { key: 'x', path: [{ key: 'x' }] },
    },
    'envoy.config.route.v3.ScopedRouteConfiguration': {
      name: 'x',
      route_configuration_name: 'x',
      key: { fragments: [{ string_key: 'x' }] },
    },
    'envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol.Rule': {
      tlv_type: 7,
      on_tlv_present: { key: 'x' },
    },
    'stats.MetricDefinition': { name: 'x', value: '1', type: 'COUNTER' },
    [`${TLS}.TlsCertificate`]: PAIR,
    'envoy.config.core.v3.GrpcService': GRPC,
    [`${HTTP_FILTERS}.on_demand.v3.OnDemandCds`]: { source: ADS },
    'envoy.config.core.v3.ConfigSource': ADS,
    'envoy.config.core.v3.Address': ADDRESS,
    'envoy.config.route.v3.RouteAction': { cluster: 'x' },
    'envoy.type.matcher.v3.OrMatcher': { value_matchers: [{ null_match: {} }, { present_match: true }] },
    [`${HTTP_FILTERS}.jwt_authn.v3.JwtRequirementOrList`]: { requirements: TWO_REQUIREMENTS },
    [`${HTTP_FILTERS}.jwt_authn.v3.JwtRequirementAndList`]: { requirements: TWO_REQUIREMENTS },
  },
  values: {
    'envoy.config.accesslog.v3.ResponseFlagFilter.flags': ['NR'],
    [`${HTTP_OPTIONS}.outlier_detection`]: { error_matcher: { any_match: true } },
    [`${HTTP_FILTERS}.jwt_authn.v3.JwtRequirementOrList.requirements`]: TWO_REQUIREMENTS,
    [`${HTTP_FILTERS}.jwt_authn.v3.JwtRequirementAndList.requirements`]: TWO_REQUIREMENTS,
    'envoy.type.matcher.v3.OrMatcher.value_matchers': [{ null_match: {} }, { present_match: true }],
    // Where it is the default that is harmless.
    'envoy.config.core.v3.Http1ProtocolOptions.allow_absolute_url': false,
    'envoy.config.route.v3.Decorator.propagate': false,
    [`${HTTP_FILTERS}.ext_authz.v3.ExtAuthz.enable_dynamic_metadata_ingestion`]: false,
    // What no sample value fits.
    [`${HTTP_FILTERS}.router.v3.Router.strict_check_headers`]: ['x-envoy-upstream-rq-timeout-ms'],
    [`${HTTP_FILTERS}.ratelimit.v3.RateLimit.request_type`]: 'internal',
    [`${TLS}.TlsParameters.compliance_policies`]: ['FIPS_202205'],
    [`${CLUSTER}.typed_extension_protocol_options`]: {
      [HTTP_OPTIONS]: any(HTTP_OPTIONS, { explicit_http_config: { http_protocol_options: {} } }),
    },
    [`${HCM}.Tracing.provider`]: OPEN_TELEMETRY,
  },
  // What makes a field matter.
  beside: {
    [`${CLUSTER}.eds_cluster_config`]: { type: 'EDS' },
    [`${CLUSTER}.ring_hash_lb_config`]: { lb_policy: 'RING_HASH' },
    [`${CLUSTER}.maglev_lb_config`]: { lb_policy: 'MAGLEV' },
    [`${CLUSTER}.least_request_lb_config`]: { lb_policy: 'LEAST_REQUEST' },
    [`${CLUSTER}.original_dst_lb_config`]: { type: 'ORIGINAL_DST', lb_policy: 'CLUSTER_PROVIDED' },
    [`${CLUSTER}.common_lb_config`]: { lb_policy: 'RING_HASH' },
    [`${CLUSTER}.lb_subset_config`]: { lb_subset_config: { subset_selectors: [{ keys: ['x'] }] } },
    'envoy.config.route.v3.RouteAction.include_vh_rate_limits': {
      rate_limits: [{ actions: [{ remote_address: {} }] }],
    },
    'envoy.config.core.v3.ProxyProtocolPassThroughTLVs.tlv_type': { match_type: 'INCLUDE' },
    'envoy.config.rbac.v3.Policy.cel_config': { condition: { const_expr: { bool_value: true } } },
    [`${TLS}.SubjectAltNameMatcher.oid`]: { san_type: 'OTHER_NAME' },
    [`${TLS}.CertificateValidationContext.match_typed_subject_alt_names`]: { trusted_ca: { inline_string: CA.pem } },
    [`${TLS}.CertificateValidationContext.match_subject_alt_names`]: { trusted_ca: { inline_string: CA.pem } },
    [`${HCM}.tracing`]: { tracing: { provider: OPEN_TELEMETRY } },
  },
  closed: new Set([
    // Read by matchers of their own, which refuse what they do not know.
    'google.api.expr.v1alpha1.Expr',
    'google.api.expr.v1alpha1.CheckedExpr',
    'xds.type.matcher.v3.Matcher',
    // What stands there decides; the name is anybody's.
    'envoy.config.core.v3.TypedExtensionConfig',
    'envoy.config.accesslog.v3.ExtensionFilter',
    'xds.core.v3.TypedExtensionConfig',
  ]),
};

/** Read as a source's resource is, with what it depends on. */
function resource(type: ResourceType): AuditRoot['read'] {
  return (json) => {
    const given: Resource = { type, name: 'x', version: '1', json, origin: 'x' };
    const found = inspectResource(given);
    if (found instanceof ConfigError) throw found.cause;
  };
}

async function bootstrap(json: Json): Promise<void> {
  await readBootstrap({ json, source: { locate: () => 'x' } } as unknown as ParsedDocument);
  xdsSource(json, { id: '', cluster: '', version: '' }, { log: () => {} });
  new AdminAccess(json['admin'], []);
}

const inChain = (type: string, json: Json): Json => ({
  name: 'x',
  address: ADDRESS,
  filter_chains: [{ filters: [{ name: 'x', typed_config: any(type, json) }] }],
});

/** The least that a filter takes beyond what the annotations ask for. */
const FILTER_BASES: Readonly<Record<string, Json>> = {
  [`${HTTP_FILTERS}.ext_authz.v3.ExtAuthz`]: { transport_api_version: 'V3', grpc_service: GRPC },
  'envoy.extensions.filters.network.ext_authz.v3.ExtAuthz': {
    stat_prefix: 'x',
    transport_api_version: 'V3',
    grpc_service: GRPC,
  },
  'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy': { stat_prefix: 'x', cluster: 'x' },
  [`${HTTP_FILTERS}.ratelimit.v3.RateLimit`]: {
    domain: 'x',
    rate_limit_service: { transport_api_version: 'V3', grpc_service: GRPC },
  },
};

/** Where a filter wants something else of a message than others do. */
const SAMPLES_OF: Readonly<Record<string, AuditOptions['samples']>> = {
  [LISTENER]: {
    'envoy.config.core.v3.ExtensionConfigSource': {
      config_source: ADS,
      type_urls: [`${TYPE}envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector`],
    },
  },
  [`${HTTP_FILTERS}.jwt_authn.v3.JwtAuthentication`]: {
    'envoy.config.core.v3.DataSource': { inline_string: '{"keys":[]}' },
  },
};

const plainType = (typeUrl: string): string => typeUrl.slice(TYPE.length);

interface Root extends AuditRoot {
  readonly what: string;
  /** Types with a root of their own. */
  readonly closed?: readonly string[];
}

const ALL_ROOTS: readonly Root[] = [
  {
    what: 'bootstrap',
    type: BOOTSTRAP,
    closed: [CLUSTER, LISTENER, SECRET],
    base: { node: { id: 'x', cluster: 'y' }, static_resources: { clusters: [CONFIG_SERVER] } },
    read: bootstrap,
  },
  { what: 'cluster', type: CLUSTER, base: { name: 'x' }, read: resource('cluster') },
  {
    what: 'HTTP options of a cluster',
    type: HTTP_OPTIONS,
    base: { explicit_http_config: { http_protocol_options: {} } },
    read: (json) =>
      resource('cluster')({ name: 'x', typed_extension_protocol_options: { [HTTP_OPTIONS]: any(HTTP_OPTIONS, json) } }),
  },
  { what: 'load assignment', type: 'envoy.config.endpoint.v3.ClusterLoadAssignment', read: resource('endpoint') },
  {
    what: 'listener',
    type: LISTENER,
    base: { name: 'x', address: ADDRESS, filter_chains: [{}] },
    read: resource('listener'),
  },
  { what: 'routes', type: ROUTES, base: ROUTE_CONFIG, read: resource('route') },
  {
    what: 'secret',
    type: SECRET,
    base: { name: 'x', generic_secret: { secret: { inline_string: 'x' } } },
    read: resource('secret'),
  },
  {
    what: 'connection manager',
    type: HCM,
    closed: ['envoy.config.route.v3.VirtualHost'],
    base: { stat_prefix: 'x', route_config: ROUTE_CONFIG, http_filters: [CORS, ROUTER] },
    read: (json) => resource('listener')(inChain(HCM, json)),
  },
  {
    what: 'TLS of a listener',
    type: `${TLS}.DownstreamTlsContext`,
    base: { common_tls_context: { tls_certificate_sds_secret_configs: [{ name: 'x', sds_config: ADS }] } },
    read: (json) =>
      resource('listener')({
        name: 'x',
        address: ADDRESS,
        filter_chains: [{ transport_socket: { name: 'x', typed_config: any(`${TLS}.DownstreamTlsContext`, json) } }],
      }),
  },
  {
    what: 'TLS of a cluster',
    type: `${TLS}.UpstreamTlsContext`,
    read: (json) =>
      resource('cluster')({
        name: 'x',
        transport_socket: { name: 'x', typed_config: any(`${TLS}.UpstreamTlsContext`, json) },
      }),
  },
  ...[...httpFilters].map(([typeUrl, factory]) => ({
    what: `filter ${plainType(typeUrl)}`,
    type: plainType(typeUrl),
    read: (json: Json) => factory.parse(json),
  })),
  ...[...routeFilters].map(([typeUrl, factory]) => ({
    what: `route's ${plainType(typeUrl)}`,
    type: plainType(typeUrl),
    read: (json: Json) => factory.parseRoute?.(json),
  })),
  ...[...networkFilters]
    .filter(([typeUrl]) => plainType(typeUrl) !== HCM)
    .map(([typeUrl, factory]) => ({
      what: `network filter ${plainType(typeUrl)}`,
      type: plainType(typeUrl),
      read: (json: Json) => factory.parse(json, buildContext('x')),
    })),
  ...[...listenerFilters].map(([typeUrl, factory]) => ({
    what: `listener filter ${plainType(typeUrl)}`,
    type: plainType(typeUrl),
    read: (json: Json) => factory.parse(json),
  })),
];

/** A newer name of istio.stats, which has no descriptor: its fields are those of stats.PluginConfig. */
const ROOTS = ALL_ROOTS.filter(({ type }) => type !== 'io.istio.http.stats.Config');

describe('every field', () => {
  const passedOver = new Set<string>();
  for (const { what, closed = [], ...root } of ROOTS) {
    test(`every field of ${what} is executed, refused or explained`, async () => {
      const findings = await auditFields(
        { base: FILTER_BASES[root.type], ...root },
        {
          ...OPTIONS,
          samples: { ...OPTIONS.samples, ...SAMPLES_OF[root.type] },
          closed: new Set([...OPTIONS.closed, ...closed]),
        },
      );
      const bad = findings.filter(({ field, verdict }) => {
        if (verdict !== 'passed over') return verdict === 'cannot be set';
        passedOver.add(field);
        return PASSED_OVER[field] === undefined;
      });
      assert.ok(bad.length === 0, `\n${bad.map(line).join('\n')}`);
    });
  }

  test('no explanation is stale', () => {
    assert.deepEqual(
      Object.keys(PASSED_OVER).filter((field) => !passedOver.has(field)),
      [],
    );
  });
});

function line({ field, verdict, sentence }: Finding): string {
  return `${field}: ${verdict}${sentence === '' ? '' : ` (${sentence})`}`;
}

/** Clusters towards services: one a port, and one more for each subset. */
import type { Json, Resource } from '../resources.ts';
import type { CompileContext } from './context.ts';
import {
  type ClientTls,
  type DestinationRule,
  effectivePolicy,
  type Subset,
  type TrafficPolicy,
} from './destination_rule.ts';
import { ADS, any, extension, originOf, resource, seconds } from './envoy_json.ts';
import { outboundClusterName } from './cluster_names.ts';
import { inSubset, loadAssignment } from './load_assignment.ts';
import { localityPlan, type LocalityPlan } from './locality_balancing.ts';
import type { Endpoint, MeshService, Resolution, ServicePort } from './model.ts';
import {
  commonLbFields,
  connectionPoolFields,
  type HttpOptions,
  httpOptions,
  httpProtocolOptions,
  loadBalancerFields,
  outlierFields,
  upgradeToHttp2,
} from './traffic_policy.ts';
import { METADATA_EXCHANGE } from './peer_exchange.ts';
import { autoMutualTls, istioMutualTls, proxyProtocolSocket, userTls } from './upstream_tls.ts';

/** Clusters and load assignments of everything the client sees. */
export function outboundResources(context: CompileContext): Resource[] {
  const out: Resource[] = [];
  for (const service of context.services) {
    const rule = context.rule(service.host);
    for (const port of service.ports) {
      if (port.protocol === 'UDP' || (service.resolution === 'alias' && !context.explicit)) continue;
      const endpoints = context.endpoints.of(service, port);
      for (const subset of [undefined, ...(rule?.subsets ?? [])]) {
        out.push(...clusterResources(context, { service, port, rule, subset, endpoints }));
      }
    }
  }
  return out;
}

interface Target {
  readonly service: MeshService;
  readonly port: ServicePort;
  readonly rule: DestinationRule | undefined;
  readonly subset: Subset | undefined;
  readonly endpoints: readonly Endpoint[];
}

function clusterResources(context: CompileContext, target: Target): Resource[] {
  const { service, port, rule, subset, endpoints } = target;
  const name = outboundClusterName(port.number, subset?.name ?? '', service.host);
  const policy = effectivePolicy(rule, subset, port.number);
  const type = clusterType(context, service, policy);
  if (type === 'dns' || type === 'dns_round_robin') {
    // Nothing to resolve: without the cluster requests get 503 with flag NC, as with istiod.
    if (service.resolution !== 'alias' && inSubset(endpoints, subset).length === 0) return [];
  }
  const options = httpOptions(port.protocol);
  const pool = connectionPoolFields(policy, context.mesh, options);
  upgradeToHttp2(policy, port.protocol, context.mesh, options);
  const tls = transportFields(context, target, policy, type === 'passthrough', options);
  const http = httpProtocolOptions(options);
  const cluster: Json = {
    name,
    alt_stat_name: `${name};`,
    ...typeFields(context, type, name, endpoints, subset, service, planOf(context, service, policy)),
    ...pool,
    ...(http !== undefined && { typed_extension_protocol_options: http }),
    ...outlierFields(policy.outlierDetection),
    ...commonLbFields(policy),
    ...(type === 'passthrough' || type === 'dynamic_dns'
      ? { lb_policy: 'CLUSTER_PROVIDED' }
      : loadBalancerFields(policy.loadBalancer)),
    ...tls.fields,
    metadata: { filter_metadata: { istio: istioMetadata(service, rule, subset, tls.overridesAlpn) } },
    // Without certificates of the mesh nobody speaks istio-peer-exchange.
    ...(context.hasIdentity && { filters: [METADATA_EXCHANGE] }),
  };
  // A rule with a TLS of its own is stronger than what the endpoints offer.
  const meshTls = endpointsWithTls(context, policy.tls?.mode);
  const origin = originOf(rule?.object ?? service.object);
  const out = [resource('cluster', name, cluster, origin)];
  if (type === 'endpoints') {
    const plan = planOf(context, service, policy);
    out.push(
      resource('endpoint', name, loadAssignment(name, endpoints, subset, meshTls, plan), originOf(service.object)),
    );
  }
  return out;
}

function planOf(
  { mesh, client }: CompileContext,
  service: MeshService,
  { loadBalancer, outlierDetection }: Omit<TrafficPolicy, 'at'>,
): LocalityPlan | undefined {
  const rule = loadBalancer?.localityLbSetting;
  return localityPlan(rule, service, mesh.localityLbSetting, outlierDetection !== undefined, client);
}

type ClusterType = Exclude<Resolution, 'alias'>;

function clusterType(context: CompileContext, service: MeshService, policy: Omit<TrafficPolicy, 'at'>): ClusterType {
  const { resolution, registry } = service;
  if (context.explicit) {
    // There is no original destination: a headless service goes to its Pods, an entry without addresses and an
    // ExternalName to what its name resolves to.
    if (resolution === 'passthrough') return registry === 'kubernetes' ? 'endpoints' : 'dynamic_dns';
    return resolution === 'alias' ? 'dns' : resolution;
  }
  if (resolution === 'alias') return 'dns';
  return policy.loadBalancer?.simple === 'PASSTHROUGH' ? 'passthrough' : resolution;
}

function typeFields(
  context: CompileContext,
  type: ClusterType,
  name: string,
  endpoints: readonly Endpoint[],
  subset: Subset | undefined,
  service: MeshService,
  plan: LocalityPlan | undefined,
): Json {
  switch (type) {
    case 'endpoints':
      return { type: 'EDS', eds_cluster_config: { eds_config: ADS, service_name: name } };
    case 'passthrough':
      return { type: 'ORIGINAL_DST' };
    case 'dynamic_dns':
      return dynamicForwardProxyFields();
    case 'dns':
    case 'dns_round_robin':
      return {
        type: type === 'dns' ? 'STRICT_DNS' : 'LOGICAL_DNS',
        load_assignment:
          service.resolution === 'alias'
            ? aliasAssignment(name, service)
            : loadAssignment(name, endpoints, subset, endpointsWithTls(context, undefined), plan),
        dns_refresh_rate: seconds(context.mesh.dnsRefreshMs),
        dns_jitter: '0.100s',
        respect_dns_ttl: true,
        // A sidecar's network is IPv4 here; a laptop's may be either.
        dns_lookup_family: context.explicit ? 'V4_PREFERRED' : 'V4_ONLY',
        typed_dns_resolver_config: extension(
          'envoy.network.dns_resolver.cares',
          'envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig',
          { udp_max_queries: 100 },
        ),
      };
    default:
      return type satisfies never;
  }
}

function aliasAssignment(name: string, service: MeshService): Json {
  const port = Number(name.split('|')[1]);
  const address = { socket_address: { address: service.externalName, port_value: port } };
  return { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] };
}

/** The host is the one the request names. */
/** Where answers for names that clients give are kept; the same for all who share it. */
export const DNS_CACHE: Json = { name: 'dynamic_forward_proxy', dns_lookup_family: 'V4_PREFERRED' };

export function dynamicForwardProxyFields(): Json {
  return {
    cluster_type: {
      name: 'envoy.clusters.dynamic_forward_proxy',
      typed_config: any('envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig', {
        dns_cache_config: DNS_CACHE,
        // Envoy asks for this where the cluster does not check the server's name, as plain text cannot.
        allow_insecure_cluster_options: true,
      }),
    },
  };
}

/** `/apis/networking.istio.io/v1/namespaces/NS/KIND/NAME`: which object decided, for istioctl and the logs. */
export function configPath(kind: string, namespace: string, name: string): string {
  return `/apis/networking.istio.io/v1/namespaces/${namespace}/${kind}/${name}`;
}

function istioMetadata(
  service: MeshService,
  rule: DestinationRule | undefined,
  subset: Subset | undefined,
  overridesAlpn: boolean,
): Json {
  const { host, name, namespace } = service;
  return {
    ...(overridesAlpn && { alpn_override: 'false' }),
    ...(rule !== undefined && { config: configPath('destination-rule', rule.object.namespace, rule.object.name) }),
    ...(service.external && { external: true }),
    services: [{ host, name, namespace }],
    ...(subset !== undefined && { subset: subset.name }),
  };
}

interface TlsFields {
  readonly fields: Json;
  /** The rule's own TLS must not get Istio's ALPN. */
  readonly overridesAlpn: boolean;
}

const PLAIN: TlsFields = { fields: {}, overridesAlpn: false };

function transportFields(
  context: CompileContext,
  target: Target,
  policy: Omit<TrafficPolicy, 'at'>,
  passthrough: boolean,
  options: HttpOptions,
): TlsFields {
  // A mock that stands in for the workload speaks plain text.
  if (target.endpoints.some((endpoint) => endpoint.relocated)) return PLAIN;
  const { fields, overridesAlpn } = tlsFields(context, target, policy.tls, passthrough, options);
  if (policy.proxyProtocol === undefined) return { fields, overridesAlpn };
  const inner = fields['transport_socket'] as Json | undefined;
  const socket = proxyProtocolSocket(policy.proxyProtocol.version ?? 'V1', inner);
  return { fields: { ...fields, transport_socket: socket }, overridesAlpn };
}

function tlsFields(
  context: CompileContext,
  target: Target,
  tls: ClientTls | undefined,
  passthrough: boolean,
  options: HttpOptions,
): TlsFields {
  const { service, port, subset, endpoints } = target;
  const http2 = options.upstream === 'http2';
  const accounts = () => context.endpoints.serviceAccounts(service, port, context.mesh.trustDomain);
  const ownSni = `outbound_.${port.number}_.${subset?.name ?? ''}_.${service.host}`;
  if (tls === undefined) {
    if (!context.hasIdentity || service.external || !context.mesh.autoMtls) return PLAIN;
    if (!passthrough) {
      return { fields: { transport_socket_matches: autoMutualTls(ownSni, accounts(), http2) }, overridesAlpn: false };
    }
    // Nobody says which endpoint an original destination is: mutual TLS only if all of them take it.
    const all = endpoints.length > 0 && endpoints.every((endpoint) => context.serverTls.takes(endpoint));
    return all
      ? { fields: { transport_socket: istioMutualTls(ownSni, accounts(), http2) }, overridesAlpn: false }
      : PLAIN;
  }
  const sni = tls.sni ?? '';
  switch (tls.mode ?? 'DISABLE') {
    case 'DISABLE':
      return PLAIN;
    case 'ISTIO_MUTUAL': {
      const names = tls.subjectAltNames ?? accounts();
      return {
        fields: { transport_socket: istioMutualTls(sni === '' ? ownSni : sni, names, http2) },
        overridesAlpn: false,
      };
    }
    default: {
      options.autoSni = sni === '';
      options.autoSanValidation =
        options.autoSni && (tls.subjectAltNames ?? []).length === 0 && tls.insecureSkipVerify !== true;
      return {
        fields: { transport_socket: userTls(tls, service.subjectAltNames, http2, context.mesh.tlsDefaults) },
        overridesAlpn: true,
      };
    }
  }
}

/** An explicit ISTIO_MUTUAL asks no server; without a word of the rule each server's PeerAuthentication is asked. */
function endpointsWithTls(context: CompileContext, mode: string | undefined): (endpoint: Endpoint) => boolean {
  if (mode === 'ISTIO_MUTUAL') return ({ instance }) => instance.mutualTls;
  if (mode !== undefined) return () => false;
  return (endpoint) => context.serverTls.takes(endpoint);
}

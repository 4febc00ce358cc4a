/** Endpoints as ClusterLoadAssignment: by locality, with weights, health and Istio's metadata. */
import type { Json } from '../resources.ts';
import { socketAddress } from './envoy_json.ts';
import { balanced, type LocalityPlan, weightOf } from './locality_balancing.ts';
import type { Endpoint, Instance, Locality } from './model.ts';
import type { Subset } from './destination_rule.ts';
import { selects } from './model.ts';

const CLUSTER_ID = 'Kubernetes';

/**
 * @param subset undefined: all endpoints; without labels: all too
 * @param meshTls which endpoints are marked as taking the mesh's mutual TLS
 * @param plan which localities come first for the client; undefined: all alike
 */
export function loadAssignment(
  clusterName: string,
  endpoints: readonly Endpoint[],
  subset: Subset | undefined,
  meshTls: (endpoint: Endpoint) => boolean,
  plan: LocalityPlan | undefined,
): Json {
  const byLocality = new Map<string, { readonly locality: Locality; readonly items: Endpoint[] }>();
  for (const endpoint of inSubset(endpoints, subset)) {
    const { locality } = endpoint.instance;
    const key = `${locality.region}/${locality.zone}/${locality.subZone}`;
    const group = byLocality.get(key);
    if (group === undefined) byLocality.set(key, { locality, items: [endpoint] });
    else group.items.push(endpoint);
  }
  const groups = [...byLocality.values()].map((group) => ({ ...group, priority: 0, weight: weightOf(group.items) }));
  return {
    cluster_name: clusterName,
    endpoints: balanced(groups, plan).map(({ locality, items, priority, weight }) => ({
      locality: localityJson(locality),
      lb_endpoints: items.map((item) => lbEndpoint(item, meshTls)),
      load_balancing_weight: weight,
      ...(priority > 0 && { priority }),
    })),
  };
}

/** Those that a subset selects; all of them without a subset. */
export function inSubset(endpoints: readonly Endpoint[], subset: Subset | undefined): readonly Endpoint[] {
  if (subset === undefined) return endpoints;
  return endpoints.filter((endpoint) => selects(subset.labels, endpoint.instance.workload.labels));
}

function lbEndpoint(endpoint: Endpoint, meshTls: (endpoint: Endpoint) => boolean): Json {
  const { instance, address, additional, port, health } = endpoint;
  const place = address.startsWith('unix://')
    ? { pipe: { path: address.slice('unix://'.length) } }
    : socketAddress(address, port);
  return {
    endpoint: {
      address: place,
      ...(additional.length > 0 && {
        additional_addresses: additional.map((ip) => ({ address: socketAddress(ip, port) })),
      }),
    },
    ...(health !== undefined && { health_status: health }),
    metadata: {
      filter_metadata: {
        ...(!endpoint.relocated && meshTls(endpoint) && { 'envoy.transport_socket_match': { tlsMode: 'istio' } }),
        istio: { workload: workloadText(instance) },
      },
    },
    load_balancing_weight: weightOf([endpoint]),
  };
}

function localityJson({ region, zone, subZone }: Locality): Json {
  return {
    ...(region !== '' && { region }),
    ...(zone !== '' && { zone }),
    ...(subZone !== '' && { sub_zone: subZone }),
  };
}

/** `workload;namespace;canonical name;canonical revision;cluster`, from which metrics take their labels. */
function workloadText({ workload, workloadName }: Instance): string {
  const { labels, namespace } = workload;
  const name =
    labels['service.istio.io/canonical-name'] ?? labels['app.kubernetes.io/name'] ?? labels['app'] ?? workloadName;
  const revision =
    labels['service.istio.io/canonical-revision'] ?? labels['app.kubernetes.io/version'] ?? labels['version'] ?? '';
  return `${workloadName};${namespace};${name};${revision};${CLUSTER_ID}`;
}

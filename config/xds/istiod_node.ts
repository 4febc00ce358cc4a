/** Who this proxy is for istiod: node id and metadata, from the environment that the injector sets. Source: istio.md §2.9, §2.10; istio/istio pkg/bootstrap. */
import { existsSync, readFileSync } from 'node:fs';
import { ConfigError } from '../../proxy/config_error.ts';
import type { Json } from '../resources.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

export interface IstiodNode {
  /** envoy.config.core.v3.Node. */
  readonly json: Json;
  readonly namespace: string;
}

/** Whose configuration is understood: istiod sends older proxies less. */
const ISTIO_VERSION = '1.30.0';
/** Kubernetes' downward API. */
const POD_INFO = '/etc/istio/pod';
const LOCALITY_LABEL = 'istio-locality';

/** @param proxyConfig ProxyConfig of the mesh, of the pod's annotation. @throws {ConfigError} for JSON that is none. */
export function istiodNode(environment: Environment, proxyConfig: Json, podInfo = POD_INFO): IstiodNode {
  const name = environment['POD_NAME'] || environment['HOSTNAME'] || 'unknown';
  const namespace = environment['POD_NAMESPACE'] || 'default';
  const ips = (environment['INSTANCE_IPS'] || environment['INSTANCE_IP'] || '127.0.0.1').split(',');
  const domain = environment['DOMAIN_SUFFIX'] || 'cluster.local';
  const labels = { ...pairs(`${podInfo}/labels`), ...fromJson(environment, 'ISTIO_META_LABELS') };
  const annotations = pairs(`${podInfo}/annotations`);
  const workload = environment['ISTIO_META_WORKLOAD_NAME'] || workloadOf(name);
  const metadata: Record<string, unknown> = {
    NAME: name,
    NAMESPACE: namespace,
    INSTANCE_IPS: ips.join(','),
    SERVICE_ACCOUNT: environment['SERVICE_ACCOUNT'] || 'default',
    WORKLOAD_NAME: workload,
    CLUSTER_ID: 'Kubernetes',
    ISTIO_VERSION,
    INTERCEPTION_MODE: 'REDIRECT',
    ENVOY_STATUS_PORT: Number(environment['ENVOY_STATUS_PORT'] || 15021),
    ENVOY_PROMETHEUS_PORT: Number(environment['ENVOY_PROMETHEUS_PORT'] || 15090),
    PILOT_SAN: [environment['ISTIOD_SAN'] || 'istiod.istio-system.svc'],
    ...(environment['NODE_NAME'] && { NODE_NAME: environment['NODE_NAME'] }),
    ...(Object.keys(annotations).length > 0 && { ANNOTATIONS: annotations }),
    PROXY_CONFIG: proxyConfig,
    ...fromEnvironment(environment),
    LABELS: labels,
  };
  return {
    namespace,
    json: {
      id: `sidecar~${ips[0]}~${name}.${namespace}~${namespace}.svc.${domain}`,
      cluster: serviceCluster(proxyConfig, labels, workload, namespace),
      metadata,
      ...localityOf(labels),
    },
  };
}

/** ISTIO_META_X is X; ISTIO_METAJSON_X is an object whose members stand beside it. */
function fromEnvironment(environment: Environment): Record<string, unknown> {
  const metadata: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(environment)) {
    if (value === undefined || value === '') continue;
    if (name.startsWith('ISTIO_METAJSON_')) Object.assign(metadata, fromJson(environment, name));
    else if (name.startsWith('ISTIO_META_') && name !== 'ISTIO_META_LABELS') {
      metadata[name.slice('ISTIO_META_'.length)] = value;
    }
  }
  return metadata;
}

function fromJson(environment: Environment, name: string): Record<string, unknown> {
  const text = environment[name];
  if (text === undefined || text === '') return {};
  try {
    const value: unknown = JSON.parse(text);
    if (value !== null && typeof value === 'object' && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // Said below.
  }
  throw new ConfigError('', `Cannot use ${name}: a JSON object is wanted`);
}

/** Files of the downward API: `key="value"` a line. */
function pairs(path: string): Record<string, string> {
  if (!existsSync(path)) return {};
  const found: Record<string, string> = {};
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    const match = /^([^=]+)=(".*")$/.exec(line.trim());
    if (match === null) continue;
    try {
      found[match[1] as string] = String(JSON.parse(match[2] as string));
    } catch {
      // Not one of the downward API's lines.
    }
  }
  return found;
}

/** `reviews-v1-6d4f8b7c9d-x2x4z` → `reviews-v1`. */
function workloadOf(pod: string): string {
  return pod.replace(/-[a-z0-9]{5,10}-[a-z0-9]{5}$/, '');
}

function serviceCluster(proxyConfig: Json, labels: Json, workload: string, namespace: string): string {
  const configured = proxyConfig['serviceCluster'];
  if (typeof configured === 'string' && configured !== '' && configured !== 'istio-proxy') return configured;
  const app = labels['service.istio.io/canonical-name'] ?? labels['app.kubernetes.io/name'] ?? labels['app'];
  return `${typeof app === 'string' && app !== '' ? app : workload}.${namespace}`;
}

/** `region.zone.subzone`, dots or slashes between them. */
function localityOf(labels: Json): Json {
  const given = labels[LOCALITY_LABEL] ?? labels['topology.istio.io/locality'];
  const text =
    typeof given === 'string'
      ? given
      : [
          labels['topology.kubernetes.io/region'],
          labels['topology.kubernetes.io/zone'],
          labels['topology.istio.io/subzone'],
        ]
          .map((part) => (typeof part === 'string' ? part : ''))
          .join('/')
          .replace(/\/+$/, '');
  if (text === '') return {};
  const [region = '', zone = '', sub_zone = ''] = text.includes('/') ? text.split('/') : text.split('.');
  return { locality: { region, zone, sub_zone } };
}

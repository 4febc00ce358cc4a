/** Labels that Istio's metrics of requests and of connections share. Source: istio/proxy istio_stats; istio.md §3.1. */
import type { Metadata, StreamInfo } from '../http/stream_info.ts';
import type { ConnectionInfo } from '../net/connection_info.ts';
import { NOBODY, type Peer } from './peer.ts';

const UNKNOWN = 'unknown';

export interface LabelInput {
  /** The proxy reports as destination. */
  readonly inbound: boolean;
  readonly own: Peer;
  readonly info: StreamInfo;
  readonly connection: ConnectionInfo;
  /** The destination's name where the cluster has no service. */
  readonly serviceFallback: string;
}

/** reporter, source_*, destination_*, response_flags and connection_security_policy. */
export function istioLabels({ inbound, own, info, connection, serviceFallback }: LabelInput): Record<string, string> {
  const source = inbound ? (info.downstreamPeer ?? NOBODY) : own;
  const destination = inbound ? own : (info.upstreamPeer ?? peerOfHost(info.upstreamHostMetadata));
  const service = serviceOf(info.upstreamClusterMetadata);
  const tls = inbound ? connection.tls : info.upstreamTls;
  const [peerName, ownName] = [tls?.peerUriSans[0], tls?.localUriSans[0]];
  return {
    reporter: inbound ? 'destination' : 'source',
    source_workload: source.workload,
    source_workload_namespace: source.namespace,
    source_principal: (inbound ? peerName : ownName) ?? UNKNOWN,
    source_app: source.app,
    source_version: source.version,
    source_canonical_service: source.canonicalService,
    source_canonical_revision: source.canonicalRevision,
    source_cluster: source.cluster,
    destination_workload: destination.workload,
    destination_workload_namespace: destination.namespace,
    destination_principal: (inbound ? ownName : peerName) ?? UNKNOWN,
    destination_app: destination.app,
    destination_version: destination.version,
    destination_service: service?.host ?? serviceFallback,
    destination_service_name: service?.name ?? passthroughName(info.upstreamCluster) ?? serviceFallback,
    destination_service_namespace: service?.namespace ?? destination.namespace,
    destination_canonical_service: destination.canonicalService,
    destination_canonical_revision: destination.canonicalRevision,
    destination_cluster: destination.cluster,
    response_flags: info.flags?.join(',') ?? '-',
    connection_security_policy: inbound ? (tls?.mutual === true ? 'mutual_tls' : 'none') : UNKNOWN,
  };
}

/** `workload;namespace;canonical name;canonical revision;cluster`, as istiod writes it into endpoints. */
function peerOfHost(metadata: Metadata | undefined): Peer {
  const text = metadata?.['istio']?.['workload'];
  if (typeof text !== 'string') return NOBODY;
  const [workload, namespace, service, revision, cluster] = text.split(';').map((part) => part || undefined);
  return {
    workload: workload ?? UNKNOWN,
    namespace: namespace ?? UNKNOWN,
    app: service ?? UNKNOWN,
    version: revision ?? UNKNOWN,
    canonicalService: service ?? UNKNOWN,
    canonicalRevision: revision ?? 'latest',
    cluster: cluster ?? UNKNOWN,
  };
}

function serviceOf(metadata: Metadata | undefined): { host: string; name: string; namespace: string } | undefined {
  const services = metadata?.['istio']?.['services'];
  const first = Array.isArray(services) ? (services[0] as Record<string, unknown> | undefined) : undefined;
  if (first === undefined) return undefined;
  const text = (name: string): string => (typeof first[name] === 'string' ? (first[name] as string) : UNKNOWN);
  return { host: text('host'), name: text('name'), namespace: text('namespace') };
}

function passthroughName(cluster: string | undefined): string | undefined {
  if (cluster === undefined) return undefined;
  if (cluster.startsWith('InboundPassthrough')) return 'InboundPassthroughCluster';
  return cluster === 'PassthroughCluster' || cluster === 'BlackHoleCluster' ? cluster : undefined;
}

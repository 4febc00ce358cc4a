/** Who speaks, in OpenTelemetry's words (semantic conventions: resource). */
import type { NodeIdentity } from '../proxy_options.ts';

/** The part of OpenTelemetry's Resource that serializers read. */
export interface OtlpResource {
  readonly attributes: Readonly<Record<string, string>>;
  readonly asyncAttributesPending: false;
}

export function resourceOf(serviceName: string, { metadata, id }: NodeIdentity): OtlpResource {
  const text = (name: string): string | undefined => {
    const value = metadata[name];
    return typeof value === 'string' && value !== '' ? value : undefined;
  };
  const namespace = text('NAMESPACE');
  const pod = text('NAME');
  return {
    attributes: {
      'service.name': serviceName,
      ...(namespace !== undefined && { 'k8s.namespace.name': namespace }),
      ...(pod !== undefined && { 'k8s.pod.name': pod }),
      ...(id !== '' && { 'service.instance.id': id }),
    },
    asyncAttributesPending: false,
  };
}

/** Istio's default: the application's name and namespace. */
export function serviceNameOf({ metadata, cluster }: NodeIdentity): string {
  const labels = metadata['LABELS'] as Readonly<Record<string, unknown>> | undefined;
  const name = labels?.['service.istio.io/canonical-name'] ?? labels?.['app'] ?? metadata['WORKLOAD_NAME'];
  const namespace = metadata['NAMESPACE'];
  if (typeof name === 'string' && name !== '') return typeof namespace === 'string' ? `${name}.${namespace}` : name;
  return cluster === '' ? 'pillion' : cluster;
}

/** OpenTelemetry's time: seconds and nanoseconds. */
export function hrTime(ms: number): [number, number] {
  const seconds = Math.floor(ms / 1000);
  return [seconds, Math.round((ms - seconds * 1000) * 1e6)];
}

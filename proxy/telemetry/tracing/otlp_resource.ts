/** Who speaks, in OpenTelemetry's words (semantic conventions: resource). */
import type { NodeIdentity } from '../../proxy_options.ts';

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

/** EndpointSlice (discovery.k8s.io/v1). */
import type { KubeObject } from '../kube_object.ts';
import { type At, boolean, list, openMessage, port, type Read, text } from './shape.ts';

const SLICE = openMessage({
  addressType: text,
  ports: list(openMessage({ name: text, port, protocol: text })),
  endpoints: list(
    openMessage({
      addresses: list(text),
      conditions: openMessage({ ready: boolean, serving: boolean, terminating: boolean }),
      nodeName: text,
      zone: text,
      targetRef: openMessage({ kind: text, name: text, namespace: text }),
    }),
  ),
});

export interface EndpointSlice {
  readonly object: KubeObject;
  /** Which service it belongs to; '' if it does not say. */
  readonly service: string;
  readonly ipv6: boolean;
  readonly ports: readonly { readonly name: string; readonly number: number }[];
  readonly endpoints: readonly {
    readonly address: string;
    readonly ready: boolean;
    /** '' if it is not a Pod. */
    readonly pod: string;
    readonly nodeName: string;
  }[];
}

/** @throws {ConfigError} */
export function parseEndpointSlice(object: KubeObject, at: At): EndpointSlice {
  const slice = SLICE(object.json, at);
  return {
    object,
    service: object.labels['kubernetes.io/service-name'] ?? '',
    ipv6: slice.addressType === 'IPv6',
    ports: (slice.ports ?? []).flatMap(({ name, port: number }) =>
      number === undefined ? [] : [{ name: name ?? '', number }],
    ),
    endpoints: slice.addressType === 'FQDN' ? [] : (slice.endpoints ?? []).flatMap(addresses),
  };
}

type SliceEndpoint = NonNullable<Read<typeof SLICE>['endpoints']>[number];

function addresses(item: SliceEndpoint): EndpointSlice['endpoints'][number][] {
  return (item.addresses ?? []).map((address) => ({
    address,
    // An absent condition means ready, as Kubernetes asks of consumers.
    ready: item.conditions?.ready ?? true,
    pod: item.targetRef?.kind === 'Pod' ? (item.targetRef.name ?? '') : '',
    nodeName: item.nodeName ?? '',
  }));
}

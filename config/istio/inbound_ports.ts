/** The workload's own ports: those that services name, or those that its Sidecar lists. */
import type { CompileContext } from './context.ts';
import type { MeshService, ServicePort } from './model.ts';
import { inboundTargetPort, isPartOf } from './own_services.ts';
import type { Protocol } from './protocol.ts';
import type { SidecarIngress } from './sidecar.ts';

export interface InboundPort {
  /** Where the client's connections arrive: the workload's port, or the Sidecar's. */
  readonly number: number;
  readonly protocol: Protocol;
  /** The oldest service in front of it; undefined: none names it. */
  readonly owner: { readonly service: MeshService; readonly port: ServicePort } | undefined;
  /** Set where a Sidecar lists the port. */
  readonly ingress: SidecarIngress | undefined;
}

/** In the order of services and ports; each number once. */
export function inboundPorts(context: CompileContext): InboundPort[] {
  const owners = new Map<number, NonNullable<InboundPort['owner']>>();
  for (const service of context.exported) {
    if (!isPartOf(context, service)) continue;
    for (const port of service.ports) {
      const number = inboundTargetPort(context, service, port);
      if (number !== undefined && !owners.has(number)) owners.set(number, { service, port });
    }
  }
  const ingress = context.scope.sidecar?.ingress;
  if (ingress !== undefined) {
    return ingress.map((item) => ({
      number: item.port.number,
      protocol: item.port.protocol,
      owner: owners.get(item.port.number),
      ingress: item,
    }));
  }
  return [...owners].map(([number, owner]) => ({ number, protocol: owner.port.protocol, owner, ingress: undefined }));
}

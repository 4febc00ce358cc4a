/** Which services the proxy's own workload stands behind. */
import type { CompileContext } from './context.ts';
import { type MeshService, type ServicePort, selects } from './model.ts';
import { targetPort } from './service_endpoints.ts';

/** Selected by its labels in its namespace, or listed with its address. */
export function isPartOf(context: CompileContext, service: MeshService): boolean {
  const { client } = context;
  if (service.namespace !== client.namespace || service.resolution === 'alias') return false;
  if (service.selector !== undefined) return selects(service.selector, client.labels);
  return context.endpoints.instances(service).some(({ address }) => client.ips.includes(address));
}

/** The workload's port behind a service port; undefined where the workload has no port of the wanted name. */
export function inboundTargetPort(
  context: CompileContext,
  service: MeshService,
  port: ServicePort,
): number | undefined {
  const own = context.endpoints
    .instances(service)
    .find(({ workload }) => workload.ips.some((ip) => context.client.ips.includes(ip)));
  const named = own?.portNumbers.get(port.name);
  if (named !== undefined) return named;
  if (own !== undefined) return targetPort(own.workload, port);
  // A name given on the command line may stand for a Deployment, which has no address of its own.
  const workload = context.endpoints.instances(service)[0]?.workload;
  if (workload !== undefined) return targetPort(workload, port);
  return typeof port.targetPort === 'string' ? undefined : (port.targetPort ?? port.number);
}

/** The service port in front of a workload port: the oldest service's. */
export function ownerOf(
  context: CompileContext,
  workloadPort: number,
): { readonly service: MeshService; readonly port: ServicePort } | undefined {
  for (const service of context.exported) {
    if (!isPartOf(context, service)) continue;
    for (const port of service.ports) {
      if (port.protocol !== 'UDP' && inboundTargetPort(context, service, port) === workloadPort)
        return { service, port };
    }
  }
  return undefined;
}

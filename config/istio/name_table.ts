/** The names that a workload's DNS proxy answers (istio/istio: pilot/pkg/networking/core/.. dns.BuildNameTable). */
import type { NamedHost } from '../../proxy/dns/name_table.ts';
import type { CompileContext } from './context.ts';
import type { Instance, MeshService } from './model.ts';

/** By host. Hosts without any address are left out: whoever else knows them is asked. */
export function nameTable(context: CompileContext): ReadonlyMap<string, NamedHost> {
  const out = new Map<string, NamedHost>();
  for (const service of context.services) {
    const ips = addressesOf(context, service);
    if (ips.length === 0) continue;
    const kubernetes = service.registry === 'kubernetes';
    out.set(service.host, {
      ips,
      registry: kubernetes ? 'Kubernetes' : 'External',
      shortname: kubernetes ? service.name : '',
      namespace: kubernetes ? service.namespace : '',
      altHosts: kubernetes ? shortForms(service, context) : [],
    });
    if (kubernetes && service.resolution === 'passthrough') addPods(context, service, out);
  }
  return out;
}

/** Virtual addresses; of a headless service those of its pods. */
function addressesOf(context: CompileContext, service: MeshService): readonly string[] {
  if (service.addresses.length > 0) return service.addresses;
  if (service.resolution !== 'passthrough' || service.registry !== 'kubernetes') return [];
  return [...new Set(readyInstances(context, service).flatMap((instance) => addressesOfPod(service, instance)))];
}

/** A Pod of both families has an answer for both, where its service has. */
function addressesOfPod({ dualStack }: MeshService, { workload, address }: Instance): readonly string[] {
  return dualStack && workload.ips.length > 1 ? workload.ips : [address];
}

/** Each pod of a headless service has a name of its own below it (StatefulSets). */
function addPods(context: CompileContext, service: MeshService, out: Map<string, NamedHost>): void {
  for (const instance of readyInstances(context, service)) {
    const { workload } = instance;
    if (workload.kind !== 'Pod') continue;
    out.set(`${workload.name}.${service.host}`, {
      ips: addressesOfPod(service, instance),
      registry: 'Kubernetes',
      shortname: '',
      namespace: service.namespace,
      altHosts: shortForms(service, context).map((form) => `${workload.name}.${form}`),
    });
  }
}

function readyInstances(context: CompileContext, service: MeshService) {
  return context.endpoints.instances(service).filter(({ ready }) => ready || service.publishNotReady);
}

/** What a resolver in the client's namespace makes full by its search domains. */
function shortForms({ name, namespace }: MeshService, { client }: CompileContext): string[] {
  const near = namespace === client.namespace ? [name] : [];
  return [...near, `${name}.${namespace}`, `${name}.${namespace}.svc`];
}

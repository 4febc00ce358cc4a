/** Compiles Kubernetes and Istio objects to Envoy resources, as istiod does. */
import type { Resource } from '../resources.ts';
import { CompileContext } from './context.ts';
import { applyEnvoyFilters, envoyFiltersFor } from './envoy_filter_patches.ts';
import { originOf } from './envoy_json.ts';
import { fail } from './shape.ts';
import { holdsFor } from './workload_selector.ts';
import { credentialSecrets } from './credential_secrets.ts';
import { explicitListeners } from './explicit_listeners.ts';
import { hostCaptures } from './host_capture.ts';
import { inboundClusters, inboundPassthrough } from './inbound_cluster.ts';
import { boundInbound, virtualInbound } from './inbound_listener.ts';
import { type MeshConfig, meshConfig } from './mesh.ts';
import { type Instance, type Locality, type MeshService, parseLocality } from './model.ts';
import { boundListeners, outboundListeners } from './outbound_listeners.ts';
import { outboundResources } from './outbound_cluster.ts';
import { dynamicForwardProxy, passthroughClusters } from './passthrough_cluster.ts';
import { withAutoAddresses } from './auto_addresses.ts';
import { nameTable } from './name_table.ts';
import { policyAdvice } from './policy_advice.ts';
import { proxyConfigFor } from './proxy_config.ts';
import { readObjects, type Registry } from './registry.ts';
import { boundRoutes, explicitRoutes, sidecarRoutes } from './route_configurations.ts';
import { type ClientFamilies, ServiceEndpoints } from './service_endpoints.ts';
import { allWorkloads, notYet, serviceSummaries } from './summary.ts';
import type { CompileInput, CompileResult, ProxyIdentity, Workload } from './target.ts';
import { sidecarFor } from './sidecar.ts';
import { sidecarScope } from './sidecar_scope.ts';
import { RouteRules, routingRules } from './virtual_hosts.ts';
import { isVisible } from './visibility.ts';
import { workloadPolicy } from './workload_policy.ts';

/**
 * The resources for one proxy, and what there is to tell about the input.
 * @throws {ConfigError} at the first thing that is wrong; `origin` is its place in the file.
 */
export function compile(input: CompileInput): CompileResult {
  const mesh = meshConfig(input.mesh);
  const { domain, mode } = input;
  const registry = readObjects(input.objects, mesh, domain, input.allowUnknownFields ?? false);
  const client = {
    namespace: input.proxy?.namespace ?? 'default',
    labels: input.proxy?.labels ?? {},
    ips: input.proxy?.ips ?? [],
    transparent: interceptionMode(registry, mesh, input.proxy) === 'TPROXY',
    locality: localityOf(registry, input.proxy),
  };
  const visible = visibleServices(registry.services, client.namespace);
  const exported = input.dnsCapture === true ? withAutoAddresses(visible) : visible;
  const context = new CompileContext({
    mesh,
    domain,
    registry,
    endpoints: new ServiceEndpoints(registry, input.endpointAddress, familiesOf(client.ips)),
    client,
    explicit: mode.kind === 'explicit',
    hasIdentity: mode.kind === 'sidecar' ? mode.hasIdentity !== false : mode.hasIdentity === true,
    keys: input.keys ?? (() => undefined),
    exported,
    scope: sidecarScope(
      sidecarFor(registry.sidecars, client.namespace, client.labels, mesh.rootNamespace),
      exported,
      routingRules(registry.virtualServices, client.namespace),
      client.namespace,
    ),
  });
  const rules = new RouteRules(context);
  const policy = workloadPolicy(context);
  const resources: Resource[] = outboundResources(context);
  if (mode.kind === 'sidecar') {
    resources.push(...passthroughClusters(context), ...inboundClusters(context), inboundPassthrough(context));
    resources.push(virtualInbound(context, policy), ...boundInbound(context, policy));
    resources.push(...sidecarRoutes(context, rules), ...outboundListeners(context));
  } else {
    resources.push(
      dynamicForwardProxy(context),
      explicitRoutes(context, rules),
      ...boundRoutes(context, rules),
      ...boundListeners(context, mode.accessLog),
      ...explicitListeners(context, mode, policy),
    );
  }
  resources.push(...credentialSecrets(resources, input.objects, client.namespace));
  refuseForeignCode(context, input.proxy !== undefined);
  const patched = patchResources(context, resources, input.proxy !== undefined);
  context.warnings.push(...(input.proxy === undefined ? [] : policyAdvice(context)));
  context.warnings.push(...mesh.warnings, ...hostCaptures(context), ...notYet(context));
  return {
    resources: patched,
    services: serviceSummaries(context),
    workloads: allWorkloads(context),
    names: nameTable(context),
    proxyConfig: proxyConfigFor(registry.proxyConfigs, client.namespace, client.labels, mesh.rootNamespace),
    wantedKeys: policy.wantedKeys,
    warnings: context.warnings,
  };
}

/** Without a workload nobody can say whether a patch or plug-in concerns it: it is named instead. */
function patchResources(context: CompileContext, resources: readonly Resource[], known: boolean): readonly Resource[] {
  const { client, mesh, registry } = context;
  const filters = envoyFiltersFor(registry.envoyFilters, client.namespace, client.labels, mesh.rootNamespace);
  if (known) return applyEnvoyFilters(filters, resources);
  for (const { object } of filters) {
    context.warnings.push(
      `${originOf(object)}: EnvoyFilter "${object.name}" applies to workloads; name one with --workload.`,
    );
  }
  return resources;
}

function refuseForeignCode(context: CompileContext, known: boolean): void {
  const { client, mesh, registry } = context;
  for (const { object, scope } of registry.foreignCode) {
    if (!holdsFor(object, scope, client, mesh.rootNamespace)) continue;
    const sentence = `${object.kind} "${object.name}" asks for Wasm or Lua, which Pillion does not run`;
    if (known) fail(scope.at, `${sentence}; remove it, or let its selector leave this workload out`);
    context.warnings.push(`${originOf(object)}: ${sentence}.`);
  }
}

/** Its labels say so, else its Pod, Deployment or WorkloadEntry. */
function localityOf({ instances }: Registry, proxy: CompileInput['proxy']): Locality {
  const label = proxy?.labels['istio-locality'] ?? proxy?.labels['topology.istio.io/locality'];
  if (label !== undefined || proxy === undefined) return parseLocality(label, '.');
  return ownInstance(instances, proxy)?.locality ?? parseLocality(undefined);
}

/** Of the workload's own Pod, by its annotation, else of the mesh. */
function interceptionMode({ instances }: Registry, mesh: MeshConfig, proxy: CompileInput['proxy']): string {
  const own = proxy === undefined ? undefined : ownInstance(instances, proxy);
  return own?.object.annotations['sidecar.istio.io/interceptionMode'] ?? mesh.interceptionMode;
}

function ownInstance({ all }: Registry['instances'], proxy: ProxyIdentity): Instance | undefined {
  return all.find(({ workload }) => workload.name === proxy.name && workload.namespace === proxy.namespace);
}

function familiesOf(ips: readonly string[]): ClientFamilies {
  const v6 = ips.filter((ip) => ip.includes(':')).length;
  return v6 === 0 ? 'v4' : v6 === ips.length ? 'v6' : 'both';
}

/**
 * The workloads in the objects, for choosing the one beside which the proxy stands before compiling for it.
 * @throws {ConfigError}
 */
export function readWorkloads(input: Pick<CompileInput, 'objects' | 'allowUnknownFields'>): Workload[] {
  const { instances } = readObjects(input.objects, meshConfig({}), 'cluster.local', input.allowUnknownFields ?? false);
  return instances.all.map((instance) => instance.workload);
}

/**
 * What the client sees, one service a host: its own namespace's before others', Kubernetes' before entries, the
 * older before the younger. Entries of one namespace and host add their ports.
 */
function visibleServices(all: readonly MeshService[], namespace: string): MeshService[] {
  const byHost = new Map<string, MeshService>();
  for (const service of all) {
    if (!isVisible(service.visibility, namespace)) continue;
    const other = byHost.get(service.host);
    if (other === undefined || (other.namespace !== namespace && service.namespace === namespace)) {
      byHost.set(service.host, service);
    } else if (other.namespace === service.namespace && other.resolution === service.resolution) {
      byHost.set(service.host, withPorts(other, service));
    }
  }
  return [...byHost.values()];
}

function withPorts(service: MeshService, other: MeshService): MeshService {
  const known = new Set(service.ports.map((port) => port.number));
  const added = other.ports.filter((port) => !known.has(port.number));
  return added.length === 0 ? service : { ...service, ports: [...service.ports, ...added] };
}

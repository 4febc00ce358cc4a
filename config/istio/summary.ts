/** What `dev` prints of the services, and what the compiler does not do yet. */
import type { KubeObject } from '../kube_object.ts';
import type { CompileContext } from './context.ts';
import type { Instance, MeshService } from './model.ts';
import { targetPort } from './service_endpoints.ts';
import { closest } from './spelling.ts';
import type { ServiceSummary, Workload } from './target.ts';
import type { VirtualService } from './virtual_service.ts';

/** Services with workloads first hand: what each has, and which rules shape it. */
export function serviceSummaries(context: CompileContext): ServiceSummary[] {
  const rulesByHost = new Map<string, VirtualService[]>();
  for (const rule of context.virtualServices) {
    for (const host of rule.hosts) rulesByHost.set(host, [...(rulesByHost.get(host) ?? []), rule]);
  }
  return context.services.map((service) => {
    const instances = context.endpoints.instances(service);
    return {
      host: service.host,
      namespace: service.namespace,
      shortName: service.name,
      ports: service.ports.map((port) => ({
        number: port.number,
        name: port.name,
        protocol: port.protocol,
        targetPort: firstTarget(instances, port) ?? port.number,
      })),
      workloads: instances.map((instance) => instance.workload.name),
      shapedBy: shapedBy(context, service, rulesByHost.get(service.host) ?? []),
      origin: service.object.source.locate(['metadata', 'name']),
    };
  });
}

function firstTarget(instances: readonly Instance[], port: MeshService['ports'][number]): number | undefined {
  const first = instances[0];
  if (first === undefined) return typeof port.targetPort === 'number' ? port.targetPort : undefined;
  return first.portNumbers.get(port.name) ?? targetPort(first.workload, port);
}

function shapedBy(context: CompileContext, service: MeshService, rules: readonly VirtualService[]): string[] {
  const rule = context.rule(service.host);
  return [
    ...rules.map((item) => `VirtualService/${item.name}`),
    ...(rule === undefined ? [] : [`DestinationRule/${rule.object.name}`]),
  ];
}

export function allWorkloads(context: CompileContext): Workload[] {
  return context.registry.instances.all.map((instance) => instance.workload);
}

/** Each object that asks for what this version does not do yet, with its place. */
export function notYet(context: CompileContext): string[] {
  const say = (object: KubeObject, sentence: string) =>
    `${object.source.locate(['metadata', 'name'])}: ${object.kind} "${object.name}" ${sentence}`;
  return [
    ...context.registry.uncompiled
      .filter(({ kind }) => kind !== 'Gateway' && kind !== 'GatewayClass')
      .map((object) => say(object, 'is ignored by this version.')),
    ...forGatewaysOnly(context, say),
    ...ineffectiveOutlierDetection(context, say),
    ...unreadPolicies(context, say),
    ...danglingDestinations(context),
  ];
}

/** On a laptop a rule for an ingress gateway is easily taken for one that holds between services. */
function forGatewaysOnly(
  context: CompileContext,
  say: (object: KubeObject, sentence: string) => string,
): readonly string[] {
  if (!context.explicit) return [];
  return context.registry.virtualServices
    .filter(({ gateways, hosts }) => hosts.length > 0 && gateways.length > 0 && !gateways.includes('mesh'))
    .map(({ object, gateways }) =>
      say(
        object,
        `holds for ${gateways.join(', ')} only, and gateways are not run here; ` +
          'with "mesh" among its gateways it would hold between services.',
      ),
    );
}

/** With few hosts the limit of 10 % ejects nothing: Envoy rounds down and istiod does not ask for one host at least. */
function ineffectiveOutlierDetection(
  context: CompileContext,
  say: (object: KubeObject, sentence: string) => string,
): string[] {
  const out: string[] = [];
  for (const service of context.services) {
    const rule = context.rule(service.host);
    const outlier = rule?.policy?.outlierDetection;
    if (rule === undefined || outlier === undefined) continue;
    const hosts = context.endpoints.instances(service).length;
    const limit = outlier.maxEjectionPercent ?? 10;
    if (hosts > 0 && 100 / hosts > (limit === 0 ? 10 : limit)) {
      out.push(
        say(
          rule.object,
          `ejects nothing from ${service.host}: of ${hosts} hosts maxEjectionPercent ${limit} allows none; ` +
            `${Math.ceil(100 / hosts)} is the least that does.`,
        ),
      );
    }
  }
  return out;
}

/** Destinations that lead to no cluster: requests to them get 503 with flag NC, which is hard to find later. */
function danglingDestinations(context: CompileContext): string[] {
  const out = new Set<string>();
  for (const service of context.virtualServices) {
    const all = [...service.http, ...service.tls, ...service.tcp].flatMap((route) => route.route ?? []);
    for (const { destination } of all) {
      if (destination?.host === undefined) continue;
      const { host, subset = '', at } = destination;
      const place = at.object.source.locate(at.path);
      if (!context.byHost.has(host)) {
        // Looking through all services for each of thousands of mistakes would take seconds.
        const near = out.size < 20 ? closest(host, [...context.byHost.keys()]) : undefined;
        out.add(
          `${place}: no service is called "${host}"${near === undefined ? '' : ` (did you mean "${near}"?)`}; ` +
            'requests to it get 503.',
        );
      } else if (subset !== '' && !(context.rule(host)?.subsets ?? []).some(({ name }) => name === subset)) {
        out.add(`${place}: no DestinationRule defines the subset "${subset}" of ${host}; requests to it get 503.`);
      }
    }
  }
  return [...out];
}

/** Fields of a DestinationRule that are known and change nothing here. */
function unreadPolicies(context: CompileContext, say: (object: KubeObject, sentence: string) => string): string[] {
  const out = new Set<string>();
  for (const service of context.services) {
    const rule = context.rule(service.host);
    if (rule === undefined) continue;
    for (const policy of [rule.policy, ...rule.subsets.map((subset) => subset.policy)]) {
      for (const part of policy === undefined ? [] : [policy, ...(policy.portLevelSettings ?? [])]) {
        if (part.loadBalancer?.zoneAwareLbSetting !== undefined)
          out.add(say(rule.object, 'has a zoneAwareLbSetting, which is not executed; localityLbSetting is.'));
        if (part.outlierDetection?.outlierDetectionHttpErrorCodes !== undefined)
          out.add(say(rule.object, 'has outlierDetectionHttpErrorCodes, which are not executed; 500 to 599 count.'));
      }
    }
  }
  return [...out];
}

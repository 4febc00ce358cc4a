/**
 * VirtualServices of one namespace that route the hosts of another's services for clients beyond their own
 * (attacks.md row 48, ISTIO-SECURITY-2026-002). Istio does as they say unless exportTo keeps them at home; who reads the
 * files should know.
 */
import type { CompileContext } from './context.ts';
import type { MeshService } from './model.ts';
import type { VirtualService } from './virtual_service.ts';

/** A sentence with the place for each host that is claimed. The root namespace speaks for the mesh: it is not named. */
export function hostCaptures(context: CompileContext): string[] {
  const { registry, mesh } = context;
  const rules = registry.virtualServices.filter(
    (rule) =>
      rule.namespace !== mesh.rootNamespace &&
      rule.gateways.includes('mesh') &&
      [...rule.visibility].some((namespace) => namespace !== rule.namespace),
  );
  if (rules.length === 0) return [];
  const byHost = new Map<string, MeshService[]>();
  for (const service of registry.services) {
    const list = byHost.get(service.host);
    if (list === undefined) byHost.set(service.host, [service]);
    else list.push(service);
  }
  return rules.flatMap((rule) => rule.hosts.flatMap((host, index) => capture(rule, host, index, byHost)));
}

function capture(
  rule: VirtualService,
  host: string,
  index: number,
  byHost: ReadonlyMap<string, readonly MeshService[]>,
): string[] {
  // Of a service in several namespaces each may have its say.
  const others: MeshService[] = [];
  for (const services of claimed(host, byHost)) {
    if (services.every(({ namespace }) => namespace !== rule.namespace)) others.push(...services);
  }
  const [first] = others;
  if (first === undefined) return [];
  const more = others.length > 1 ? ` and ${others.length - 1} more` : '';
  const place = rule.object.source.locate(['spec', 'hosts', index]);
  const audience = rule.visibility.has('*') ? 'every namespace' : [...rule.visibility].sort().join(', ');
  return [
    `${place}: VirtualService "${rule.name}" of namespace "${rule.namespace}" routes ${first.host}${more}, ` +
      `of namespace "${first.namespace}" (${first.object.source.locate(['metadata', 'name'])}), for clients of ${audience}; ` +
      'exportTo: ["."] keeps it to its own.',
  ];
}

function* claimed(
  host: string,
  byHost: ReadonlyMap<string, readonly MeshService[]>,
): Generator<readonly MeshService[]> {
  const exact = byHost.get(host);
  if (exact !== undefined) yield exact;
  if (!host.startsWith('*')) return;
  const suffix = host.slice(1);
  for (const [name, services] of byHost) if (name !== host && name.endsWith(suffix)) yield services;
}

/** The security policies that hold for the proxy's own workload, as filters of its inbound listeners. */
import type { Json } from '../resources.ts';
import { authorizationFilters } from './authorization_filters.ts';
import type { Destination } from './authorization_rule.ts';
import type { CompileContext } from './context.ts';
import { ExtensionProviders } from './extension_providers.ts';
import { MutualTlsModes } from './peer_authentication.ts';
import { jwtFilter, type WantedKeys } from './request_authentication.ts';
import { holdsFor } from './workload_selector.ts';

export interface WorkloadPolicy {
  readonly modes: MutualTlsModes;
  readonly wantedKeys: readonly WantedKeys[];
  /** In the order in which Istio runs them. `destination`: where there is no interception, what the listener stands for. */
  httpFilters(destination?: Destination): readonly Json[];
  networkFilters(destination?: Destination): readonly Json[];
}

/** Of the compilation; made once by `compile`. */
export function workloadPolicy(context: CompileContext): WorkloadPolicy {
  const { client, mesh, registry } = context;
  const policies = registry.authorizationPolicies.filter(({ object, spec }) =>
    holdsFor(object, spec, client, mesh.rootNamespace),
  );
  const input = {
    policies,
    providers: new ExtensionProviders(mesh.authorizers, (host, port) => hasPort(context, host, port)),
    trustDomains: [mesh.trustDomain, ...mesh.trustDomainAliases],
  };
  const authentications = registry.requestAuthentications.filter(({ object, spec }) =>
    holdsFor(object, spec, client, mesh.rootNamespace),
  );
  const wantedKeys: WantedKeys[] = [];
  const tokens = jwtFilter(authentications, (wanted) => {
    wantedKeys.push(wanted);
    return context.keys(wanted);
  });
  return {
    wantedKeys,
    modes: new MutualTlsModes(registry.peerAuthentications, client, mesh.rootNamespace),
    httpFilters(destination) {
      const { custom, others } = authorizationFilters({ ...input, destination }, false);
      return [...custom, ...(tokens === undefined ? [] : [tokens]), ...others];
    },
    networkFilters(destination) {
      const { custom, others } = authorizationFilters({ ...input, destination }, true);
      return [...custom, ...others];
    },
  };
}

function hasPort(context: CompileContext, host: string, port: number): boolean {
  return context.byHost.get(host)?.ports.some(({ number }) => number === port) === true;
}

/** What one compilation knows: the inputs read, and for whom it compiles. */
import { outboundClusterName } from './cluster_names.ts';
import type { DestinationRule } from './destination_rule.ts';
import type { MeshConfig } from './mesh.ts';
import type { Locality, MeshService } from './model.ts';
import type { Registry } from './registry.ts';
import type { KeyLookup } from './request_authentication.ts';
import { ServerTls } from './server_tls.ts';
import type { ServiceEndpoints } from './service_endpoints.ts';
import type { SidecarScope } from './sidecar_scope.ts';
import { telemetriesFor } from './telemetry.ts';
import { TelemetryPolicy } from './telemetry_policy.ts';
import type { VirtualService } from './virtual_service.ts';

/** The workload on whose behalf requests are routed. */
export interface Client {
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly ips: readonly string[];
  /** iptables leave it the addresses of those who call (TPROXY), and the application is to see them. */
  readonly transparent: boolean;
  /** Where it stands; empty where nothing says so. */
  readonly locality: Locality;
}

export class CompileContext {
  readonly mesh: MeshConfig;
  readonly domain: string;
  readonly registry: Registry;
  readonly endpoints: ServiceEndpoints;
  readonly client: Client;
  /** Without interception: no original destination. */
  readonly explicit: boolean;
  /** The workload has a certificate of the mesh: mutual TLS can be spoken. */
  readonly hasIdentity: boolean;
  /** Keys of token issuers that stand elsewhere. */
  readonly keys: KeyLookup;
  /** What the client's Sidecar leaves of the mesh. */
  readonly scope: SidecarScope;
  /** All that is exported to the client's namespace: what its own workload may stand behind. */
  readonly exported: readonly MeshService[];
  /** What the client sees, one service a host, oldest first. */
  readonly services: readonly MeshService[];
  readonly byHost: ReadonlyMap<string, MeshService>;
  readonly warnings: string[];
  readonly telemetry: TelemetryPolicy;
  readonly serverTls: ServerTls;
  readonly #exportedByHost: ReadonlyMap<string, MeshService>;
  readonly #rules = new Map<string, DestinationRule | undefined>();

  constructor(
    parts: Pick<
      CompileContext,
      | 'mesh'
      | 'domain'
      | 'registry'
      | 'endpoints'
      | 'client'
      | 'explicit'
      | 'hasIdentity'
      | 'keys'
      | 'scope'
      | 'exported'
    >,
  ) {
    this.mesh = parts.mesh;
    this.domain = parts.domain;
    this.registry = parts.registry;
    this.endpoints = parts.endpoints;
    this.client = parts.client;
    this.explicit = parts.explicit;
    this.hasIdentity = parts.hasIdentity;
    this.keys = parts.keys;
    this.scope = parts.scope;
    this.exported = parts.exported;
    this.services = parts.scope.services;
    this.byHost = new Map(this.services.map((service) => [service.host, service]));
    this.#exportedByHost = new Map(parts.exported.map((service) => [service.host, service]));
    this.warnings = [...parts.registry.warnings];
    this.telemetry = this.#telemetryPolicy();
    this.serverTls = new ServerTls(parts.registry.peerAuthentications, parts.mesh.rootNamespace);
  }

  #telemetryPolicy(): TelemetryPolicy {
    const { namespace, labels } = this.client;
    const levels = telemetriesFor(this.registry.telemetries, namespace, labels, this.mesh.rootNamespace);
    const said = new Set<string>();
    return new TelemetryPolicy(levels, {
      mesh: this.mesh,
      namespace,
      labels,
      clusterOf: (service, port) => {
        const host = service.slice(service.indexOf('/') + 1);
        return { cluster: outboundClusterName(port, '', host), host };
      },
      warn: (sentence) => {
        if (said.has(sentence)) return;
        said.add(sentence);
        this.warnings.push(sentence);
      },
    });
  }

  /** VirtualServices of the mesh that the client sees, in the order in which they win. */
  get virtualServices(): readonly VirtualService[] {
    return this.scope.virtualServices;
  }

  /** The address that stands for all: IPv4's, unless the proxy has IPv6 alone. */
  get wildcard(): '0.0.0.0' | '::' {
    const { ips } = this.client;
    return ips.length > 0 && ips.every((ip) => ip.includes(':')) ? '::' : '0.0.0.0';
  }

  /** The other family's, where the proxy has both. */
  get otherWildcard(): '::' | undefined {
    return this.wildcard === '0.0.0.0' && this.client.ips.some((ip) => ip.includes(':')) ? '::' : undefined;
  }

  get outboundPolicy(): 'ALLOW_ANY' | 'REGISTRY_ONLY' {
    return this.scope.sidecar?.outboundPolicy ?? this.mesh.outboundPolicy;
  }

  /** The DestinationRule that holds for this client and host. */
  rule(host: string): DestinationRule | undefined {
    if (!this.#rules.has(host)) {
      const service = this.#exportedByHost.get(host) ?? { host, namespace: '' };
      const { namespace, labels } = this.client;
      this.#rules.set(host, this.registry.destinationRules.find(service, namespace, labels));
    }
    return this.#rules.get(host);
  }
}

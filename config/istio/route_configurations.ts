/** Route configurations: one a port for the sidecar, one for all ports in explicit mode. */
import type { Json, Resource } from '../resources.ts';
import { catchAllTunnels, tunnelHosts, withTunnel } from './connect_tunnels.ts';
import type { CompileContext } from './context.ts';
import { DYNAMIC_FORWARD_PROXY, OUTBOUND_PASSTHROUGH, resource } from './envoy_json.ts';
import { resolveHost } from './hosts.ts';
import { outboundClusterName } from './cluster_names.ts';
import { isHttp } from './protocol.ts';
import { catchAllHost, type RouteRules, type VirtualHost, virtualHostJson } from './virtual_hosts.ts';

/** The route configuration of explicit mode and of mesh-wide `proxyHttpPort`. */
export const HTTP_PROXY_ROUTES = 'http_proxy';

const LIMITS: Json = { validate_clusters: false, max_direct_response_body_size_bytes: 1048576 };

/**
 * `PORT` for the ports that all services share, by Host; `HOST:PORT` for a port of one service whose protocol is to
 * be found out, which has a listener of its own.
 */
export function sidecarRoutes(context: CompileContext, rules: RouteRules): Resource[] {
  const out: Resource[] = [];
  for (const port of rules.httpPorts()) {
    const hosts = rules.virtualHosts(port);
    const services = rules.servicesOn(port);
    const isShared = ({ service, port: item }: (typeof services)[number]) =>
      isHttp(item.protocol) || (item.protocol === 'Auto' && service.addresses.length === 0);
    if (services.some(isShared)) {
      out.push(configuration(String(port), hosts.map(virtualHostJson), hosts, context, true));
    }
    for (const { service, port: servicePort } of services) {
      if (servicePort.protocol !== 'Auto' || service.addresses.length === 0) continue;
      const name = `${service.host}:${port}`;
      const own = hosts.filter((host) => host.name === name);
      out.push(
        configuration(
          name,
          own.map((host) => ({ ...virtualHostJson(host), domains: ['*'] })),
          own,
          context,
          false,
        ),
      );
    }
  }
  out.push(...socketRoutes(context, rules, egressCluster(context)));
  if (context.mesh.proxyHttpPort > 0) out.push(proxyRoutes(context, rules, egressCluster(context)));
  return out;
}

/** Egress listeners at unix sockets have route configurations by the socket's path. */
function socketRoutes(context: CompileContext, rules: RouteRules, passthrough: string): Resource[] {
  return context.scope.listeners.flatMap(({ egress }) => {
    if (egress?.port === undefined || !egress.bind.startsWith('unix://')) return [];
    const hosts = rules.virtualHosts(egress.port.number);
    return hosts.length === 0
      ? []
      : [configuration(egress.bind, hosts.map(virtualHostJson), hosts, context, true, passthrough)];
  });
}

/** Of the ports that a Sidecar binds, for a proxy that intercepts nothing. */
export function boundRoutes(context: CompileContext, rules: RouteRules): Resource[] {
  const passthrough = context.scope.sidecar?.egressProxy === undefined ? DYNAMIC_FORWARD_PROXY : egressCluster(context);
  const ports = new Set(
    context.scope.listeners.flatMap(({ egress }) =>
      egress?.port !== undefined && egress.captureMode === 'NONE' && !egress.bind.startsWith('unix://')
        ? [egress.port.number]
        : [],
    ),
  );
  return [
    ...[...ports].flatMap((port) => {
      const hosts = rules.virtualHosts(port);
      return hosts.length === 0
        ? []
        : [configuration(String(port), hosts.map(virtualHostJson), hosts, context, true, passthrough)];
    }),
    ...socketRoutes(context, rules, passthrough),
  ];
}

/** Every HTTP port of every service, the port in the host name; without one it is port 80. */
export function explicitRoutes(context: CompileContext, rules: RouteRules): Resource {
  return proxyRoutes(
    context,
    rules,
    context.scope.sidecar?.egressProxy === undefined ? DYNAMIC_FORWARD_PROXY : egressCluster(context),
  );
}

function proxyRoutes(context: CompileContext, rules: RouteRules, passthrough: string): Resource {
  const hosts = rules.httpPorts().flatMap((port) => rules.virtualHosts(port));
  // Port 80 also has the hosts that only VirtualServices name, whether or not a service listens there.
  if (!rules.httpPorts().includes(80)) hosts.push(...rules.virtualHosts(80));
  const json: Json = {
    name: HTTP_PROXY_ROUTES,
    virtual_hosts: [
      ...hosts.map((host) => {
        const json = { ...virtualHostJson(host), domains: withPort(host) };
        return context.explicit ? withTunnel(json, host) : json;
      }),
      ...(context.explicit ? tunnelHosts(context, rules) : []),
      context.explicit ? catchAllTunnels(context, passthrough) : catchAllHost(context.outboundPolicy, passthrough),
    ],
    ...LIMITS,
  };
  return resource('route', HTTP_PROXY_ROUTES, json, originOfAll(hosts));
}

function withPort({ domains, port }: VirtualHost): string[] {
  const explicit = domains.map((domain) => `${domain}:${port}`);
  return port === 80 ? [...domains, ...explicit] : explicit;
}

function configuration(
  name: string,
  virtualHosts: readonly Json[],
  sources: readonly VirtualHost[],
  context: CompileContext,
  shared: boolean,
  passthrough = egressCluster(context),
): Resource {
  const json: Json = {
    name,
    virtual_hosts: shared ? [...virtualHosts, catchAllHost(context.outboundPolicy, passthrough)] : virtualHosts,
    ...LIMITS,
    ignore_port_in_host_matching: true,
  };
  return resource('route', name, json, originOfAll(sources));
}

/** Where requests to unknown hosts go: a Sidecar may name a proxy for them. */
function egressCluster({ scope, domain }: CompileContext): string {
  const proxy = scope.sidecar?.egressProxy;
  if (proxy?.host === undefined) return OUTBOUND_PASSTHROUGH;
  const host = resolveHost(proxy.host, scope.sidecar?.namespace ?? '', domain);
  return outboundClusterName(proxy.port?.number ?? 0, proxy.subset ?? '', host);
}

/** A table has many origins; the first one stands for them. */
function originOfAll(hosts: readonly VirtualHost[]): string {
  return hosts[0]?.origin ?? 'MeshConfig';
}

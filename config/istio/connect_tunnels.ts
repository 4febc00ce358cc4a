/** CONNECT on the outbound listener of explicit mode: `https_proxy` works, within the outbound traffic policy. */
import type { Json } from '../resources.ts';
import type { CompileContext } from './context.ts';
import { outboundClusterName } from './cluster_names.ts';
import { isHttpOrSniffed } from './protocol.ts';
import { catchAllHost, type RouteRules, type VirtualHost } from './virtual_hosts.ts';

const MATCH: Json = { connect_matcher: {} };

/** A virtual host of an HTTP port that also takes CONNECT: the tunnel goes where its service's requests go. */
export function withTunnel(json: Json, { service, port }: VirtualHost): Json {
  if (service === undefined) return json;
  return withRoute(json, tunnelRoute(outboundClusterName(port, '', service.host)));
}

/** What is not HTTP has no virtual host otherwise: one for each port of each service. */
export function tunnelHosts(context: CompileContext, rules: RouteRules): Json[] {
  const out: Json[] = [];
  const seen = new Set<string>();
  for (const { ports } of context.services) {
    for (const { number } of ports) {
      for (const { service, port } of rules.servicesOn(number)) {
        const name = `${service.host}:${number}`;
        if (seen.has(name) || isHttpOrSniffed(port.protocol) || port.protocol === 'UDP') continue;
        seen.add(name);
        out.push({
          name,
          domains: [name],
          routes: [tunnelRoute(outboundClusterName(number, '', service.host))],
          include_request_attempt_count: true,
        });
      }
    }
  }
  return out;
}

/** Hosts that nobody registered: resolved and reached, or refused under REGISTRY_ONLY. */
export function catchAllTunnels(context: CompileContext, cluster: string): Json {
  const route =
    context.outboundPolicy === 'REGISTRY_ONLY'
      ? { name: 'block_all', match: MATCH, direct_response: { status: 502 } }
      : tunnelRoute(cluster);
  return withRoute(catchAllHost(context.outboundPolicy, cluster), route);
}

function tunnelRoute(cluster: string): Json {
  return {
    name: 'connect',
    match: MATCH,
    route: { cluster, timeout: '0s', upgrade_configs: [{ upgrade_type: 'CONNECT', connect_config: {} }] },
  };
}

/** Behind the others, which do not take CONNECT. */
function withRoute(json: Json, route: Json): Json {
  return { ...json, routes: [...(json['routes'] as readonly Json[]), route] };
}

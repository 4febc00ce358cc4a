/** `--map`: a local port for a TCP or TLS service, where there is no interception. */
import { ConfigError } from '../../proxy/config_error.ts';
import type { Json, Resource } from '../resources.ts';
import type { CompileContext } from './context.ts';
import { originOf, resource, socketAddress } from './envoy_json.ts';
import { inspector, byBytes } from './inspectors.ts';
import type { MeshService } from './model.ts';
import { isHttp } from './protocol.ts';
import { closest } from './spelling.ts';
import type { PortMapping } from './target.ts';
import { chainJson, tcpChains } from './tcp_chains.ts';

/** @throws {ConfigError} for a host or port that no service has, and for HTTP. */
export function mappedListeners(
  context: CompileContext,
  mappings: readonly PortMapping[],
  accessLog: 'TEXT' | 'JSON' | undefined,
): Resource[] {
  const seen = new Set<string>();
  return mappings.map((mapping) => {
    const { ip, port, text } = mapping;
    const place = `${ip} ${port}`;
    if (port !== 0 && seen.has(place))
      throw new ConfigError('', `--map ${text}: another --map opens the same local address`);
    seen.add(place);
    return listener(context, mapping, accessLog);
  });
}

function listener(context: CompileContext, mapping: PortMapping, accessLog: 'TEXT' | 'JSON' | undefined): Resource {
  const { ip, port, host, servicePort, text } = mapping;
  const service = findService(context, host, text);
  const found = service.ports.find(({ number }) => number === servicePort);
  if (found === undefined) {
    const has = service.ports.map(({ number, protocol }) => `${number} (${protocol})`).join(', ');
    throw new ConfigError('', `--map ${text}: ${service.host} has no port ${servicePort}; it has ${has || 'none'}`);
  }
  if (isHttp(found.protocol)) {
    throw new ConfigError(
      '',
      `--map ${text}: port ${servicePort} of ${service.host} is ${found.protocol}, which is routed by request; ` +
        `ask the outbound proxy (--outbound) for http://${service.name}:${servicePort}/`,
    );
  }
  if (found.protocol === 'UDP')
    throw new ConfigError('', `--map ${text}: port ${servicePort} of ${service.host} is UDP`);
  const chains = tcpChains(context, service, found, {
    ranges: [],
    shared: false,
    knowsDestination: false,
    accessLog,
  }).map(chainJson);
  const inspects = chains.some((chain) => 'filter_chain_match' in chain);
  const name = `map_${service.host}_${servicePort}${mapping.index === 0 ? '' : `_${mapping.index}`}`;
  const json: Json = {
    name,
    address: socketAddress(ip, port),
    filter_chains: chains,
    ...(inspects && { listener_filters: [inspector('tls')], ...byBytes(context.mesh) }),
    traffic_direction: 'OUTBOUND',
  };
  return resource('listener', name, json, originOf(service.object));
}

/** By full name, by `name.namespace`, or by the name alone in the client's namespace. */
function findService(context: CompileContext, host: string, text: string): MeshService {
  const { byHost, domain, client, services } = context;
  const found =
    byHost.get(host) ??
    byHost.get(`${host}.svc.${domain}`) ??
    byHost.get(`${host}.${domain}`) ??
    byHost.get(`${host}.${client.namespace}.svc.${domain}`);
  if (found !== undefined) return found;
  const suffix = `.svc.${domain}`;
  const names = services.map((service) =>
    service.host.endsWith(suffix) ? service.host.slice(0, -suffix.length) : service.host,
  );
  const near = closest(host, names);
  throw new ConfigError(
    '',
    `--map ${text}: no service is called "${host}"${near === undefined ? '' : ` (did you mean "${near}"?)`}`,
  );
}

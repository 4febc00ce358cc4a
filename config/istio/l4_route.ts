/** The tls and tcp rules of a VirtualService. */
import { isIP } from 'node:net';
import { resolveHost } from './hosts.ts';
import { type At, fail, int32, list, looseText, mapOf, message, port, type Read, text, within } from './shape.ts';

const DESTINATION = message({ host: text, subset: text, port: message({ number: port }) });
const L4_MATCH = {
  destinationSubnets: list(text),
  port,
  sourceLabels: mapOf(looseText),
  gateways: list(text),
  sourceNamespace: text,
} as const;
const L4_ROUTE = list(message({ destination: DESTINATION, weight: int32 }));

export const TLS_RULE = message({ match: list(message({ ...L4_MATCH, sniHosts: list(text) })), route: L4_ROUTE });
export const TCP_RULE = message({ match: list(message({ ...L4_MATCH, sourceSubnet: text })), route: L4_ROUTE });

export type TlsRule = Read<typeof TLS_RULE>;
export type TcpRule = Read<typeof TCP_RULE>;
export type L4Rule = TlsRule | TcpRule;
export type L4Destination = NonNullable<L4Rule['route']>[number];

/** Destinations become full names. @throws {ConfigError} */
export function checkL4Rule<R extends L4Rule>(rule: R, kind: 'tls' | 'tcp', namespace: string, domain: string): R {
  checkDestinations(rule);
  if (kind === 'tls' && (rule.match ?? []).length === 0)
    fail(within(rule.at, 'match'), 'at least one match is required');
  for (const match of rule.match ?? []) {
    if (kind === 'tls') checkSniHosts(match as NonNullable<TlsRule['match']>[number]);
    (match.destinationSubnets ?? []).forEach((subnet, index) => {
      checkSubnet(subnet, within(match.at, 'destinationSubnets', index));
    });
  }
  return {
    ...rule,
    route: (rule.route ?? []).map((item) => ({
      ...item,
      destination: { ...item.destination, host: resolveHost(item.destination?.host ?? '', namespace, domain) },
    })),
  };
}

function checkDestinations({ route = [], at }: L4Rule): void {
  if (route.length === 0) fail(within(at, 'route'), 'at least one destination is required');
  for (const item of route) {
    if ((item.destination?.host ?? '') === '') fail(within(item.at, 'destination', 'host'), 'a host is required');
    if ((item.weight ?? 0) < 0) fail(within(item.at, 'weight'), `a weight of 0 or more is wanted, got ${item.weight}`);
  }
  if (route.length > 1 && route.every((item) => (item.weight ?? 0) === 0)) {
    fail(within(at, 'route'), 'the weights of the destinations must not all be 0');
  }
}

function checkSniHosts({ sniHosts = [], at }: NonNullable<TlsRule['match']>[number]): void {
  if (sniHosts.length === 0) fail(within(at, 'sniHosts'), 'at least one host is required');
  sniHosts.forEach((host, index) => {
    if (!/^(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/.test(host)) {
      fail(within(at, 'sniHosts', index), `a host name, or one that begins with "*.", is wanted, got "${host}"`);
    }
  });
}

function checkSubnet(subnet: string, at: At): void {
  const [ip = '', bits] = subnet.split('/');
  const family = isIP(ip);
  const most = family === 4 ? 32 : 128;
  const length = bits === undefined ? most : /^\d{1,3}$/.test(bits) ? Number(bits) : 999;
  if (family === 0 || length > most) {
    fail(at, `an IP address or a range such as "10.0.0.0/8" is wanted, got "${subnet}"`);
  }
}

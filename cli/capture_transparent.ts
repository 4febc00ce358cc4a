/**
 * The mangle table and the routes of TPROXY, in Istio's order: inbound connections keep the client's address.
 * Source: istio/istio tools/istio-iptables/pkg/capture.
 *
 *   PREROUTING ─► ISTIO_INBOUND ─┬─ of a connection that is there ─► ISTIO_DIVERT (mark 1337) ─► to the proxy's socket
 *                                └─ new ─► ISTIO_TPROXY ─► 15006
 *
 * What the proxy sends to the application comes from the client's address and is marked (1337): the answers carry the
 * connection's mark, and route table 133 leads them to the loopback interface instead of out again.
 */
import { ADDRESSES, type CaptureOptions, type Family, MARK, TO_PROXY } from './capture_rules.ts';

/** Istio's: of what the proxy sends to its own pod, and the table of routes. */
const TO_ITSELF = 1338;
const TABLE = 133;

/** Rules of the mangle table as iptables' own arguments, without `-t mangle`. */
export function mangleRules(options: CaptureOptions, family: Family): string[] {
  const { transparent, inboundPorts, excludeInboundPorts, tunnelPort, inboundPort, uids, gids } = options;
  if (!transparent || inboundPorts.length === 0) return [];
  const { loopback, proxySource } = ADDRESSES[family];
  const owners = [...uids.map((uid) => `--uid-owner ${uid}`), ...gids.map((gid) => `--gid-owner ${gid}`)];
  const captured = inboundPorts.includes('*') ? [''] : inboundPorts.map((port) => ` --dport ${port}`);
  return [
    ...options.excludeInterfaces.flatMap((name) => [
      `-A PREROUTING -i ${name} ${MARK} -j RETURN`,
      `-A OUTPUT -o ${name} ${MARK} -j RETURN`,
    ]),
    `-A ISTIO_DIVERT -j MARK --set-mark ${TO_PROXY}`,
    '-A ISTIO_DIVERT -j ACCEPT',
    `-A ISTIO_TPROXY ! -d ${loopback} -p tcp -j TPROXY --tproxy-mark ${TO_PROXY}/0xffffffff --on-port ${inboundPort}`,
    '-A PREROUTING -p tcp -j ISTIO_INBOUND',
    `-A ISTIO_INBOUND -p tcp -m mark --mark ${TO_PROXY} -j RETURN`,
    `-A ISTIO_INBOUND -p tcp -s ${proxySource} -i lo -j RETURN`,
    `-A ISTIO_INBOUND -p tcp -i lo -m mark ! --mark ${TO_ITSELF} -j RETURN`,
    ...[String(tunnelPort), ...(inboundPorts.includes('*') ? excludeInboundPorts : [])].map(
      (port) => `-A ISTIO_INBOUND -p tcp --dport ${port} -j RETURN`,
    ),
    ...captured.flatMap((port) => [
      `-A ISTIO_INBOUND -p tcp${port} -m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT`,
      `-A ISTIO_INBOUND -p tcp${port} -j ISTIO_TPROXY`,
    ]),
    `-A PREROUTING -p tcp -m mark --mark ${TO_PROXY} ${MARK} -j CONNMARK --save-mark`,
    `-A OUTPUT -p tcp -o lo -m mark --mark ${TO_PROXY} ${MARK} -j RETURN`,
    ...owners.map(
      (owner) => `-A OUTPUT ! -d ${loopback} -p tcp -o lo -m owner ${owner} ${MARK} -j MARK --set-mark ${TO_ITSELF}`,
    ),
    `-A OUTPUT -p tcp -m connmark --mark ${TO_PROXY} ${MARK} -j CONNMARK --restore-mark`,
  ];
}

/** Parameters of `ip`, without the family: what is marked goes to the loopback interface. */
export const ROUTES: readonly (readonly string[])[] = [
  ['rule', '?', 'fwmark', String(TO_PROXY), 'lookup', String(TABLE)],
  ['route', '?', 'local', 'default', 'dev', 'lo', 'table', String(TABLE)],
];

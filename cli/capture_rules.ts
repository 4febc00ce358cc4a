/**
 * The iptables rules that lead a pod's connections through the proxy, in Istio's order.
 * Source: istio/istio tools/istio-iptables/pkg/capture; istio.md §2.2.
 *
 *   PREROUTING ─► ISTIO_INBOUND ─► ISTIO_IN_REDIRECT ─► 15006      from outside to the application
 *   OUTPUT ─► ISTIO_OUTPUT ─┬─► ISTIO_REDIRECT ─► 15001            from the application to outside
 *                           └─► ISTIO_IN_REDIRECT                  the pod calls itself by its own address
 */

/** What to capture. Lists of `*` mean everything. */
export interface CaptureOptions {
  /** Inbound connections keep the client's address (TPROXY) instead of being redirected. */
  readonly transparent: boolean;
  readonly outboundPort: number;
  readonly inboundPort: number;
  /** HBONE; never redirected. */
  readonly tunnelPort: number;
  readonly uids: readonly string[];
  readonly gids: readonly string[];
  readonly inboundPorts: readonly string[];
  readonly excludeInboundPorts: readonly string[];
  readonly outboundRanges: readonly string[];
  readonly excludeOutboundRanges: readonly string[];
  readonly outboundPorts: readonly string[];
  readonly excludeOutboundPorts: readonly string[];
  readonly excludeInterfaces: readonly string[];
  /** Interfaces of virtual machines: what comes from them counts as outbound. */
  readonly virtualInterfaces: readonly string[];
  /** Queries to these servers go to the DNS proxy; `all`: to whatever server. */
  readonly dnsServers: readonly string[] | 'all' | undefined;
  readonly dnsPort: number;
}

export type Family = 'v4' | 'v6';

export type Table = 'nat' | 'mangle';

/** Chains of our own; nobody else's rules stand in them. */
export const CHAINS: Readonly<Record<Table, readonly string[]>> = {
  nat: ['ISTIO_INBOUND', 'ISTIO_REDIRECT', 'ISTIO_IN_REDIRECT', 'ISTIO_OUTPUT'],
  mangle: ['ISTIO_INBOUND', 'ISTIO_DIVERT', 'ISTIO_TPROXY'],
};
/** Istio's mark of packets for the proxy's transparent sockets, and of what comes from them with a client's address. */
export const TO_PROXY = 1337;
/** Tells rules of ours in chains that others use too. */
export const MARK = '-m comment --comment pillion';
export const ADDRESSES = {
  v4: { loopback: '127.0.0.1/32', proxySource: '127.0.0.6/32', host: 32 },
  v6: { loopback: '::1/128', proxySource: '::6/128', host: 128 },
} as const;

/** Rules of the nat table as iptables' own arguments, without `-t nat`. */
export function natRules(options: CaptureOptions, family: Family): string[] {
  return [
    ...excludedInterfaces(options),
    `-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports ${options.outboundPort}`,
    `-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports ${options.inboundPort}`,
    ...inboundRules(options),
    '-A OUTPUT -j ISTIO_OUTPUT',
    ...outboundRules(options, family),
    ...dnsUdpRules(options, family),
    ...virtualInterfaceRules(options, family),
  ];
}

function excludedInterfaces({ excludeInterfaces }: CaptureOptions): string[] {
  return excludeInterfaces.flatMap((name) => [
    `-A PREROUTING -i ${name} ${MARK} -j RETURN`,
    `-A OUTPUT -o ${name} ${MARK} -j RETURN`,
  ]);
}

function inboundRules({ transparent, inboundPorts, excludeInboundPorts, tunnelPort }: CaptureOptions): string[] {
  if (transparent || inboundPorts.length === 0) return [];
  const rules = ['-A PREROUTING -p tcp -j ISTIO_INBOUND', `-A ISTIO_INBOUND -p tcp --dport ${tunnelPort} -j RETURN`];
  if (!inboundPorts.includes('*')) {
    return [...rules, ...inboundPorts.map((port) => `-A ISTIO_INBOUND -p tcp --dport ${port} -j ISTIO_IN_REDIRECT`)];
  }
  return [
    ...rules,
    ...excludeInboundPorts.map((port) => `-A ISTIO_INBOUND -p tcp --dport ${port} -j RETURN`),
    '-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT',
  ];
}

function outboundRules(options: CaptureOptions, family: Family): string[] {
  const { loopback, proxySource } = ADDRESSES[family];
  const { dnsServers, tunnelPort } = options;
  const rules = options.excludeOutboundPorts.map((port) => `-A ISTIO_OUTPUT -p tcp --dport ${port} -j RETURN`);
  // What the proxy sends to the application has arrived.
  rules.push(`-A ISTIO_OUTPUT -o lo -s ${proxySource} -j RETURN`);
  // With a client's source address it is on its way to the application: never to be redirected to the proxy again.
  if (options.transparent) rules.push(`-A ISTIO_OUTPUT -p tcp -m mark --mark ${TO_PROXY} -j RETURN`);
  const notSelf = dnsServers === undefined ? `! --dport ${tunnelPort}` : `-m multiport ! --dports 53,${tunnelPort}`;
  const notDns = dnsServers === undefined ? '' : ' -p tcp ! --dport 53';
  const owners = [
    ...options.uids.map((uid) => `--uid-owner ${uid}`),
    ...options.gids.map((gid) => `--gid-owner ${gid}`),
  ];
  for (const owner of owners) {
    rules.push(
      // The application called the pod's own address, the proxy chose it: in again, as from outside.
      `-A ISTIO_OUTPUT -o lo ! -d ${loopback} -p tcp ${notSelf} -m owner ${owner} -j ISTIO_IN_REDIRECT`,
      // The application talks to itself: not our business.
      `-A ISTIO_OUTPUT -o lo${notDns} -m owner ! ${owner} -j RETURN`,
      // What the proxy sends is not to come back to it.
      `-A ISTIO_OUTPUT -m owner ${owner} -j RETURN`,
    );
  }
  rules.push(...dnsTcpRules(options, family), `-A ISTIO_OUTPUT -d ${loopback} -j RETURN`);
  for (const range of ofFamily(options.excludeOutboundRanges, family))
    rules.push(`-A ISTIO_OUTPUT -d ${range} -j RETURN`);
  for (const port of options.outboundPorts) rules.push(`-A ISTIO_OUTPUT -p tcp --dport ${port} -j ISTIO_REDIRECT`);
  if (options.outboundRanges.includes('*')) rules.push('-A ISTIO_OUTPUT -j ISTIO_REDIRECT');
  else {
    for (const range of ofFamily(options.outboundRanges, family))
      rules.push(`-A ISTIO_OUTPUT -d ${range} -j ISTIO_REDIRECT`);
  }
  return rules;
}

function dnsTcpRules({ dnsServers, dnsPort }: CaptureOptions, family: Family): string[] {
  const redirect = `-j REDIRECT --to-ports ${dnsPort}`;
  if (dnsServers === 'all') return [`-A ISTIO_OUTPUT -p tcp --dport 53 ${redirect}`];
  return ofFamily(dnsServers ?? [], family).map(
    (server) => `-A ISTIO_OUTPUT -p tcp --dport 53 -d ${hostRange(server, family)} ${redirect}`,
  );
}

/** Queries of the proxy itself go where they are sent. */
function dnsUdpRules({ dnsServers, dnsPort, uids, gids }: CaptureOptions, family: Family): string[] {
  if (dnsServers === undefined) return [];
  const redirect = `-j REDIRECT --to-port ${dnsPort}`;
  const own = [...uids.map((uid) => `--uid-owner ${uid}`), ...gids.map((gid) => `--gid-owner ${gid}`)];
  return [
    ...own.map((owner) => `-A OUTPUT -p udp --dport 53 -m owner ${owner} ${MARK} -j RETURN`),
    ...(dnsServers === 'all'
      ? [`-A OUTPUT -p udp --dport 53 ${MARK} ${redirect}`]
      : ofFamily(dnsServers, family).map(
          (server) => `-A OUTPUT -p udp --dport 53 -d ${hostRange(server, family)} ${MARK} ${redirect}`,
        )),
  ];
}

/** In front of everything else, the last written first. */
function virtualInterfaceRules({ virtualInterfaces, outboundRanges }: CaptureOptions, family: Family): string[] {
  return virtualInterfaces.flatMap((name) => [
    `-I PREROUTING 1 -i ${name} ${MARK} -j RETURN`,
    ...(outboundRanges.includes('*')
      ? [`-I PREROUTING 1 -i ${name} -p tcp -j ISTIO_REDIRECT`]
      : ofFamily(outboundRanges, family).map(
          (range) => `-I PREROUTING 1 -i ${name} -p tcp -d ${range} -j ISTIO_REDIRECT`,
        )),
  ]);
}

function ofFamily(ranges: readonly string[], family: Family): readonly string[] {
  return ranges.filter((range) => range !== '*' && range.includes(':') === (family === 'v6'));
}

const hostRange = (address: string, family: Family): string => `${address}/${ADDRESSES[family].host}`;

/**
 * What iptables-restore --noflush makes of what stands there: our rules, once. Chains of our own are emptied by being
 * declared; rules of ours in other chains are taken out first.
 * @param saved what iptables-save says of the table.
 */
export function restoreInput(table: Table, rules: readonly string[], saved: string): string {
  const chains = CHAINS[table].map((chain) => `:${chain} - [0:0]`);
  return [`*${table}`, ...chains, ...ownRules(saved), ...rules, 'COMMIT', ''].join('\n');
}

/** Takes all of it out again. */
export function removeInput(table: Table, saved: string): string {
  const there = CHAINS[table].filter((chain) => saved.includes(`\n:${chain} `));
  return [
    `*${table}`,
    ...there.map((chain) => `-F ${chain}`),
    ...ownRules(saved),
    ...there.map((chain) => `-X ${chain}`),
    'COMMIT',
    '',
  ].join('\n');
}

/** Rules of ours in built-in chains, as deletions. */
function ownRules(saved: string): string[] {
  return saved
    .split('\n')
    .filter((line) => line.startsWith('-A ') && !line.startsWith('-A ISTIO_') && isOwn(line))
    .map((line) => line.replace(/^-A/, '-D'));
}

const isOwn = (line: string): boolean => / -j ISTIO_/.test(line) || line.includes(MARK);

/** The lines of iptables-save that are ours. */
export function shownRules(saved: string): string[] {
  return saved.split('\n').filter((line) => /^(:|-A )ISTIO_/.test(line) || (line.startsWith('-A ') && isOwn(line)));
}

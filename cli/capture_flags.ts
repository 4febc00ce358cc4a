/** The flags of `pillion capture`: istio-iptables' own, and the annotations of pods that stand for them. */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { type Command, Option } from 'commander';
import type { CaptureOptions } from './capture_rules.ts';
import { CommandError, exitCodes } from './exit_codes.ts';
import { environmentName } from './proxy_flags.ts';

/** istio-iptables' flags with their defaults, and the annotation of a pod that stands for each. */
const FLAGS: readonly (readonly [flags: string, says: string, preset: string, annotation?: string])[] = [
  ['-p, --envoy-port <port>', 'where outbound connections go', '15001'],
  ['-z, --inbound-capture-port <port>', 'where inbound connections go', '15006'],
  ['-e, --inbound-tunnel-port <port>', 'HBONE, left alone', '15008'],
  ['-u, --proxy-uid <uids>', "the proxy's user", '1337'],
  ['-g, --proxy-gid <gids>', "the proxy's group", '1337'],
  [
    '-m, --istio-inbound-interception-mode <mode>',
    'REDIRECT or TPROXY',
    'REDIRECT',
    'sidecar.istio.io/interceptionMode',
  ],
  [
    '-b, --istio-inbound-ports <ports>',
    'captured inbound; * for all',
    '*',
    'traffic.sidecar.istio.io/includeInboundPorts',
  ],
  [
    '-d, --istio-local-exclude-ports <ports>',
    'not captured inbound, beside 15020, 15021 and 15090',
    '',
    'traffic.sidecar.istio.io/excludeInboundPorts',
  ],
  [
    '-i, --istio-service-cidr <ranges>',
    'captured outbound; * for all',
    '*',
    'traffic.sidecar.istio.io/includeOutboundIPRanges',
  ],
  [
    '-x, --istio-service-exclude-cidr <ranges>',
    'not captured outbound',
    '',
    'traffic.sidecar.istio.io/excludeOutboundIPRanges',
  ],
  [
    '-q, --istio-outbound-ports <ports>',
    'captured outbound whatever the range',
    '',
    'traffic.sidecar.istio.io/includeOutboundPorts',
  ],
  [
    '-o, --istio-local-outbound-ports-exclude <ports>',
    'not captured outbound',
    '',
    'traffic.sidecar.istio.io/excludeOutboundPorts',
  ],
  ['-k, --kube-virt-interfaces <names>', 'what comes from them is outbound', '', 'istio.io/reroute-virtual-interfaces'],
  ['-c, --istio-exclude-interfaces <names>', 'left alone', '', 'traffic.sidecar.istio.io/excludeInterfaces'],
];
/** The proxy's own: always reachable. */
const ALWAYS_EXCLUDED = ['15020', '15021', '15090'];
const DNS_PORT = 15053;

export type CaptureValues = Readonly<Record<string, string | boolean | readonly string[] | undefined>>;

export function addCaptureFlags(command: Command): Command {
  for (const [flags, says, preset] of FLAGS) {
    command.addOption(new Option(flags, preset === '' ? says : `${says} (${preset})`).env(environmentName(flags)));
  }
  return command
    .option('--annotation <key=value...>', "a pod's annotation, in place of the flag it stands for")
    .option('--redirect-dns', `queries to the servers of /etc/resolv.conf go to ${DNS_PORT}`)
    .option('--capture-all-dns', `all queries go to ${DNS_PORT}`)
    .option('-n, --dry-run', 'print the rules, change nothing')
    .option('--show', 'print what stands there')
    .option('--remove', 'take everything out again');
}

/** Flags first, then annotations, then Istio's defaults. @throws {CommandError} */
export function captureOptions(values: CaptureValues): CaptureOptions {
  const annotations = readAnnotations(values['annotation']);
  const text = (flag: string): string => {
    const entry = FLAGS.find(([flags]) => flags.includes(`--${flag} `));
    if (entry === undefined) throw new Error(`no flag --${flag}`);
    const [, , preset, annotation] = entry;
    const given = values[flag.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase())];
    if (typeof given === 'string') return given;
    return (annotation === undefined ? undefined : annotations.get(annotation)) ?? preset;
  };
  const mode = text('istio-inbound-interception-mode');
  if (mode !== 'REDIRECT' && mode !== 'TPROXY') {
    refuse(`--istio-inbound-interception-mode wants REDIRECT or TPROXY, got "${mode}"; NONE needs no rules`);
  }
  return {
    transparent: mode === 'TPROXY',
    outboundPort: one(text('envoy-port'), '--envoy-port'),
    inboundPort: one(text('inbound-capture-port'), '--inbound-capture-port'),
    tunnelPort: one(text('inbound-tunnel-port'), '--inbound-tunnel-port'),
    uids: numbers(text('proxy-uid'), '--proxy-uid'),
    gids: numbers(text('proxy-gid'), '--proxy-gid'),
    inboundPorts: ports(text('istio-inbound-ports'), '--istio-inbound-ports'),
    excludeInboundPorts: [
      ...new Set([...ports(text('istio-local-exclude-ports'), '--istio-local-exclude-ports'), ...ALWAYS_EXCLUDED]),
    ],
    outboundRanges: ranges(text('istio-service-cidr'), '--istio-service-cidr'),
    excludeOutboundRanges: ranges(text('istio-service-exclude-cidr'), '--istio-service-exclude-cidr'),
    outboundPorts: ports(text('istio-outbound-ports'), '--istio-outbound-ports'),
    excludeOutboundPorts: ports(text('istio-local-outbound-ports-exclude'), '--istio-local-outbound-ports-exclude'),
    excludeInterfaces: interfaces(text('istio-exclude-interfaces'), '--istio-exclude-interfaces'),
    virtualInterfaces: interfaces(text('kube-virt-interfaces'), '--kube-virt-interfaces'),
    dnsServers: values['captureAllDns'] === true ? 'all' : values['redirectDns'] === true ? resolvers() : undefined,
    dnsPort: DNS_PORT,
  };
}

function refuse(sentence: string): never {
  throw new CommandError(exitCodes.usage, sentence);
}

function readAnnotations(given: CaptureValues[string]): Map<string, string> {
  const known = new Set(FLAGS.flatMap(([, , , annotation]) => annotation ?? []));
  const out = new Map<string, string>();
  for (const item of Array.isArray(given) ? (given as readonly string[]) : []) {
    const equals = item.indexOf('=');
    const key = item.slice(0, equals);
    if (equals < 0) refuse(`--annotation wants KEY=VALUE, got "${item}"`);
    if (!known.has(key))
      refuse(`--annotation "${key}" changes nothing that is captured; these do: ${[...known].join(', ')}`);
    out.set(key, item.slice(equals + 1));
  }
  return out;
}

const split = (text: string): string[] =>
  text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');

function numbers(text: string, flag: string): string[] {
  const items = split(text);
  for (const item of items) if (!/^\d{1,10}$/.test(item)) refuse(`${flag} wants numbers, got "${item}"`);
  if (items.length === 0) refuse(`${flag} wants a number: without it the proxy's own connections come back to it`);
  return items;
}

function ports(text: string, flag: string): string[] {
  const items = split(text);
  if (items.length === 1 && items[0] === '*') return items;
  for (const item of items) {
    if (!/^\d{1,5}$/.test(item) || Number(item) < 1 || Number(item) > 65535)
      refuse(`${flag} wants ports, got "${item}"`);
  }
  return items;
}

function one(text: string, flag: string): number {
  const [port, ...more] = ports(text, flag);
  if (port === undefined || port === '*' || more.length > 0) refuse(`${flag} wants one port, got "${text}"`);
  return Number(port);
}

function ranges(text: string, flag: string): string[] {
  return split(text).map((item) => {
    if (item === '*') return item;
    const [ip = '', bits] = item.split('/');
    const most = isIP(ip) === 4 ? 32 : 128;
    if (isIP(ip) === 0 || (bits !== undefined && !(/^\d{1,3}$/.test(bits) && Number(bits) <= most))) {
      refuse(`${flag} wants ranges such as 10.0.0.0/8, or *, got "${item}"`);
    }
    return bits === undefined ? `${ip}/${most}` : item;
  });
}

function interfaces(text: string, flag: string): string[] {
  const items = split(text);
  for (const item of items)
    if (!/^[A-Za-z0-9_.+-]{1,15}$/.test(item)) refuse(`${flag} wants interface names, got "${item}"`);
  return items;
}

function resolvers(): string[] {
  let text: string;
  try {
    text = readFileSync('/etc/resolv.conf', 'utf8');
  } catch (cause) {
    throw new CommandError(exitCodes.failure, `Cannot read /etc/resolv.conf: ${(cause as Error).message}`);
  }
  return [...text.matchAll(/^nameserver\s+(\S+)/gm)]
    .map(([, server]) => server as string)
    .filter((ip) => isIP(ip) !== 0);
}

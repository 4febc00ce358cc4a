/** The flags of `run`, `dev` and `validate`: one table, and how their texts become values. */
import { type Command, Option } from 'commander';
import { isIP } from 'node:net';
import type { DrainStrategy } from '../proxy/drain.ts';
import type { ListenAddress } from '../proxy/proxy_options.ts';
import type { LogLevel } from '../proxy/telemetry/log.ts';
import { parseLogLevel } from '../proxy/telemetry/logger.ts';
import { type InboundAddress, type Mapping, parseAddress, parseInbound, parseMapping } from './addresses.ts';
import { envoyFlags } from './envoy_flags.ts';
import type { DrainFlags } from './drain_policy.ts';
import { CommandError, exitCodes } from './exit_codes.ts';

export interface ProxyFlags {
  readonly paths: readonly string[];
  readonly configYaml: string | undefined;
  /** istiod's address; undefined: as ProxyConfig says, where no file is given. */
  readonly discovery: string | undefined;
  readonly meshPath: string | undefined;
  readonly outbound: ListenAddress;
  readonly inbound: readonly InboundAddress[];
  readonly maps: readonly Mapping[];
  /** Traffic that iptables redirected. */
  readonly intercept: boolean;
  /** undefined: 127.0.0.1 and the workload's own port. */
  readonly app: { readonly ip: string; readonly port: number | undefined } | undefined;
  readonly workload: { readonly name: string; readonly namespace: string } | undefined;
  readonly labels: Readonly<Record<string, string>>;
  /** Where the workload's certificate comes from; undefined: as the environment says. */
  readonly identity: string | undefined;
  /** undefined: not given. */
  readonly admin: ListenAddress | undefined;
  readonly status: ListenAddress | undefined;
  readonly metrics: ListenAddress | undefined;
  readonly agent: ListenAddress | undefined;
  readonly dns: ListenAddress | undefined;
  /** undefined: as ProxyConfig says, else the CPU limit. */
  readonly concurrency: number | undefined;
  /** undefined: not given. */
  readonly logLevel: LogLevel | undefined;
  readonly componentLevels: ReadonlyMap<string, LogLevel>;
  readonly logPath: string | undefined;
  readonly logFormat: string | undefined;
  readonly drain: DrainFlags;
  readonly accessLog: 'TEXT' | 'JSON' | 'off' | undefined;
  readonly adminAddressPath: string | undefined;
  readonly node: { readonly id: string; readonly cluster: string };
  readonly allowUnknownFields: boolean;
  /** Signing keys may come from loopback and link-local addresses. */
  readonly allowLocalJwks: boolean;
  readonly validateOnly: boolean;
  readonly mock: boolean;
  /** Flags of Envoy that were given and mean nothing here. */
  readonly ignored: readonly string[];
}

/** Own flags: name, environment variable, what they say. */
const OWN_FLAGS: readonly (readonly [flags: string, environment: string, says: string])[] = [
  ['-c, --config-path <path...>', 'PILLION_CONFIG_PATH', 'a file, a folder, or - for stdin; may be repeated'],
  ['--discovery <address:port>', 'PILLION_DISCOVERY', 'istiod, in place of files: istiod.istio-system.svc:15012'],
  ['--mesh <file>', 'PILLION_MESH', 'MeshConfig as YAML'],
  ['--outbound <address:port>', 'PILLION_OUTBOUND', 'the HTTP proxy for outbound traffic (127.0.0.1:15001)'],
  ['--inbound <address:port=workloadport...>', 'PILLION_INBOUND', 'open the inbound side of a workload port'],
  ['--agent <address:port>', 'PILLION_AGENT', "application's probes, merged metrics (port 15020)"],
  ['--dns <address:port>', 'PILLION_DNS', 'answer names of the mesh (port 15053)'],
  ['--map <address:port=host:port...>', 'PILLION_MAP', 'open a local port for a TCP or TLS service'],
  ['--intercept', 'PILLION_INTERCEPT', 'take what iptables redirects (pillion capture): ports 15001 and 15006'],
  ['--app <address[:port]>', 'PILLION_APP', 'where the application of inbound ports is (127.0.0.1)'],
  ['--workload <name.namespace>', 'PILLION_WORKLOAD', 'beside which workload the proxy stands'],
  ['--labels <k=v,...>', 'PILLION_LABELS', "added to the workload's labels"],
  ['--admin <address:port>', 'PILLION_ADMIN', 'the admin interface (127.0.0.1:15000)'],
  ['--status <address:port>', 'PILLION_STATUS', 'readiness: /healthz/ready (port 15021)'],
  ['--metrics <address:port>', 'PILLION_METRICS', 'Prometheus: /stats/prometheus (port 15090)'],
  ['--concurrency <threads>', 'PILLION_CONCURRENCY', 'data threads (the CPU limit; 2 without one)'],
  ['-l, --log-level <level>', 'PILLION_LOG_LEVEL', 'trace, debug, info, warning, error, critical, off'],
  ['--access-log <encoding>', 'PILLION_ACCESS_LOG', 'text, json or off, whatever the mesh says'],
  ['--identity <source>', 'PILLION_IDENTITY', 'auto, none, development, istio-ca[:ADDRESS], files:FOLDER, sds:SOCKET'],
  ['--allow-local-jwks', 'PILLION_ALLOW_LOCAL_JWKS', 'fetch token signing keys from this machine and link too'],
];

/** Adds all flags to a command. */
export function addProxyFlags(command: Command): Command {
  for (const [flags, environment, says] of OWN_FLAGS) command.addOption(new Option(flags, says).env(environment));
  for (const { flags, says, ignored } of envoyFlags) {
    const option = new Option(flags, says).env(environmentName(flags));
    command.addOption(ignored === true ? option.hideHelp() : option);
  }
  return command;
}

export function environmentName(flags: string): string {
  const name = /--([a-z0-9-]+)/.exec(flags)?.[1] ?? '';
  return `PILLION_${name.toUpperCase().replaceAll('-', '_')}`;
}

type Values = Readonly<Record<string, string | boolean | readonly string[] | undefined>>;

/** @param paths given without a flag (`dev FOLDER`). @throws {CommandError} */
export function readProxyFlags(values: Values, paths: readonly string[], environment = process.env): ProxyFlags {
  const text = (name: string): string | undefined => {
    const value = values[name];
    return typeof value === 'string' ? value : undefined;
  };
  const texts = (name: string): readonly string[] => {
    const value = values[name];
    return typeof value === 'string' ? value.split(',') : Array.isArray(value) ? (value as string[]) : [];
  };
  const address = (name: string): ListenAddress | undefined => {
    const value = text(name);
    return value === undefined ? undefined : parseAddress(value, `--${name}`);
  };
  for (const name of ['inbound', 'outbound', 'map', 'app']) {
    if (values['intercept'] === true && values[name] !== undefined) {
      throw new CommandError(
        exitCodes.usage,
        `--intercept and --${name} exclude each other: one is for traffic that iptables redirects, the other for a machine without`,
      );
    }
  }
  const mode = text('mode') ?? 'serve';
  if (!['serve', 'validate', 'init_only'].includes(mode)) refuse('--mode', 'serve or validate', mode);
  return {
    paths: [...texts('configPath'), ...paths],
    configYaml: text('configYaml'),
    discovery: text('discovery'),
    meshPath: text('mesh'),
    outbound: address('outbound') ?? { ip: '127.0.0.1', port: 15001 },
    inbound: texts('inbound').map(parseInbound),
    maps: texts('map').map(parseMapping),
    intercept: values['intercept'] === true,
    app: appAddress(text('app')),
    workload: workloadName(text('workload'), environment),
    labels: labels(text('labels')),
    identity: text('identity'),
    admin: address('admin'),
    status: address('status'),
    metrics: address('metrics'),
    agent: address('agent') ?? (isInjected(environment) ? { ip: '0.0.0.0', port: 15020 } : undefined),
    dns:
      address('dns') ??
      (environment['ISTIO_META_DNS_CAPTURE'] === 'true' ? { ip: '127.0.0.1', port: 15053 } : undefined),
    concurrency: wholeNumber(text('concurrency'), '--concurrency', 1, 256),
    logLevel: logLevel(text('logLevel'), '--log-level'),
    componentLevels: componentLevels(text('componentLogLevel')),
    logPath: text('logPath'),
    logFormat: text('logFormat'),
    drain: {
      drainTimeMs: seconds(text('drainTimeS'), '--drain-time-s'),
      parentShutdownTimeMs: seconds(text('parentShutdownTimeS'), '--parent-shutdown-time-s'),
      strategy: drainStrategy(text('drainStrategy')),
    },
    accessLog: accessLog(text('accessLog')),
    adminAddressPath: text('adminAddressPath'),
    node: { id: text('serviceNode') ?? '', cluster: text('serviceCluster') ?? '' },
    allowLocalJwks: values['allowLocalJwks'] === true,
    allowUnknownFields: values['allowUnknownStaticFields'] === true || values['allowUnknownFields'] === true,
    validateOnly: mode !== 'serve',
    mock: values['mock'] === true,
    ignored: envoyFlags.filter(({ flags, ignored }) => ignored && values[camelCase(flags)] !== undefined).map(flagName),
  };
}

/** Istio's injector has pointed the pod's probes or scrapes at the agent port. */
function isInjected(environment: NodeJS.ProcessEnv): boolean {
  return (
    environment['ISTIO_KUBE_APP_PROBERS'] !== undefined || environment['ISTIO_PROMETHEUS_ANNOTATIONS'] !== undefined
  );
}

const flagName = ({ flags }: { flags: string }): string => flags.split(' ', 1)[0] as string;

function camelCase(flags: string): string {
  return flagName({ flags })
    .slice(2)
    .replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function refuse(flag: string, wanted: string, got: string): never {
  throw new CommandError(exitCodes.usage, `${flag} wants ${wanted}, got "${got}"`);
}

function wholeNumber(text: string | undefined, flag: string, least: number, most: number): number | undefined {
  if (text === undefined) return undefined;
  const value = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value >= least && value <= most)) refuse(flag, `a whole number from ${least} to ${most}`, text);
  return value;
}

function seconds(text: string | undefined, flag: string): number | undefined {
  const value = wholeNumber(text, flag, 0, 86_400);
  return value === undefined ? undefined : value * 1000;
}

function drainStrategy(text: string | undefined): DrainStrategy | undefined {
  if (text === undefined || text === 'gradual' || text === 'immediate') return text;
  return refuse('--drain-strategy', 'gradual or immediate', text);
}

function logLevel(text: string | undefined, flag: string): LogLevel | undefined {
  if (text === undefined) return undefined;
  return parseLogLevel(text) ?? refuse(flag, 'trace, debug, info, warning, error, critical or off', text);
}

function componentLevels(text: string | undefined): Map<string, LogLevel> {
  const levels = new Map<string, LogLevel>();
  for (const item of text?.split(',') ?? []) {
    const [component = '', level = ''] = item.split(':');
    const parsed = parseLogLevel(level);
    if (component === '' || parsed === undefined) refuse('--component-log-level', 'COMPONENT:LEVEL,...', item);
    levels.set(component, parsed);
  }
  return levels;
}

function accessLog(text: string | undefined): ProxyFlags['accessLog'] {
  switch (text) {
    case undefined:
      return undefined;
    case 'text':
      return 'TEXT';
    case 'json':
      return 'JSON';
    case 'off':
      return 'off';
    default:
      return refuse('--access-log', 'text, json or off', text);
  }
}

function appAddress(text: string | undefined): ProxyFlags['app'] {
  if (text === undefined) return undefined;
  if (isIP(text) !== 0) return { ip: text, port: undefined };
  if (text === 'localhost') return { ip: '127.0.0.1', port: undefined };
  return parseAddress(text, '--app');
}

/** `--workload`, else the pod's name as Istio's injector sets it. */
function workloadName(text: string | undefined, environment: NodeJS.ProcessEnv): ProxyFlags['workload'] {
  if (text !== undefined) {
    const dot = text.indexOf('.');
    const name = dot < 0 ? text : text.slice(0, dot);
    const namespace = dot < 0 ? 'default' : text.slice(dot + 1);
    if (name === '' || namespace === '') refuse('--workload', 'NAME.NAMESPACE', text);
    return { name, namespace };
  }
  const name = environment['POD_NAME'];
  return name === undefined || name === '' ? undefined : { name, namespace: environment['POD_NAMESPACE'] || 'default' };
}

function labels(text: string | undefined): Record<string, string> {
  const out: Record<string, string> = Object.create(null) as Record<string, string>;
  if (text === undefined || text === '') return out;
  for (const item of text.split(',')) {
    const equals = item.indexOf('=');
    if (equals < 1) refuse('--labels', 'KEY=VALUE,...', text);
    out[item.slice(0, equals)] = item.slice(equals + 1);
  }
  return out;
}

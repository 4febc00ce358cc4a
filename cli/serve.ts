/** Starts the proxy, follows signals, ends with an exit code: what `run` and `dev` have in common. */
import { availableParallelism } from 'node:os';
import { closeSync, openSync, writeSync } from 'node:fs';
import { ISTIO_STATS_CONFIG } from '../config/istio/stats_config.ts';
import { ConfigError } from '../proxy/config_error.ts';
import { startProxy } from '../proxy/main.ts';
import { parseOverload } from '../proxy/overload/overload_config.ts';
import { BindError } from '../proxy/net/listening_socket.ts';
import type { ListenAddress, ProxyOptions, RunningProxy, UpdateReport } from '../proxy/proxy_options.ts';
import { REDACTED } from '../proxy/telemetry/redaction.ts';
import { parseApplicationLog, parseLogFormat } from '../proxy/telemetry/log_format.ts';
import { LeveledLogger, type LogOutput, stderrOutput } from '../proxy/telemetry/logger.ts';
import { showAddress } from './addresses.ts';
import { durationMs } from './go_duration.ts';
import { Application } from './application.ts';
import type { Configuration } from './configuration.ts';
import { defaultConcurrency, memoryLimitBytes } from './cpu_limit.ts';
import { type DrainPolicy, readDrainPolicy } from './drain_policy.ts';
import { EndSignals } from './end_signals.ts';
import { CommandError, exitCodes } from './exit_codes.ts';
import type { ProxyFlags } from './proxy_flags.ts';
import { reapOrphans } from './reaper.ts';

export interface ServeOptions {
  readonly flags: ProxyFlags;
  readonly configuration: Configuration;
  readonly admin: ListenAddress | undefined;
  readonly status: ListenAddress | undefined;
  readonly metrics: ListenAddress | undefined;
  readonly log: LeveledLogger;
  readonly accessLogFlushMs: number;
  /** `run -- CMD`: the application; empty: none. */
  readonly command: readonly string[];
  onReady(running: RunningProxy): void;
  onUpdate(report: UpdateReport): void;
}

/** The log that the flags ask for, and what opens its file again. */
export function openLog(flags: ProxyFlags, defaultLevel: 'info' | 'warning'): { log: LeveledLogger; reopen(): void } {
  const file = flags.logPath === undefined ? undefined : new LogFile(flags.logPath);
  const log = new LeveledLogger(flags.logLevel ?? defaultLevel, file ?? stderrOutput());
  if (flags.logFormat !== undefined) log.format = parseLogFormat(flags.logFormat);
  for (const [component, level] of flags.componentLevels) log.components.set(component, level);
  if (flags.ignored.length > 0) {
    log.log('warning', 'cli', `Accepted, without effect here: ${flags.ignored.join(', ')}`);
  }
  return { log, reopen: () => file?.reopen() };
}

/** @throws {CommandError} {ConfigError} when it cannot start. @returns the exit code. */
export async function serve(options: ServeOptions, reopenLog: () => void): Promise<number> {
  const { flags, configuration, log } = options;
  const format = parseApplicationLog(configuration.bootstrap?.json['application_log_config']);
  if (format !== undefined && flags.logFormat !== undefined) {
    throw new ConfigError('application_log_config.log_format', 'cannot stand beside --log-format: give one of them');
  }
  log.format ??= format;
  const drain = await readDrainPolicy(flags.drain, configuration.inputs?.mesh?.['defaultConfig']);
  let requestEnd: (signal: NodeJS.Signals) => void = () => {};
  const proxyOptions: ProxyOptions = {
    concurrency: concurrencyOf(flags, configuration),
    sources: [
      configuration.source,
      // Before control planes: of what it has, nobody else is asked.
      ...(await configuration.identitySources(log, nodeOf(flags, configuration))),
      ...(await configuration.dynamicSources(log)),
    ],
    admin: options.admin,
    status: options.status,
    metrics: options.metrics,
    log,
    node: nodeOf(flags, configuration),
    commandLine: commandLine(flags, concurrencyOf(flags, configuration), drain),
    bootstrap: configuration.bootstrap?.json,
    overloadConfig: parseOverload(configuration.bootstrap?.json['overload_manager'], memoryLimitBytes()),
    statsConfig:
      configuration.bootstrap?.json['stats_config'] ??
      (configuration.compiled === undefined ? undefined : ISTIO_STATS_CONFIG),
    agent: agentOf(flags),
    dns: dnsOf(flags),
    drainTimeMs: drain.drainTimeMs,
    drainStrategy: drain.strategy,
    onUpdate: options.onUpdate,
    accessLogFlushMs: options.accessLogFlushMs,
    onQuit: () => requestEnd('SIGQUIT'),
    adminAddressPath: flags.adminAddressPath,
  };
  const running = startProxy(proxyOptions);
  configuration.onNames = (names) => running.setNames(names);
  if (configuration.compiled !== undefined) running.setNames(configuration.compiled.names);
  const end = new EndSignals({
    reload: () => void configuration.source.reload(),
    reopen: () => {
      running.reopenLogs();
      reopenLog();
    },
    hurry: () => void running.stop('now'),
  });
  requestEnd = end.request;
  try {
    const early = await Promise.race([running.ready, end.requested.then(() => 'stopped' as const)]);
    if (early === 'stopped') {
      await running.stop('now');
      return exitCodes.fine;
    }
  } catch (error) {
    await running.stop('now');
    throw asCommandError(error, options);
  }
  options.onReady(running);
  const code = await endOfWork(options, end, running);
  const cut = await running.stop('graceful', drain.shutdown);
  if (cut !== '') {
    log.log('warning', 'drain', `The drain time of ${drain.shutdown.deadlineMs / 1000} s has passed: cut ${cut}`);
  }
  return code ?? (cut === '' ? exitCodes.fine : exitCodes.drainDeadline);
}

/** Waits for the application where there is one, else for the signal. @returns the application's exit code. */
async function endOfWork(options: ServeOptions, end: EndSignals, running: RunningProxy): Promise<number | undefined> {
  if (options.command.length === 0) {
    if (process.pid === 1) reapOrphans(() => false);
    await end.requested;
    return undefined;
  }
  let application: Application;
  try {
    application = await Application.start(options.command);
  } catch (error) {
    await running.stop('now');
    throw error;
  }
  if (process.pid === 1) reapOrphans((pid) => pid === application.pid);
  end.forwardTo(application);
  const code = await application.ended;
  options.log.log('info', 'main', `The application has ended with ${code}`);
  return code;
}

/** Istio's environment: ISTIO_KUBE_APP_PROBERS, ISTIO_PROMETHEUS_ANNOTATIONS, INSTANCE_IP. */
function agentOf({ agent }: ProxyFlags, environment = process.env): ProxyOptions['agent'] {
  if (agent === undefined) return undefined;
  return {
    address: agent,
    environment: {
      probers: environment['ISTIO_KUBE_APP_PROBERS'] ?? '',
      prometheus: environment['ISTIO_PROMETHEUS_ANNOTATIONS'] ?? '',
      podIp: environment['INSTANCE_IP'] || '127.0.0.1',
    },
  };
}

/** Istio's environment: DNS_FORWARD_TIMEOUT, DNS_FORWARD_PARALLEL. */
function dnsOf({ dns }: ProxyFlags, environment = process.env): ProxyOptions['dns'] {
  if (dns === undefined) return undefined;
  return {
    ...dns,
    resolvConfPath: '/etc/resolv.conf',
    timeoutMs: durationMs(environment['DNS_FORWARD_TIMEOUT'], 'DNS_FORWARD_TIMEOUT') ?? 5000,
    parallel: environment['DNS_FORWARD_PARALLEL'] === 'true',
  };
}

/** The flag, else ProxyConfig (0: one a core), else the CPU limit. */
function concurrencyOf({ concurrency }: ProxyFlags, { compiled, istiod }: Configuration): number {
  const pushed = istiod?.proxyConfig['concurrency'];
  const configured = compiled?.proxyConfig.concurrency ?? (typeof pushed === 'number' ? pushed : undefined);
  return concurrency ?? (configured === 0 ? availableParallelism() : configured) ?? defaultConcurrency();
}

function nodeOf({ node }: ProxyFlags, { bootstrap, identity }: Configuration): ProxyOptions['node'] {
  return {
    metadata: {
      ...bootstrap?.node.metadata,
      ...(identity !== undefined && {
        NAME: identity.name,
        NAMESPACE: identity.namespace,
        WORKLOAD_NAME: identity.name,
        LABELS: identity.labels,
        SERVICE_ACCOUNT: identity.serviceAccount,
        CLUSTER_ID: 'Kubernetes',
      }),
    },
    id:
      node.id ||
      bootstrap?.node.id ||
      (identity === undefined ? '' : `sidecar~${identity.ips[0] ?? ''}~${identity.name}.${identity.namespace}~`),
    cluster: node.cluster || bootstrap?.node.cluster || '',
  };
}

function asCommandError(error: unknown, options: ServeOptions): unknown {
  if (!(error instanceof BindError)) {
    return error instanceof ConfigError || error instanceof CommandError
      ? error
      : new CommandError(exitCodes.config, (error as Error).message, { cause: error });
  }
  const { ip, port } = error;
  const is = (address: ListenAddress | undefined): boolean => address?.ip === ip && address.port === port;
  const inbound = options.flags.inbound.find(is);
  const flag = is(options.admin)
    ? '--admin'
    : is(options.status)
      ? '--status'
      : is(options.metrics)
        ? '--metrics'
        : inbound !== undefined
          ? `--inbound ${showAddress(inbound)}=${inbound.workloadPort}`
          : options.configuration.compiled !== undefined && is(options.flags.outbound)
            ? '--outbound'
            : undefined;
  const advice = flag === undefined ? "change the listener's address" : `choose another with ${flag}, port 0 for any`;
  return new CommandError(exitCodes.bind, `${error.message}; ${advice}`, { cause: error });
}

function commandLine(flags: ProxyFlags, concurrency: number, drain: DrainPolicy): Record<string, unknown> {
  return {
    concurrency,
    config_path: flags.paths.join(','),
    // A text that may hold keys: /config_dump shows it read and redacted.
    config_yaml: flags.configYaml === undefined ? '' : REDACTED,
    log_level: flags.logLevel ?? 'info',
    component_log_level: [...flags.componentLevels].map(([name, level]) => `${name}:${level}`).join(),
    log_path: flags.logPath ?? '',
    base_id: '0',
    restart_epoch: 0,
    disable_hot_restart: true,
    local_address_ip_version: 'v4',
    file_flush_interval: '1s',
    admin_address_path: flags.adminAddressPath ?? '',
    service_node: flags.node.id,
    service_cluster: flags.node.cluster,
    drain_time: `${drain.drainTimeMs / 1000}s`,
    drain_strategy: drain.strategy === 'gradual' ? 'Gradual' : 'Immediate',
    ...(Number.isFinite(drain.shutdown.deadlineMs) && {
      parent_shutdown_time: `${drain.shutdown.deadlineMs / 1000}s`,
    }),
    mode: 'Serve',
    allow_unknown_static_fields: flags.allowUnknownFields,
  };
}

/** `--log-path`, opened again on SIGUSR2. */
class LogFile implements LogOutput {
  readonly text = true;
  readonly #path: string;
  #descriptor: number;

  constructor(path: string) {
    this.#path = path;
    try {
      this.#descriptor = openSync(path, 'a');
    } catch (error) {
      throw new CommandError(exitCodes.usage, `Cannot write --log-path: ${(error as Error).message}`, { cause: error });
    }
  }

  write(line: string): void {
    try {
      writeSync(this.#descriptor, line);
    } catch {
      // A full disk must not stop traffic.
    }
  }

  reopen(): void {
    try {
      const next = openSync(this.#path, 'a');
      closeSync(this.#descriptor);
      this.#descriptor = next;
    } catch {
      // The old file goes on.
    }
  }
}

/** How a stop goes: flags as Envoy's, Istio's ProxyConfig and environment (istio.io "ProxyConfig", pilot-agent). */
import type { DrainStrategy } from '../proxy/drain.ts';
import type { ShutdownPolicy } from '../proxy/shutdown.ts';
import { CommandError, exitCodes } from './exit_codes.ts';

export interface DrainFlags {
  /** undefined: not given. */
  readonly drainTimeMs: number | undefined;
  readonly parentShutdownTimeMs: number | undefined;
  readonly strategy: DrainStrategy | undefined;
}

export interface DrainPolicy {
  /** Over which connections are asked to close, and after which those of a changed listener end. */
  readonly drainTimeMs: number;
  readonly strategy: DrainStrategy;
  readonly shutdown: ShutdownPolicy;
}

const DEFAULT_STOP_MS = 5000;
const DEFAULT_MINIMUM_MS = 5000;

/**
 * The stop's deadline: --parent-shutdown-time-s, else --drain-time-s, else terminationDrainDuration, else 5 s. With
 * EXIT_ON_ZERO_ACTIVE_CONNECTIONS there is none unless a flag gives one, all connections are waited for, and
 * MINIMUM_DRAIN_DURATION (5s) passes at least.
 *
 * @param proxyConfig mesh.defaultConfig; PROXY_CONFIG of the environment comes before it. @throws {CommandError}
 */
export async function readDrainPolicy(
  flags: DrainFlags,
  proxyConfig: unknown,
  environment: NodeJS.ProcessEnv = process.env,
): Promise<DrainPolicy> {
  const config = { ...asObject(proxyConfig), ...(await proxyConfigOf(environment['PROXY_CONFIG'])) };
  const configured = (field: string): number | undefined =>
    config[field] === undefined ? undefined : durationMs(String(config[field]), `ProxyConfig ${field}`);
  const fromEnvironment = (name: string): number | undefined => {
    const text = environment[name];
    return text === undefined || text === '' ? undefined : durationMs(text, name);
  };
  const waitsForConnections = environment['EXIT_ON_ZERO_ACTIVE_CONNECTIONS'] === 'true';
  const minimum = fromEnvironment('MINIMUM_DRAIN_DURATION');
  const given = flags.parentShutdownTimeMs ?? flags.drainTimeMs;
  const deadlineMs =
    given ??
    (waitsForConnections
      ? Number.POSITIVE_INFINITY
      : (configured('terminationDrainDuration') ??
        fromEnvironment('TERMINATION_DRAIN_DURATION_SECONDS') ??
        Math.max(DEFAULT_STOP_MS, minimum ?? 0)));
  return {
    drainTimeMs: flags.drainTimeMs ?? configured('drainDuration') ?? DEFAULT_STOP_MS,
    strategy: flags.strategy ?? 'immediate',
    shutdown: {
      deadlineMs,
      minimumMs: minimum ?? (waitsForConnections ? DEFAULT_MINIMUM_MS : 0),
      waitFor: waitsForConnections ? 'connections' : 'requests',
    },
  };
}

/** JSON or YAML, as the injector writes it. */
async function proxyConfigOf(text: string | undefined): Promise<Readonly<Record<string, unknown>>> {
  if (text === undefined || text.trim() === '') return {};
  const { parse } = await import('yaml');
  try {
    return asObject(parse(text));
  } catch (error) {
    throw new CommandError(exitCodes.usage, `Cannot read PROXY_CONFIG: ${(error as Error).message.split('\n')[0]}`, {
      cause: error,
    });
  }
}

function asObject(value: unknown): Readonly<Record<string, unknown>> {
  return value !== null && typeof value === 'object' && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Go's and protobuf's durations: `5s`, `1m30s`, `0.5s`; a bare number is seconds. @throws {CommandError} */
export function durationMs(text: string, name: string): number {
  if (/^\d{1,9}(?:\.\d+)?$/.test(text)) return Number(text) * 1000;
  if (!/^(?:\d{1,9}(?:\.\d+)?(?:ms|s|m|h))+$/.test(text)) {
    throw new CommandError(exitCodes.usage, `${name} wants a duration such as 5s, got "${text}"`);
  }
  let total = 0;
  for (const [, count, unit] of text.matchAll(/([\d.]+)(ms|s|m|h)/g))
    total += Number(count) * (UNIT_MS[unit ?? ''] ?? 0);
  return total;
}

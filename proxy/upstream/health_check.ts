/**
 * Active health checks: who is asked when, and what the answers mean. On the control thread; a data thread asks, through
 * the cluster's own transport. Envoy: envoy.config.core.v3.HealthCheck, health_checker_base_impl.cc.
 *
 *   unknown ──first answer──► healthy ──unhealthy_threshold failures──► unhealthy ──healthy_threshold passes──► healthy
 */
import type { Logger } from '../telemetry/log.ts';
import type { Statistics } from '../telemetry/statistics.ts';

/** Durations in ms. */
export interface HealthCheckConfig {
  readonly timeoutMs: number;
  readonly intervalMs: number;
  readonly initialJitterMs: number;
  readonly intervalJitterMs: number;
  readonly intervalJitterPercent: number;
  readonly unhealthyThreshold: number;
  readonly healthyThreshold: number;
  /** While the host is unhealthy; default intervalMs. */
  readonly unhealthyIntervalMs: number;
  readonly alwaysLogFailures: boolean;
  readonly check: HealthCheck;
}

/** What is asked; goes to a data thread as it stands. */
export type HealthCheck =
  | {
      readonly kind: 'http';
      readonly path: string;
      /** '': the cluster's name. */
      readonly host: string;
      readonly method: string;
      /** Pairs of first and behind-last; default [200, 201]. */
      readonly expected: readonly (readonly [number, number])[];
      /** Names and values. */
      readonly headers: readonly (readonly [string, string])[];
    }
  | { readonly kind: 'grpc'; readonly service: string; readonly authority: string }
  /** Hex; '' sends nothing, and a connection is enough. */
  | { readonly kind: 'tcp'; readonly send: string; readonly receive: readonly string[] };

/** undefined: fine; '' no verdict (nobody could ask); else why it failed. */
export type ProbeAnswer = string | undefined;

export interface HealthCheckerDeps {
  readonly cluster: string;
  readonly statName: string;
  readonly statistics: Statistics;
  readonly log: Logger;
  random(): number;
  probe(address: string, check: HealthCheck, timeoutMs: number): Promise<ProbeAnswer>;
  /** Whether the host fails has changed. */
  publish(address: string): void;
}

interface Checked {
  timer: NodeJS.Timeout | undefined;
  /** undefined: nobody has answered yet. */
  healthy: boolean | undefined;
  failures: number;
  passes: number;
  gone: boolean;
}

/** Made at the start: they are there before the first check. */
const COUNTERS = ['attempt', 'success', 'failure', 'network_failure'];
/** It was there, and said what was not wanted; everything else is the network's or the time's. */
const ANSWERED = /^it (?:answered|is not serving)/;

export class HealthChecker {
  readonly #config: HealthCheckConfig;
  readonly #deps: HealthCheckerDeps;
  readonly #hosts = new Map<string, Checked>();

  constructor(config: HealthCheckConfig, deps: HealthCheckerDeps) {
    this.#config = config;
    this.#deps = deps;
    for (const name of COUNTERS) deps.statistics.counter(`cluster.${deps.statName}.health_check.${name}`);
  }

  setHosts(addresses: readonly string[]): void {
    const wanted = new Set(addresses);
    for (const [address, host] of this.#hosts) {
      if (wanted.has(address)) continue;
      this.#hosts.delete(address);
      host.gone = true;
      clearTimeout(host.timer);
      if (host.healthy === false) this.#deps.publish(address);
    }
    for (const address of wanted) {
      if (this.#hosts.has(address)) continue;
      const host: Checked = { timer: undefined, healthy: undefined, failures: 0, passes: 0, gone: false };
      this.#hosts.set(address, host);
      this.#after(address, host, this.#deps.random() * this.#config.initialJitterMs);
    }
    this.#count();
  }

  close(): void {
    this.setHosts([]);
  }

  fails(address: string): boolean {
    return this.#hosts.get(address)?.healthy === false;
  }

  #after(address: string, host: Checked, delayMs: number): void {
    host.timer = setTimeout(() => void this.#ask(address, host), delayMs).unref();
  }

  async #ask(address: string, host: Checked): Promise<void> {
    const { check, timeoutMs } = this.#config;
    this.#counter('attempt');
    const answer = await this.#deps.probe(address, check, timeoutMs).catch(() => '');
    if (host.gone) return;
    if (answer === undefined) this.#passed(address, host);
    else if (answer !== '') this.#failed(address, host, answer);
    this.#after(address, host, this.#nextMs(host));
  }

  #nextMs({ healthy }: Checked): number {
    const { intervalMs, unhealthyIntervalMs, intervalJitterMs, intervalJitterPercent } = this.#config;
    const base = healthy === false ? unhealthyIntervalMs : intervalMs;
    const { random } = this.#deps;
    return base + random() * intervalJitterMs + (random() * base * intervalJitterPercent) / 100;
  }

  #passed(address: string, host: Checked): void {
    this.#counter('success');
    host.failures = 0;
    host.passes++;
    if (host.healthy === true || (host.healthy === false && host.passes < this.#config.healthyThreshold)) return;
    const before = host.healthy;
    host.healthy = true;
    this.#count();
    if (before === undefined) return;
    this.#deps.publish(address);
    const { cluster, log } = this.#deps;
    log.log('info', 'health_check', `Host ${address} of cluster "${cluster}" is healthy again`, {
      cluster_name: cluster,
      host: address,
      event: 'add_healthy',
    });
  }

  #failed(address: string, host: Checked, reason: string): void {
    this.#counter('failure');
    if (!ANSWERED.test(reason)) this.#counter('network_failure');
    host.passes = 0;
    host.failures++;
    const { cluster, log } = this.#deps;
    const changes = host.healthy === undefined || (host.healthy && host.failures >= this.#config.unhealthyThreshold);
    if (changes || this.#config.alwaysLogFailures) {
      log.log('warning', 'health_check', `Host ${address} of cluster "${cluster}" fails its health check: ${reason}`, {
        cluster_name: cluster,
        host: address,
        event: changes ? 'eject_unhealthy' : 'health_check_failure',
      });
    }
    if (!changes) return;
    host.healthy = false;
    this.#count();
    this.#deps.publish(address);
  }

  #count(): void {
    let healthy = 0;
    for (const host of this.#hosts.values()) if (host.healthy === true) healthy++;
    this.#deps.statistics.gauge(`cluster.${this.#deps.statName}.health_check.healthy`).set(healthy);
  }

  #counter(name: string): void {
    this.#deps.statistics.counter(`cluster.${this.#deps.statName}.health_check.${name}`).inc();
  }
}

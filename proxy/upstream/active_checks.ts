/** The health checkers of all clusters that have some. */
import type { Logger } from '../telemetry/log.ts';
import type { Statistics } from '../telemetry/statistics.ts';
import type { ClusterConfig } from './cluster_config.ts';
import { type HealthCheck, HealthChecker, type ProbeAnswer } from './health_check.ts';
import type { VerdictBoard } from './verdict_board.ts';

export interface ActiveChecksDeps {
  readonly statistics: Statistics;
  readonly log: Logger;
  readonly board: VerdictBoard;
  probe(cluster: string, address: string, check: HealthCheck, timeoutMs: number): Promise<ProbeAnswer>;
}

export class ActiveChecks {
  readonly #deps: ActiveChecksDeps;
  readonly #checkers = new Map<string, { readonly text: string; readonly list: readonly HealthChecker[] }>();

  constructor(deps: ActiveChecksDeps) {
    this.#deps = deps;
  }

  /** Checks that stay the same go on with what they know. */
  serve({ name, altStatName, healthChecks }: ClusterConfig): void {
    const text = JSON.stringify(healthChecks);
    if (this.#checkers.get(name)?.text === text) return;
    this.drop(name);
    if (healthChecks.length === 0) return;
    const { statistics, log, board, probe } = this.#deps;
    const list = healthChecks.map(
      (config) =>
        new HealthChecker(config, {
          cluster: name,
          statName: altStatName,
          statistics,
          log,
          random: Math.random,
          probe: (address, check, timeoutMs) => probe(name, address, check, timeoutMs),
          publish: (address) =>
            board.setFailed(
              name,
              address,
              // One of several checks is enough.
              list.some((checker) => checker.fails(address)),
            ),
        }),
    );
    this.#checkers.set(name, { text, list });
  }

  setHosts(cluster: string, addresses: readonly string[]): void {
    for (const checker of this.#checkers.get(cluster)?.list ?? []) checker.setHosts(addresses);
  }

  drop(cluster: string): void {
    for (const checker of this.#checkers.get(cluster)?.list ?? []) checker.close();
    this.#checkers.delete(cluster);
  }

  stop(): void {
    for (const name of [...this.#checkers.keys()]) this.drop(name);
  }
}

/** What happened to updates, below a prefix of Envoy's: `cluster_manager.cds.`, `sds.default.`, `http.x.rds.9080.`. */
import type { ConfigSink } from '../resources.ts';

export type UpdateStatistics = Pick<ConfigSink, 'statistics'>['statistics'];

export class UpdateCounts {
  readonly #prefix: string;
  readonly #statistics: UpdateStatistics;

  constructor(prefix: string, statistics: UpdateStatistics) {
    this.#prefix = prefix;
    this.#statistics = statistics;
  }

  attempt(): void {
    this.#count('update_attempt');
  }

  success(version: string): void {
    this.#count('update_success');
    this.#statistics.text(`${this.#prefix}version_text`, version);
    this.#statistics.gauge(`${this.#prefix}update_time`).set(Date.now());
  }

  rejected(): void {
    this.#count('update_rejected');
  }

  failure(): void {
    this.#count('update_failure');
  }

  fetchTimeout(): void {
    this.#count('init_fetch_timeout');
  }

  #count(name: string): void {
    this.#statistics.counter(`${this.#prefix}${name}`).inc();
  }
}

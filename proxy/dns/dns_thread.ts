/** The DNS proxy as the control thread sees it. */
import { Worker } from 'node:worker_threads';
import { BindError } from '../net/listening_socket.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Counter, Statistics } from '../telemetry/statistics.ts';
import type { DnsCounts } from './dns_server.ts';
import type { DnsStart, FromDns, ToDns } from './dns_worker.ts';
import type { NameTableData } from './name_table.ts';

export class DnsThread {
  readonly #start: DnsStart;
  readonly #log: Logger;
  readonly #counters: Readonly<Record<keyof DnsCounts, Counter>>;
  #worker: Worker | undefined = undefined;
  #table: NameTableData | undefined = undefined;
  #stopped = false;
  #counted: DnsCounts = { requests: 0, upstreamRequests: 0, failures: 0 };

  constructor(start: DnsStart, log: Logger, statistics: Statistics) {
    this.#start = start;
    this.#log = log;
    this.#counters = {
      requests: statistics.counter('istio_agent.dns_requests_total'),
      upstreamRequests: statistics.counter('istio_agent.dns_upstream_requests_total'),
      failures: statistics.counter('istio_agent.dns_upstream_failures_total'),
    };
  }

  /** Whether names can be answered. */
  get ready(): boolean {
    return this.#table !== undefined;
  }

  /** @returns the port. Rejects with BindError when it is taken. */
  listen(): Promise<number> {
    return new Promise((resolve, reject) => this.#spawn(this.#start.port, resolve, reject));
  }

  setTable(table: NameTableData): void {
    this.#table = table;
    this.#worker?.postMessage({ kind: 'table', table } satisfies ToDns);
  }

  async close(): Promise<void> {
    this.#stopped = true;
    await this.#worker?.terminate();
  }

  #spawn(port: number, resolve: (port: number) => void, reject: (error: Error) => void): void {
    const extension = import.meta.url.slice(import.meta.url.lastIndexOf('.'));
    const worker = new Worker(new URL(`./dns_worker${extension}`, import.meta.url), {
      workerData: { ...this.#start, port } satisfies DnsStart,
      execArgv: ['--disable-warning=ExperimentalWarning'],
      name: 'dns',
    });
    this.#worker = worker;
    this.#counted = { requests: 0, upstreamRequests: 0, failures: 0 };
    let taken = port;
    worker.on('message', (message: FromDns) => {
      switch (message.kind) {
        case 'listening':
          taken = message.port;
          resolve(message.port);
          break;
        case 'failed':
          this.#stopped = true;
          reject(
            new BindError(this.#start.ip, port, Object.assign(new Error(message.message), { code: message.code })),
          );
          break;
        case 'counts':
          this.#count(message.counts);
          break;
        default:
          message satisfies never;
      }
    });
    worker.on('error', (error: Error) => this.#log.log('error', 'dns', `The DNS thread failed: ${error.message}`));
    worker.on('exit', () => {
      if (this.#stopped) return;
      this.#log.log('warning', 'dns', 'The DNS thread ended: starting another');
      this.#spawn(taken, () => {}, reject);
    });
    if (this.#table !== undefined) worker.postMessage({ kind: 'table', table: this.#table } satisfies ToDns);
  }

  #count(counts: DnsCounts): void {
    for (const name of Object.keys(counts) as (keyof DnsCounts)[]) {
      this.#counters[name].add(counts[name] - this.#counted[name]);
    }
    this.#counted = counts;
  }
}

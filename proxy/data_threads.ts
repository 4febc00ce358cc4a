/** The data threads as the control thread sees them: started, told, restarted when they die. */
import { type BucketMemory, createBucketMemory, createBucketRow, forgetBuckets } from './http/token_buckets.ts';
import { CONNECTIONS_OF_ALL, createOverloadMemory, type OverloadMemory } from './overload/overload_state.ts';
import { randomBytes } from 'node:crypto';
import { Worker } from 'node:worker_threads';
import type { Demand } from '../config/resources.ts';
import type { ClusterCall } from './cluster_caller.ts';
import type { Update } from './distribution.ts';
import type { Aggregate } from './telemetry/aggregate.ts';
import type { OtelLogConfig, OtelLogRecord } from './telemetry/otel_logs/otel_log_config.ts';
import type { SpanRecord } from './telemetry/tracing/span.ts';
import type { TracerConfig } from './telemetry/tracing/tracing_config.ts';
import type { LogWriter } from './telemetry/log_writer.ts';
import type { RuntimeValues } from './runtime_layers.ts';
import type { NodeIdentity } from './proxy_options.ts';
import { type Logger, mostTalkative } from './telemetry/log.ts';
import { RestartPolicy } from './restart_policy.ts';
import { endThread } from './thread_end.ts';
import type {
  ClusterCursor,
  ClusterDescription,
  FromThread,
  ThreadDescription,
  ThreadStart,
  ToThread,
} from './thread_messages.ts';
import {
  createReportMemory,
  createReportRow,
  forgetReports,
  type ReportMemory,
  type ReportRow,
} from './upstream/host_reports.ts';
import type { HealthCheck, ProbeAnswer } from './upstream/health_check.ts';
import type { OutlierCause } from './upstream/outlier_config.ts';
import { HashTableBuilder } from './upstream/hash_table_builder.ts';
import { createHeartbeat, type Heartbeat } from './watchdog.ts';
import { usedSlotsOf } from './upstream/shared_slots.ts';
import {
  type BreakerMemory,
  type BreakerRow,
  createBreakerMemory,
  createBreakerRow,
  forgetRow,
  hasSlot,
  usedSlots,
} from './upstream/shared_breakers.ts';

export interface DataThreadsOptions {
  readonly count: number;
  readonly log: Logger;
  readonly aggregate: Aggregate;
  readonly writer: LogWriter;
  readonly accessLogFlushMs: number;
  readonly node: NodeIdentity;
  readonly statsConfig: unknown;
  readonly drainTimeMs: number;
  readonly poisonReadBuffers: boolean;
  /** For threads that start. */
  readonly runtime: () => RuntimeValues;
  onSpans(tracer: TracerConfig, spans: readonly SpanRecord[]): void;
  onLogRecords(config: OtelLogConfig, records: readonly OtelLogRecord[]): void;
  /** A thread has counted enough failures of a host. */
  outlierFound(cluster: string, address: string, cause: OutlierCause): void;
  /** A request of a thread wants it. */
  demanded(demand: Demand): void;
  /** Posts everything that a new thread has to be told, with descriptors of its own, before any later update. */
  bringUp(thread: number, post: (message: ToThread) => void): Promise<void>;
}

interface DataThread {
  readonly index: number;
  readonly worker: Worker;
  readonly row: BreakerRow;
  readonly reportRow: ReportRow;
  readonly bucketRow: SharedArrayBuffer;
  readonly heartbeat: Heartbeat;
  readonly ready: Promise<void>;
  readonly died: () => void;
  alive: boolean;
  /** Epochs sent and not yet applied. */
  readonly pending: Map<number, (failure: string | undefined) => void>;
  readonly answers: Map<number, (answer: FromThread) => void>;
}

/**
 * The young generation of a data thread: little of a request outlives it, and a larger one only costs memory
 * (16 MB more under load, no request faster).
 */
const MAX_YOUNG_GENERATION_MB = 2;

export class DataThreads {
  readonly #options: DataThreadsOptions;
  readonly breakers: BreakerMemory = createBreakerMemory();
  readonly overload: OverloadMemory = createOverloadMemory();
  readonly reports: ReportMemory = createReportMemory();
  readonly #hashTables: HashTableBuilder;
  readonly #buckets: BucketMemory = createBucketMemory();
  readonly #threads: DataThread[] = [];
  readonly #ticketSecret = randomBytes(32);
  readonly #restarts: RestartPolicy[] = [];
  #stopping = false;
  #nextId = 1;

  constructor(options: DataThreadsOptions) {
    this.#options = options;
    this.#hashTables = new HashTableBuilder(options.aggregate.own);
  }

  /** Resolves when every thread runs. */
  async start(): Promise<void> {
    for (let index = 0; index < this.#options.count; index++) this.#threads[index] = this.#spawn(index);
    await Promise.all(this.#threads.map((thread) => thread.ready));
  }

  /** What living threads counted of hosts. */
  get reportRows(): readonly ReportRow[] {
    return this.#threads.flatMap(({ alive, reportRow }) => (alive ? [reportRow] : []));
  }

  /** By thread; undefined: dead. */
  heartbeats(): readonly (Heartbeat | undefined)[] {
    return this.#threads.map(({ alive, heartbeat }) => (alive ? heartbeat : undefined));
  }

  get count(): number {
    return this.#options.count;
  }

  /**
   * Sends an update to all. `listenFor` gives a thread's descriptors. Resolves with failures when every thread has
   * applied it (a thread that dies first gets it when it comes back).
   */
  async update(
    update: Update,
    listenFor: (thread: number) => ReadonlyMap<string, readonly (number | undefined)[]>,
  ): Promise<string[]> {
    const results = await Promise.all(
      this.#threads.map(
        (thread) =>
          new Promise<string | undefined>((resolve) => {
            if (!thread.alive) return resolve(undefined);
            thread.pending.set(update.epoch, resolve);
            thread.worker.postMessage({ kind: 'update', update, listen: listenFor(thread.index) } satisfies ToThread);
          }),
      ),
    );
    return results.filter((failure) => failure !== undefined);
  }

  broadcast(message: ToThread): void {
    for (const { worker, alive } of this.#threads) if (alive) worker.postMessage(message);
  }

  /** For profilers. */
  workers(): (readonly [string, Worker])[] {
    return this.#threads.flatMap(({ index, worker, alive }) => (alive ? [[`data-${index}`, worker] as const] : []));
  }

  async describe(): Promise<ThreadDescription[]> {
    const answers = await this.#ask((id) => ({ kind: 'describe', id }));
    return answers.flatMap((answer) => (answer?.kind === 'description' ? [answer.description] : []));
  }

  /** Hosts of the clusters in use, thread by thread and part by part; a large cluster may come in several. */
  async *describeClusters(): AsyncGenerator<ClusterDescription> {
    for (const thread of [...this.#threads]) {
      const seen = new Set<string>();
      let from: ClusterCursor | undefined = { cluster: 0, host: 0 };
      while (from !== undefined) {
        const here: ClusterCursor = from;
        const answer = await this.#askOne(thread, (id) => ({ kind: 'describe-clusters', id, from: here }));
        if (answer?.kind !== 'clusters') break;
        for (const [index, cluster] of answer.part.clusters.entries()) {
          // Clusters may come and go between two parts: none is told twice.
          if (seen.has(cluster.name) && !(index === 0 && here.host > 0)) continue;
          seen.add(cluster.name);
          yield cluster;
        }
        from = answer.part.next;
      }
    }
  }

  /** A request to a cluster, carried by one of the threads. Rejects with what failed. */
  async call(cluster: string, call: ClusterCall): Promise<Buffer> {
    const alive = this.#threads.filter((thread) => thread.alive);
    const id = this.#nextId++;
    const thread = alive[id % alive.length];
    if (thread === undefined) throw new Error('no data thread is there');
    const answer = await new Promise<FromThread>((resolve) => {
      thread.answers.set(id, resolve);
      thread.worker.postMessage({ kind: 'call', id, cluster, call } satisfies ToThread);
    });
    if (answer.kind !== 'called') throw new Error('the data thread ended');
    if (answer.failure !== undefined) throw new Error(answer.failure);
    return Buffer.from(answer.body.buffer, answer.body.byteOffset, answer.body.byteLength);
  }

  /** Asks one host of a cluster how it is, from one of the threads. '': nobody could ask. */
  async probe(cluster: string, address: string, check: HealthCheck, timeoutMs: number): Promise<ProbeAnswer> {
    const alive = this.#threads.filter((thread) => thread.alive);
    const id = this.#nextId++;
    const thread = alive[id % alive.length];
    if (thread === undefined) return '';
    const answer = await new Promise<FromThread>((resolve) => {
      thread.answers.set(id, resolve);
      thread.worker.postMessage({ kind: 'probe', id, cluster, address, check, timeoutMs } satisfies ToThread);
    });
    return answer.kind === 'probed' ? answer.answer : '';
  }

  /** Access-log lines that threads still hold are handed over. */
  async flush(): Promise<void> {
    await this.#ask((id) => ({ kind: 'flush', id }));
  }

  async terminate(): Promise<void> {
    this.#stopping = true;
    await Promise.all([...this.#threads.map(({ worker }) => endThread(worker)), this.#hashTables.stop()]);
  }

  /** For tests: shared slots that somebody holds; `own`: the overload manager's, while a thread lives. */
  usedSlots(): { readonly clusters: number; readonly own: number } {
    const own = hasSlot(this.breakers, CONNECTIONS_OF_ALL, 'default') ? 1 : 0;
    return { clusters: usedSlots(this.breakers) - own + usedSlotsOf(this.reports.slots), own };
  }

  /** For tests: kills one as a crash would. */
  async kill(index: number): Promise<void> {
    const worker = this.#threads[index]?.worker;
    if (worker !== undefined) await endThread(worker);
  }

  #ask(make: (id: number) => ToThread): Promise<(FromThread | undefined)[]> {
    return Promise.all(this.#threads.map((thread) => this.#askOne(thread, make)));
  }

  #askOne(thread: DataThread, make: (id: number) => ToThread): Promise<FromThread | undefined> {
    return new Promise((resolve) => {
      if (!thread.alive) return resolve(undefined);
      const id = this.#nextId++;
      thread.answers.set(id, resolve);
      thread.worker.postMessage(make(id));
    });
  }

  #spawn(index: number): DataThread {
    const { aggregate, log, accessLogFlushMs, node, statsConfig, drainTimeMs, poisonReadBuffers } = this.#options;
    const row = createBreakerRow();
    const reportRow = createReportRow(this.reports);
    const bucketRow = createBucketRow(this.#buckets);
    const heartbeat = createHeartbeat();
    const slab = aggregate.addSlab();
    const start: ThreadStart = {
      threadIndex: index,
      breakers: this.breakers,
      breakerRow: row,
      overload: this.overload,
      heartbeat,
      buckets: this.#buckets,
      bucketRow,
      reports: this.reports,
      reportRow,
      logLevel: mostTalkative(log),
      accessLogFlushMs,
      ticketSecret: this.#ticketSecret,
      node,
      statsConfig,
      drainTimeMs,
      poisonReadBuffers,
      runtime: this.#options.runtime(),
    };
    // Whatever this file itself is: .ts in a checkout, .js in dist.
    const extension = import.meta.url.slice(import.meta.url.lastIndexOf('.'));
    const worker = new Worker(new URL(`./worker${extension}`, import.meta.url), {
      workerData: start,
      execArgv: ['--disable-warning=ExperimentalWarning'],
      resourceLimits: { maxYoungGenerationSizeMb: MAX_YOUNG_GENERATION_MB },
      name: `data-${index}`,
    });
    const ready = Promise.withResolvers<void>();
    const thread: DataThread = {
      index,
      worker,
      row,
      reportRow,
      bucketRow,
      heartbeat,
      ready: ready.promise,
      died: slab.died,
      alive: true,
      pending: new Map(),
      answers: new Map(),
    };
    const startedMs = performance.now();
    worker.on('message', (message: FromThread) => {
      if (message.kind === 'ready') ready.resolve();
      else this.#receive(thread, message, slab.message);
    });
    worker.on('error', (error: Error) => {
      log.log('error', 'thread', `Data thread ${index} failed: ${error.stack ?? error.message}`);
      ready.reject(error);
    });
    ready.promise.catch(() => {});
    worker.on('exit', () => this.#exited(thread, performance.now() - startedMs));
    return thread;
  }

  #receive(
    thread: DataThread,
    message: FromThread,
    statistics: (message: Parameters<ReturnType<Aggregate['addSlab']>['message']>[0]) => void,
  ): void {
    switch (message.kind) {
      case 'applied':
        thread.pending.get(message.epoch)?.(message.failure);
        thread.pending.delete(message.epoch);
        break;
      case 'statistics':
        statistics(message.message);
        break;
      case 'log':
        this.#options.log.log(message.level, message.component, message.message);
        break;
      case 'lines': {
        const bytes = message.bytes.length;
        this.#options.writer.write(message.path, message.bytes, () => {
          if (thread.alive) thread.worker.postMessage({ kind: 'lines-written', bytes } satisfies ToThread);
        });
        break;
      }
      case 'demand':
        this.#options.demanded(message.demand);
        break;
      case 'outlier':
        this.#options.outlierFound(message.cluster, message.address, message.cause);
        break;
      case 'hash-table-wanted': {
        const { id, spec } = message;
        this.#hashTables.wanted(thread, id, spec, (memory) => {
          if (thread.alive) thread.worker.postMessage({ kind: 'hash-table', id, memory } satisfies ToThread);
        });
        break;
      }
      case 'hash-table-let-go':
        this.#hashTables.letGo(thread, message.id);
        break;
      case 'spans': {
        const count = message.spans.length;
        this.#options.onSpans(message.tracer, message.spans);
        if (thread.alive) thread.worker.postMessage({ kind: 'spans-taken', count } satisfies ToThread);
        break;
      }
      case 'log-records': {
        const count = message.records.length;
        this.#options.onLogRecords(message.config, message.records);
        if (thread.alive) thread.worker.postMessage({ kind: 'log-records-taken', count } satisfies ToThread);
        break;
      }
      case 'called':
      case 'probed':
      case 'flushed':
      case 'description':
      case 'clusters':
        thread.answers.get(message.id)?.(message);
        thread.answers.delete(message.id);
        break;
      case 'ready':
        break;
      default:
        message satisfies never;
    }
  }

  /** Its streams are gone; its counts are taken off, its numbers stay, and another takes its place. */
  #exited(thread: DataThread, livedMs: number): void {
    thread.alive = false;
    thread.died();
    forgetRow(this.breakers, thread.row);
    forgetReports(this.reports, thread.reportRow);
    forgetBuckets(this.#buckets, thread.bucketRow);
    this.#hashTables.forget(thread);
    for (const resolve of thread.pending.values()) resolve(undefined);
    for (const resolve of thread.answers.values()) resolve({ kind: 'ready' });
    if (this.#stopping) return;
    const { aggregate, log, bringUp } = this.#options;
    aggregate.own.counter('server.worker_restarts').inc();
    log.log('warning', 'thread', `Data thread ${thread.index} ended after ${Math.round(livedMs)} ms: starting another`);
    const again = (): void => {
      if (this.#stopping) return;
      const next = this.#spawn(thread.index);
      this.#threads[thread.index] = next;
      // What is posted before it is ready waits in its port.
      bringUp(thread.index, (message) => next.worker.postMessage(message)).catch((error: Error) =>
        log.log('error', 'thread', `Data thread ${thread.index} is not brought up: ${error.message}`),
      );
    };
    this.#restarts[thread.index] ??= new RestartPolicy();
    const delayMs = this.#restarts[thread.index]?.died(livedMs) ?? 0;
    if (delayMs === 0) again();
    else setTimeout(again, delayMs);
  }
}

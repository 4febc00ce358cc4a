/** A proxy with one data thread on free ports of loopback, for tests with real sockets. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ConfigSource, Json, Resource, UpdateResult } from '../../config/resources.ts';
import { startProxy } from '../../proxy/main.ts';
import type { ProxyOptions, RunningProxy, UpdateReport } from '../../proxy/proxy_options.ts';
import type { Scope } from './scope.ts';
import { StaticSource } from './static_source.ts';

export interface TestProxy {
  readonly running: RunningProxy;
  readonly reports: UpdateReport[];
  readonly errors: string[];
  /** `component: message` of level warning. */
  readonly warnings: string[];
  /** Of a listener by name, or `admin`. */
  port(name?: string): number;
  set(resources: readonly Resource[]): UpdateResult;
  /** After `set`: until all threads have it. */
  settled(): Promise<void>;
  /** What threads have said up to now is here: series made a moment ago have their values. */
  counted(): Promise<void>;
  /** A counter or gauge, over all threads. */
  value(name: string): number;
  stop(): Promise<string>;
}

export interface TestProxyOptions {
  readonly overloadConfig?: ProxyOptions['overloadConfig'];
  /** The node's metadata. */
  readonly node?: Readonly<Record<string, unknown>>;
  readonly concurrency?: number;
  /** Default 1,000. */
  readonly drainTimeMs?: number;
  /** Beside the resources. */
  readonly sources?: readonly ConfigSource[];
  /** Every line of the proxy's own log. */
  readonly onLog?: (
    level: string,
    component: string,
    message: string,
    fields: Readonly<Record<string, unknown>>,
  ) => void;
  /** Of an Envoy bootstrap: stats_config, layered_runtime, and what /config_dump shows. */
  readonly bootstrap?: Json;
}

/** Starts, and stops with the test (or suite) that `t` stands for. */
export async function startTestProxy(
  t: Scope,
  resources: readonly Resource[],
  options: TestProxyOptions = {},
): Promise<TestProxy> {
  const proxy = beginTestProxy(t, resources, options);
  await proxy.running.ready;
  return proxy;
}

/** As startTestProxy, before it is ready. */
export function beginTestProxy(t: Scope, resources: readonly Resource[], options: TestProxyOptions = {}): TestProxy {
  const source = new StaticSource(resources);
  const reports: UpdateReport[] = [];
  const errors: string[] = [];
  const warnings: string[] = [];
  let wake = (): void => {};
  const running = startProxy({
    concurrency: options.concurrency ?? 1,
    sources: [source, ...(options.sources ?? [])],
    ...(options.overloadConfig !== undefined && { overloadConfig: options.overloadConfig }),
    admin: { ip: '127.0.0.1', port: 0 },
    status: undefined,
    metrics: undefined,
    log: {
      enabled: (level) =>
        options.onLog !== undefined || level === 'warning' || level === 'error' || level === 'critical',
      log: (level, component, message, fields = {}) => {
        options.onLog?.(level, component, message, fields);
        if (level === 'error' || level === 'critical') errors.push(`${component}: ${message}`);
        if (level === 'warning') warnings.push(`${component}: ${message}`);
      },
    },
    node: { id: 'test', cluster: 'test', metadata: options.node ?? {} },
    commandLine: {},
    ...(options.bootstrap !== undefined && { bootstrap: options.bootstrap }),
    drainTimeMs: options.drainTimeMs ?? 1000,
    accessLogFlushMs: 0,
    poisonReadBuffers: true,
    onUpdate: (report) => {
      reports.push(report);
      wake();
    },
  });
  let stopped: Promise<string> | undefined;
  const stop = (): Promise<string> => (stopped ??= running.stop('graceful', { deadlineMs: 500 }));
  t.after(stop);
  return {
    running,
    reports,
    errors,
    warnings,
    port(name = 'test') {
      const address = running.addresses.get(name);
      if (address === undefined) throw new Error(`no listener "${name}"`);
      return address.port;
    },
    set: (changed) => source.set(changed),
    counted: async () => void (await running.threads.describe()),
    settled: () =>
      new Promise((resolve) => {
        wake = resolve;
      }),
    value: (name) => running.statistics.value(name),
    stop,
  };
}

/** A file access log in a folder of its own. */
export class LogFile {
  readonly path: string;
  readonly #folder: string;

  constructor(t: Scope) {
    this.#folder = mkdtempSync(join(tmpdir(), 'pillion-test-'));
    this.path = join(this.#folder, 'access.log');
    t.after(() => rmSync(this.#folder, { recursive: true, force: true }));
  }

  /** For `access_log` of a connection manager. */
  config(format: string | Json): Json {
    return {
      name: 'envoy.access_loggers.file',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog',
        path: this.path,
        log_format:
          typeof format === 'string' ? { text_format_source: { inline_string: format } } : { json_format: format },
      },
    };
  }

  /** Waits until `count` lines stand there. */
  async lines(count: number): Promise<string[]> {
    for (let attempt = 0; attempt < 2000; attempt++) {
      const lines = this.#read();
      if (lines.length >= count) return lines;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    throw new Error(`the access log has ${this.#read().length} lines, ${count} are wanted: ${this.#read().join('\n')}`);
  }

  #read(): string[] {
    try {
      return readFileSync(this.path, 'utf8').split('\n').slice(0, -1);
    } catch {
      return [];
    }
  }
}

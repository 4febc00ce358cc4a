/** Watches the process's resources on the control thread and says what threads shed. Envoy: source/server/overload_manager_impl.cc. */
import { readFileSync } from 'node:fs';
import { connectionsByDescriptors } from '../net/descriptor_limit.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Counter, Gauge, Statistics } from '../telemetry/statistics.ts';
import {
  fullName,
  isPoint,
  OVERLOAD_SIGNALS,
  type OverloadAction,
  type OverloadConfig,
  type OverloadSignal,
  type ResourceMonitor,
} from './overload_config.ts';
import {
  type OverloadMemory,
  pendingHandshakes,
  setHeavyFrom,
  setLevel,
  setMaxConnections,
  setMaxHandshakes,
  setTimerMinimums,
} from './overload_state.ts';

/** The data threads. */
export interface OverloadedThreads {
  /** Where they look. */
  readonly overload: OverloadMemory;
  /** They have to look at once. */
  broadcast(message: { readonly kind: 'overload' | 'reset-streams' }): void;
}

export class OverloadManager {
  readonly #config: OverloadConfig;
  readonly #threads: OverloadedThreads;
  readonly #log: Logger;
  readonly #gauges = new Map<string, { readonly pressure: Gauge; readonly failedUpdates: Counter }>();
  /** Last read, by monitor. */
  readonly #pressures = new Map<string, number>();
  readonly #active = new Map<OverloadSignal, { readonly active: Gauge | undefined; readonly scale: Gauge }>();
  readonly #level = new Map<OverloadSignal, number>();
  readonly #timer: NodeJS.Timeout | undefined;

  constructor(config: OverloadConfig, threads: OverloadedThreads, statistics: Statistics, log: Logger) {
    this.#config = config;
    this.#threads = threads;
    this.#log = log;
    // Where nothing is said: more would leave no descriptor for health and the admin interface.
    setMaxConnections(threads.overload, config.maxConnections ?? connectionsByDescriptors());
    setMaxHandshakes(threads.overload, config.maxHandshakes);
    setTimerMinimums(threads.overload, config.timerMinimums);
    setHeavyFrom(threads.overload, config.heavyFromPower);
    for (const { name } of config.monitors) {
      this.#gauges.set(name, {
        pressure: statistics.gauge(`overload.${name}.pressure`),
        failedUpdates: statistics.counter(`overload.${name}.failed_updates`),
      });
    }
    for (const signal of new Set(config.triggers.map((trigger) => trigger.signal))) {
      const prefix = `overload.${fullName(signal)}`;
      this.#active.set(signal, {
        active: isPoint(signal) ? undefined : statistics.gauge(`${prefix}.active`),
        scale: statistics.gauge(`${prefix}.scale_percent`),
      });
    }
    const delay = statistics.histogram('overload.refresh_interval_delay');
    let dueMs = performance.now() + config.refreshMs;
    const tick = (): void => {
      const nowMs = performance.now();
      delay.record(Math.max(0, nowMs - dueMs));
      dueMs = nowMs + config.refreshMs;
      this.look();
    };
    this.#timer = config.triggers.length > 0 ? setInterval(tick, config.refreshMs).unref() : undefined;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  look(): void {
    for (const monitor of this.#config.monitors) {
      const pressure = pressureOf(monitor, this.#threads.overload);
      const gauges = this.#gauges.get(monitor.name);
      if (pressure === undefined) {
        gauges?.failedUpdates.inc();
        continue;
      }
      this.#pressures.set(monitor.name, pressure);
      gauges?.pressure.set(Math.round(pressure * 100));
    }
    for (const signal of OVERLOAD_SIGNALS) {
      let level = 0;
      for (const trigger of this.#config.triggers) {
        const pressure = this.#pressures.get(trigger.monitor);
        if (trigger.signal !== signal || pressure === undefined || pressure < trigger.from) continue;
        const share = trigger.to > trigger.from ? (pressure - trigger.from) / (trigger.to - trigger.from) : 1;
        level = Math.max(level, Math.min(1, share));
      }
      this.#set(signal, level);
    }
    if ((this.#level.get('reset_high_memory_stream') ?? 0) > 0) this.#threads.broadcast({ kind: 'reset-streams' });
  }

  #set(signal: OverloadSignal, level: number): void {
    const before = this.#level.get(signal) ?? 0;
    if (level === before) return;
    this.#level.set(signal, level);
    setLevel(this.#threads.overload, signal, level);
    const gauges = this.#active.get(signal);
    gauges?.active?.set(level >= 1 ? 1 : 0);
    gauges?.scale.set(Math.round(level * 100));
    if (signal === 'stop_accepting_connections' || signal === 'reduce_timeouts') {
      this.#threads.broadcast({ kind: 'overload' });
    }
    if (level > 0 === before > 0) return;
    const words = isPoint(signal) ? `load is shed at ${fullName(signal)}` : WORDS[signal];
    if (level > 0) this.#log.log('warning', 'overload', `Overload: ${words}`);
    else this.#log.log('info', 'overload', `No longer: ${words}`);
  }
}

const WORDS: Readonly<Record<OverloadAction, string>> = {
  disable_http_keepalive: 'connections close after their responses',
  stop_accepting_requests: 'new requests are answered 503',
  stop_accepting_connections: 'new connections wait in the kernel',
  reject_incoming_connections: 'new connections are closed',
  reduce_timeouts: 'timeouts are shorter',
  reset_high_memory_stream: 'streams that hold much memory are ended',
};

/** undefined: it cannot be read now; what held before goes on. */
function pressureOf(monitor: ResourceMonitor, memory: OverloadMemory): number | undefined {
  if (monitor.kind === 'handshakes') return pendingHandshakes(memory) / monitor.most;
  if (monitor.kind === 'memory') return process.memoryUsage.rss() / monitor.mostBytes;
  try {
    const text = readFileSync(monitor.path, 'utf8').trim();
    // An empty one is being written.
    return text !== '' && Number.isFinite(Number(text)) ? Number(text) : undefined;
  } catch {
    return undefined;
  }
}

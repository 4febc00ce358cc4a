/** Watches the process's resources on the control thread and says what threads shed. Envoy: source/server/overload_manager_impl.cc. */
import { readFileSync } from 'node:fs';
import { connectionsByDescriptors } from '../net/descriptor_limit.ts';
import type { Logger } from '../telemetry/log.ts';
import type { Gauge, Statistics } from '../telemetry/statistics.ts';
import { OVERLOAD_ACTIONS, type OverloadAction, type OverloadConfig, type ResourceMonitor } from './overload_config.ts';
import { type OverloadMemory, setLevel, setMaxConnections } from './overload_state.ts';

export class OverloadManager {
  readonly #config: OverloadConfig;
  readonly #memory: OverloadMemory;
  readonly #log: Logger;
  readonly #pressure = new Map<string, Gauge>();
  readonly #active = new Map<OverloadAction, Gauge>();
  readonly #level = new Map<OverloadAction, number>();
  readonly #timer: NodeJS.Timeout | undefined;

  constructor(config: OverloadConfig, memory: OverloadMemory, statistics: Statistics, log: Logger) {
    this.#config = config;
    this.#memory = memory;
    this.#log = log;
    // Where nothing is said: more would leave no descriptor for health and the admin interface.
    setMaxConnections(memory, config.maxConnections ?? connectionsByDescriptors());
    for (const { name } of config.monitors) this.#pressure.set(name, statistics.gauge(`overload.${name}.pressure`));
    for (const action of new Set(config.triggers.map((trigger) => trigger.action))) {
      this.#active.set(action, statistics.gauge(`overload.envoy.overload_actions.${action}.active`));
    }
    this.#timer = config.triggers.length > 0 ? setInterval(() => this.look(), config.refreshMs).unref() : undefined;
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  look(): void {
    const pressures = new Map<string, number>();
    for (const monitor of this.#config.monitors) {
      const pressure = pressureOf(monitor);
      if (pressure === undefined) continue;
      pressures.set(monitor.name, pressure);
      this.#pressure.get(monitor.name)?.set(Math.round(pressure * 100));
    }
    for (const action of OVERLOAD_ACTIONS) {
      let level = 0;
      for (const trigger of this.#config.triggers) {
        const pressure = pressures.get(trigger.monitor);
        if (trigger.action !== action || pressure === undefined || pressure < trigger.from) continue;
        const share = trigger.to > trigger.from ? (pressure - trigger.from) / (trigger.to - trigger.from) : 1;
        level = Math.max(level, Math.min(1, share));
      }
      this.#set(action, level);
    }
  }

  #set(action: OverloadAction, level: number): void {
    const before = this.#level.get(action) ?? 0;
    if (level === before) return;
    this.#level.set(action, level);
    setLevel(this.#memory, action, level);
    this.#active.get(action)?.set(level >= 1 ? 1 : 0);
    if (level > 0 === before > 0) return;
    if (level > 0) this.#log.log('warning', 'overload', `Overload: ${WORDS[action]}`);
    else this.#log.log('info', 'overload', `No longer: ${WORDS[action]}`);
  }
}

const WORDS: Readonly<Record<OverloadAction, string>> = {
  disable_http_keepalive: 'connections close after their responses',
  stop_accepting_requests: 'new requests are answered 503',
  stop_accepting_connections: 'new connections are not served',
  reject_incoming_connections: 'new connections are closed',
};

/** undefined: it cannot be read now; what held before goes on. */
function pressureOf(monitor: ResourceMonitor): number | undefined {
  if (monitor.kind === 'memory') return process.memoryUsage.rss() / monitor.mostBytes;
  try {
    const value = Number(readFileSync(monitor.path, 'utf8').trim());
    return Number.isFinite(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

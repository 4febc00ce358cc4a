/**
 * Hosts of which some may be chosen now. Which ones changes with their health: taking one out or in costs the same
 * whether there are ten or ten thousand, and no table is built again.
 */
import type { HealthStatus, Host } from '../upstream/host.ts';

/** envoy.config.cluster.v3.Cluster.SlowStartConfig. */
export interface SlowStart {
  readonly windowMs: number;
  /** Default 1: the share grows with time; above, slowly first. */
  readonly aggression: number;
  /** Of the full share, at the beginning. 0 to 1, default 0.1. */
  readonly minWeight: number;
  nowMs(): number;
  random(): number;
}

export class LiveHosts {
  /** The membership: what tables are built from. */
  readonly all: readonly Host[];
  /** Those that may be chosen, in no order. Changes in place. */
  readonly items: Host[];
  /** Changes with `items`. */
  version = 0;
  /** undefined: every host, whatever its health (panic). */
  readonly #kind: HealthStatus | undefined;
  readonly #slowStart: SlowStart | undefined;
  #positions: Map<Host, number> | undefined = undefined;

  constructor(all: readonly Host[], kind: HealthStatus | undefined, slowStart?: SlowStart) {
    this.all = all;
    this.items = kind === undefined ? [...all] : all.filter((host) => host.health === kind);
    this.#kind = kind;
    this.#slowStart = slowStart;
  }

  has(host: Host): boolean {
    return this.#kind === undefined || host.health === this.#kind;
  }

  /** Called after a host's health has changed. */
  changed(host: Host): void {
    if (this.#kind === undefined) return;
    this.#positions ??= new Map(this.items.map((item, index) => [item, index]));
    const positions = this.#positions;
    const at = positions.get(host);
    if (this.has(host) === (at !== undefined)) return;
    this.version++;
    if (at === undefined) {
      positions.set(host, this.items.push(host) - 1);
      return;
    }
    const last = this.items.pop() as Host;
    positions.delete(host);
    if (last === host) return;
    this.items[at] = last;
    positions.set(last, at);
  }

  /** A host that has just come takes less than its share: whether this choice of it stands. */
  accepts(host: Host): boolean {
    const slow = this.#slowStart;
    if (slow === undefined || host.healthySinceMs === 0) return true;
    const sinceMs = slow.nowMs() - host.healthySinceMs;
    if (sinceMs >= slow.windowMs) return true;
    const factor = Math.max(slow.minWeight, (Math.max(sinceMs, 1) / slow.windowMs) ** (1 / slow.aggression));
    return slow.random() < factor;
  }
}

/** How often another host is drawn because one is not to be chosen, before any other that may be is looked for. */
export const MAX_DRAWS = 8;
/** How many hosts are looked at when draws do not help. */
const MAX_LOOKS = 64;

/** Any live host that is not to be skipped, beginning at a random one; the given one where there is none. */
export function anyOther(
  live: LiveHosts,
  given: Host,
  random: () => number,
  shouldSkip: (host: Host) => boolean,
): Host | undefined {
  const { items } = live;
  if (items.length === 0) return undefined;
  const start = Math.floor(random() * items.length);
  const looks = Math.min(items.length, MAX_LOOKS);
  for (let i = 0; i < looks; i++) {
    const host = items[(start + i) % items.length] as Host;
    if (!shouldSkip(host)) return host;
  }
  return live.has(given) ? given : items[start];
}

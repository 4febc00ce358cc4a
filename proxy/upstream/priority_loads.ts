/**
 * How much of the load each priority gets, in percent: healthy hosts first, then degraded ones; everybody in panic.
 * Source: Envoy docs "Priority levels", "Degraded endpoints", "Panic threshold"; load_balancer_base recalculatePerPriorityState.
 */

/** Hosts of one priority. */
export interface PriorityHealth {
  readonly total: number;
  readonly healthy: number;
  readonly degraded: number;
  /** Default 140: five healthy hosts of seven count as all. */
  readonly overprovisioningPercent: number;
}

export type LoadKind = 'healthy' | 'degraded' | 'all';

export interface PriorityLoad {
  readonly share: number;
  /** In the list of priorities. */
  readonly index: number;
  readonly kind: LoadKind;
}

export interface PanicOptions {
  readonly panicThresholdPercent: number;
  /** In panic nobody is chosen, instead of everybody. */
  readonly failOnPanic: boolean;
}

const NOTHING_EXCLUDED: ReadonlySet<number> = new Set();

/** `excluded`: indices that get nothing. Empty: nobody can be chosen. */
export function sharePriorities(
  priorities: readonly PriorityHealth[],
  { panicThresholdPercent, failOnPanic }: PanicOptions,
  excluded: ReadonlySet<number> = NOTHING_EXCLUDED,
): PriorityLoad[] {
  const levels = priorities.flatMap((priority, index) => {
    if (excluded.has(index)) return [];
    const { total, overprovisioningPercent } = priority;
    const availability = (some: number): number =>
      total === 0 ? 0 : Math.min(100, (overprovisioningPercent * some) / total);
    return [{ priority, index, healthy: availability(priority.healthy), degraded: availability(priority.degraded) }];
  });
  const totalHealth = Math.min(
    100,
    levels.reduce((sum, { healthy, degraded }) => sum + healthy + degraded, 0),
  );
  const loads: PriorityLoad[] = [];
  if (totalHealth === 0) {
    // Nobody is healthy: everybody, or nobody, depending on the threshold.
    const first = levels.find(({ priority }) => priority.total > 0);
    if (first !== undefined && panicThresholdPercent > 0 && !failOnPanic) {
      loads.push({ share: 100, index: first.index, kind: 'all' });
    }
    return loads;
  }
  let left = 100;
  const allot = (part: number): number => {
    const share = Math.min(left, Math.round((part * 100) / totalHealth));
    left -= share;
    return share;
  };
  const inPanic = ({ total, healthy, degraded }: PriorityHealth): boolean =>
    totalHealth < 100 && ((healthy + degraded) * 100) / total < panicThresholdPercent;
  for (const kind of ['healthy', 'degraded'] as const) {
    for (const level of levels) {
      const share = allot(level[kind]);
      if (share === 0) continue;
      if (!inPanic(level.priority)) loads.push({ share, index: level.index, kind });
      else if (!failOnPanic) loads.push({ share, index: level.index, kind: 'all' });
    }
  }
  // What rounding left goes to the first that takes any.
  const [first] = loads;
  if (first !== undefined && left > 0) loads[0] = { ...first, share: first.share + left };
  return loads;
}

/** undefined: there is none. */
export function pickLoad(loads: readonly PriorityLoad[], random: () => number): PriorityLoad | undefined {
  let load = loads[0];
  if (loads.length < 2) return load;
  let point = random() * 100;
  for (let i = 0; i < loads.length; i++) {
    load = loads[i] as PriorityLoad;
    point -= load.share;
    if (point < 0) break;
  }
  return load;
}

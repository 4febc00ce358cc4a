/** How many data threads by default: the CPU limit of the container, 2 without one (as Istio's injector does). */
import { readFileSync } from 'node:fs';
import { totalmem } from 'node:os';

export function defaultConcurrency(): number {
  const v2 = read('/sys/fs/cgroup/cpu.max')?.split(' ');
  if (v2 !== undefined && v2[0] !== 'max') return threads(Number(v2[0]), Number(v2[1]));
  const quota = Number(read('/sys/fs/cgroup/cpu/cpu.cfs_quota_us') ?? -1);
  if (quota > 0) return threads(quota, Number(read('/sys/fs/cgroup/cpu/cpu.cfs_period_us') ?? 100_000));
  return 2;
}

function threads(quota: number, period: number): number {
  const cpus = quota / period;
  return Number.isFinite(cpus) && cpus > 0 ? Math.max(1, Math.ceil(cpus)) : 2;
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** The memory limit of the container; undefined without one. */
export function memoryLimitBytes(): number | undefined {
  const limit = process.constrainedMemory();
  return limit > 0 && limit < totalmem() ? limit : undefined;
}

/** CPU time and memory of processes, from /proc. */
import { readdirSync, readFileSync } from 'node:fs';

/** Clock ticks a second: fixed at 100 in the kernel's interface (USER_HZ). */
const TICKS_PER_SECOND = 100;

/** User and system time of a process and its children that still run, in seconds. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of withChildren(pids)) {
    try {
      const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      ticks += Number(fields[11]) + Number(fields[12]);
    } catch {
      // It has ended: its time is gone with it.
    }
  }
  return ticks / TICKS_PER_SECOND;
}

/** Resident memory of a process and its children, in bytes. */
export function residentBytes(pids: readonly number[]): number {
  return statusBytes(pids, /^VmRSS:\s+(\d+) kB/m);
}

/** The most that they had, each at its own time. */
export function peakResidentBytes(pids: readonly number[]): number {
  return statusBytes(pids, /^VmHWM:\s+(\d+) kB/m);
}

function statusBytes(pids: readonly number[], field: RegExp): number {
  let kilobytes = 0;
  for (const pid of withChildren(pids)) {
    try {
      kilobytes += Number(field.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
    } catch {
      // It has ended.
    }
  }
  return kilobytes * 1024;
}

function withChildren(pids: readonly number[]): Set<number> {
  const parents = new Map<number, number>();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const stat = readFileSync(`/proc/${entry}/stat`, 'utf8');
      parents.set(Number(entry), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]));
    } catch {
      // Ended between the listing and the read.
    }
  }
  const found = new Set(pids);
  for (let grew = true; grew; ) {
    grew = false;
    for (const [pid, parent] of parents) {
      if (!found.has(pid) && found.has(parent)) {
        found.add(pid);
        grew = true;
      }
    }
  }
  return found;
}

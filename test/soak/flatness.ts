/** Whether quantities stay flat over time: the second half of a run beside the first. */

/** One look at everything; units in the names of the quantities. */
export type Sample = Readonly<Record<string, number>>;

/** How much more the second half may show: a share of the first, and an amount on top of it. */
export interface Slack {
  readonly ratio: number;
  readonly amount: number;
}

export interface Flatness {
  readonly quantity: string;
  readonly first: number;
  readonly second: number;
  readonly isFlat: boolean;
}

/** Warming up counts for nothing. */
const WARM_UP = 0.1;

/**
 * What was held at the least for a quarter of the time stands for a half: garbage that waits for its collection and bursts
 * of load do not count, what is forgotten does.
 */
const QUANTILE = 0.25;

export function flatness(samples: readonly Sample[], slacks: Readonly<Record<string, Slack>>): Flatness[] {
  const warm = samples.slice(Math.floor(samples.length * WARM_UP));
  const middle = warm.length >> 1;
  return Object.entries(slacks).map(([quantity, { ratio, amount }]) => {
    const first = held(warm.slice(0, middle), quantity);
    const second = held(warm.slice(middle), quantity);
    return { quantity, first, second, isFlat: second <= first * (1 + ratio) + amount };
  });
}

function held(samples: readonly Sample[], quantity: string): number {
  const sorted = samples.map((sample) => sample[quantity] ?? 0).sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length * QUANTILE)] ?? 0;
}

/** Columns under their names, right-aligned. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => (row[column] ?? '').length)));
  return rows.map((row) => row.map((cell, column) => cell.padStart(widths[column] ?? 0)).join('  ')).join('\n');
}

/** Medians as a table on the terminal. */
import { columns, type Figures } from './measure/figures.ts';
import type { Work } from './works.ts';

/** `of`: whose first column the others are given in parts of. */
export function table(work: Work, medians: ReadonlyMap<string, Figures>, of: string): string {
  const shown = columns[work.kind];
  const [main] = shown;
  const rest = shown.slice(1);
  if (main === undefined) return '';
  const reference = medians.get(of)?.[main.key];
  const head = ['peer', main.title, `of ${of}`, ...rest.map(({ title }) => title)];
  const rows = [...medians].map(([name, figures]) => {
    const value = figures[main.key] ?? Number.NaN;
    return [
      name,
      value.toFixed(main.digits),
      reference === undefined ? '-' : (value / reference).toFixed(2),
      ...rest.map(({ key, digits }) => (figures[key] ?? Number.NaN).toFixed(digits)),
    ];
  });
  const widths = head.map((title, index) =>
    Math.max(title.length, ...rows.map((row) => (row[index] as string).length)),
  );
  return [head, ...rows]
    .map(
      (row) =>
        `  ${row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] as number) : cell.padStart(widths[i] as number))).join('  ')}`,
    )
    .join('\n');
}

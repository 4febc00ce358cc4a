/** All works as bars, one SVG: a work a group, a peer a bar, each group scaled to its largest. */
import { columns, type Figures } from './measure/figures.ts';
import type { Work } from './works.ts';

export interface Result {
  readonly work: Work;
  readonly medians: ReadonlyMap<string, Figures>;
}

const COLORS: Readonly<Record<string, string>> = { pillion: '#1a7f5a', envoy: '#7b5ea7' };
const OTHER = '#9aa5ad';
const BAR = 16;
const GAP = 34;
const LABELS = 120;
const WIDTH = 360;

export function plot(results: readonly Result[]): string {
  const parts: string[] = [];
  let y = 30;
  for (const { work, medians } of results) {
    const [main] = columns[work.kind];
    if (main === undefined || medians.size === 0) continue;
    const most = Math.max(...[...medians.values()].map((figures) => figures[main.key] ?? 0), Number.MIN_VALUE);
    parts.push(`<text x="8" y="${y}" class="work">${inXml(work.name)}: ${inXml(main.title)}</text>`);
    y += 8;
    for (const [name, figures] of medians) {
      const value = figures[main.key] ?? 0;
      const width = Math.max(1, (value / most) * WIDTH);
      parts.push(
        `<text x="${LABELS - 8}" y="${y + 12}" text-anchor="end">${inXml(name)}</text>`,
        `<rect x="${LABELS}" y="${y}" width="${width.toFixed(1)}" height="${BAR - 3}" fill="${COLORS[name] ?? OTHER}"/>`,
        `<text x="${(LABELS + width + 5).toFixed(1)}" y="${y + 11}">${value.toFixed(main.digits)}</text>`,
      );
      y += BAR;
    }
    y += GAP - BAR + 8;
  }
  const style = 'text{font:12px sans-serif;fill:#222}.work{font-weight:bold}';
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${LABELS + WIDTH + 90}" height="${y}"><style>${style}</style><rect width="100%" height="100%" fill="#fff"/>${parts.join('')}</svg>\n`;
}

function inXml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}

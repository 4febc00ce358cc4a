/**
 * Prometheus' text format, written a slice at a time.
 *
 * By hand rather than by prom-client's registry: that builds one string in one go, and a scrape of 50,000 series would
 * hold the control thread for longer than the 10 ms that traffic's configuration and health can bear.
 * Names and labels are Envoy's: `envoy_cluster_upstream_rq_total{envoy_cluster_name="…"}`.
 */
import type { HistogramValue, SeriesView } from './aggregate.ts';
import { Slices } from './slices.ts';
import type { StatTags } from './stat_tags.ts';

/** A piece of the answer; longer ones cost a stall when they are encoded. */
const PIECE_CHARACTERS = 32_768;
/** Metrics that keep their names: Istio's custom stat namespace. */
const OWN_NAMESPACE = /^istio_/;

function named({ name, notes }: SeriesView, tags: StatTags): { readonly name: string; readonly tags: string } {
  if (notes.prometheus !== undefined) return notes.prometheus;
  let made: { name: string; tags: string };
  if (OWN_NAMESPACE.test(name)) made = { name: sanitize(name), tags: '' };
  else {
    const found = tags.extract(name);
    made = { name: `envoy_${sanitize(found.name)}`, tags: labelText(found.tags) };
  }
  notes.prometheus = made;
  return made;
}

/** Tags of the name and labels, between braces. */
function labelsOf({ labels, labelNotes, notes }: SeriesView): string {
  const tags = notes.prometheus?.tags ?? '';
  if (labels === undefined || labelNotes === undefined) return tags;
  labelNotes.prometheus ??= labelText(Object.entries(labels));
  return tags === '' ? labelNotes.prometheus : `${tags},${labelNotes.prometheus}`;
}

function sanitize(name: string): string {
  const clean = name.replace(/[^a-zA-Z0-9_:]/g, '_');
  return /^[0-9]/.test(clean) ? `_${clean}` : clean;
}

/** All series, grouped by metric as the format wants it, in pieces. `summary`: quantiles in place of buckets. */
export async function* prometheusText(
  values: Iterable<SeriesView>,
  tags: StatTags,
  form: 'cumulative' | 'summary' = 'cumulative',
): AsyncGenerator<string> {
  const groups = new Map<string, { readonly type: string; readonly members: SeriesView[] }>();
  const slices = new Slices();
  let count = 0;
  for (const value of values) {
    const { name } = named(value, tags);
    const known = groups.get(name);
    const key = known === undefined || known.type === value.type ? name : `${name}_${value.type}`;
    const group = known?.type === value.type ? known : groups.get(key);
    if (group === undefined) groups.set(key, { type: value.type, members: [value] });
    else group.members.push(value);
    if ((++count & 15) === 0 && slices.over) await slices.next();
  }
  let piece = '';
  for (const [name, { type, members }] of groups) {
    piece += `# TYPE ${name} ${type === 'histogram' && form === 'summary' ? 'summary' : type}\n`;
    for (const value of members) {
      const labels = labelsOf(value);
      const { value: number, histogram } = value.read();
      piece +=
        histogram === undefined ? `${name}{${labels}} ${number}\n` : histogramLines(name, labels, histogram, form);
      if (piece.length >= PIECE_CHARACTERS) {
        yield piece;
        piece = '';
      }
      if (slices.over) await slices.next();
    }
  }
  if (piece !== '') yield piece;
}

const QUANTILES = [0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1];

function histogramLines(
  name: string,
  labels: string,
  histogram: HistogramValue,
  form: 'cumulative' | 'summary',
): string {
  const { bounds, buckets, sum, count } = histogram;
  const separator = labels === '' ? '' : ',';
  let lines = '';
  if (form === 'summary') {
    for (const quantile of QUANTILES) {
      const value = count === 0 ? 'NaN' : quantileOf(histogram, quantile);
      lines += `${name}{${labels}${separator}quantile="${quantile}"} ${value}\n`;
    }
  } else {
    let cumulative = 0;
    for (let i = 0; i < buckets.length; i++) {
      cumulative += buckets[i] as number;
      lines += `${name}_bucket{${labels}${separator}le="${bounds[i] ?? '+Inf'}"} ${cumulative}\n`;
    }
  }
  return `${lines}${name}_sum{${labels}} ${sum}\n${name}_count{${labels}} ${count}\n`;
}

/** Linear within its bucket; above the last bound, that bound. */
export function quantileOf({ buckets, bounds, count }: HistogramValue, quantile: number): number {
  const rank = quantile * count;
  let below = 0;
  for (let i = 0; i < buckets.length; i++) {
    const here = buckets[i] as number;
    if (here > 0 && below + here >= rank) {
      const low = i === 0 ? 0 : (bounds[i - 1] as number);
      const high = bounds[i] ?? low;
      return low + ((high - low) * Math.max(0, rank - below)) / here;
    }
    below += here;
  }
  return 0;
}

function labelText(labels: readonly (readonly [string, string])[]): string {
  return labels.map(([name, value]) => `${sanitize(name)}="${escapeLabel(value)}"`).join(',');
}

function escapeLabel(value: string): string {
  return /[\\"\n]/.test(value) ? value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n') : value;
}

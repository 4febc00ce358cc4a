/** /stats in text, JSON and Prometheus' format, made a slice at a time so that nothing waits for a large scrape. */
import type { HistogramValue as Histogram, Reading, SeriesView } from '../telemetry/aggregate.ts';
import { prometheusText, quantileOf } from '../telemetry/prometheus_text.ts';
import { Slices, sortInSlices } from '../telemetry/slices.ts';
import { type AdminAnswer, type AdminEndpoint, type AdminState, escapeText, text } from './state.ts';
import { compileRe2, type Re2 } from '../re2.ts';

const QUANTILES = [0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1];
const FORMATS = ['html', 'active-html', 'json', 'prometheus', 'text'];
const BUCKET_MODES = ['summary', 'cumulative', 'disjoint', 'detailed'] as const;
type BucketMode = (typeof BUCKET_MODES)[number];
const TYPES: Readonly<Record<string, SeriesView['type'] | 'none' | undefined>> = {
  Counters: 'counter',
  Gauges: 'gauge',
  Histograms: 'histogram',
  TextReadouts: 'none',
  All: undefined,
};
/** Longer filters are refused: compiling them is work that any caller could ask for. */
const MAX_FILTER_LENGTH = 1024;
const PIECE_CHARACTERS = 32_768;

interface Selection {
  readonly filter: Re2 | undefined;
  readonly invert: boolean;
  readonly usedOnly: boolean;
  readonly type: SeriesView['type'] | 'none' | undefined;
  readonly buckets: BucketMode | 'none';
}

export const statsEndpoints: readonly AdminEndpoint[] = [
  {
    path: '/stats',
    help: 'print server stats',
    parameters: {
      usedonly: 'Only include stats that have been written by system since restart',
      filter: 'Regular expression (Google re2) for filtering stats',
      invert_filter: 'Invert the filter regex',
      format: 'Format to use; One of (html, text, json, prometheus)',
      type: 'Stat types to include; One of (All, Counters, Histograms, Gauges, TextReadouts)',
      histogram_buckets: 'Histogram bucket display mode; One of (cumulative, disjoint, detailed, summary)',
    },
    mutates: false,
    async answer(state, query) {
      const format = query.get('format') ?? 'text';
      if (!FORMATS.includes(format))
        return text('usage: /stats?format=(html|active-html|json|prometheus|text)\n\n', 400);
      const selection = selectionOf(query);
      if (typeof selection === 'string') return text(selection, 400);
      await state.refreshStatistics();
      switch (format) {
        case 'prometheus':
          return prometheus(state, selection);
        case 'json':
          return { status: 200, type: 'application/json', body: jsonBody(state, selection) };
        case 'text':
          return { status: 200, type: 'text/plain; charset=UTF-8', body: textBody(state, selection) };
        default:
          return { status: 200, type: 'text/html; charset=UTF-8', body: htmlBody(state, selection) };
      }
    },
  },
  {
    path: '/stats/prometheus',
    help: 'print server stats in prometheus format',
    parameters: {
      usedonly: 'Only include stats that have been written by system since restart',
      text_readouts: 'Render text_readouts as new gaugues with value 0 (increases Prometheus data size)',
      filter: 'Regular expression (Google re2) for filtering stats',
      invert_filter: 'Invert the filter regex',
      histogram_buckets: 'Histogram bucket display mode; One of (cumulative, summary)',
    },
    mutates: false,
    async answer(state, query) {
      const selection = selectionOf(query);
      if (typeof selection === 'string') return text(selection, 400);
      await state.refreshStatistics();
      return prometheus(state, selection);
    },
  },
];

function prometheus(state: AdminState, selection: Selection): AdminAnswer {
  const form = selection.buckets === 'summary' ? 'summary' : 'cumulative';
  const body = prometheusText(select(state, selection), state.tags, form);
  return { status: 200, type: 'text/plain; version=0.0.4; charset=utf-8', body };
}

/** A complaint when the query is not understood. */
function selectionOf(query: URLSearchParams): Selection | string {
  const pattern = query.get('filter');
  let filter: Selection['filter'];
  if (pattern !== null && pattern !== '') {
    if (pattern.length > MAX_FILTER_LENGTH) return `Invalid re2 regex: longer than ${MAX_FILTER_LENGTH} characters\n`;
    try {
      filter = compileRe2(pattern);
    } catch (error) {
      return `Invalid re2 regex: ${(error as Error).message}\n`;
    }
  }
  const buckets = query.get('histogram_buckets') ?? undefined;
  if (buckets !== undefined && !BUCKET_MODES.includes(buckets as BucketMode)) {
    return 'usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary)\n';
  }
  const type = query.get('type') ?? 'All';
  if (!Object.hasOwn(TYPES, type)) return 'invalid &type= param';
  return {
    filter,
    invert: query.has('invert_filter'),
    usedOnly: query.has('usedonly'),
    type: TYPES[type],
    buckets: (buckets as BucketMode | undefined) ?? 'none',
  };
}

function* select(state: AdminState, { filter, invert, usedOnly, type }: Selection): Generator<SeriesView> {
  for (const value of state.aggregate.values()) {
    if (type !== undefined && value.type !== type) continue;
    if (filter !== undefined && filter.test(shown(value)) === invert) continue;
    // A gauge that stands at zero was used too (server.state: LIVE), as pilot-agent's readiness check expects.
    if (usedOnly && value.type !== 'gauge' && value.read().value === 0) continue;
    yield value;
  }
}

/** Statistics that are no numbers come before all others. */
function textReadouts(state: AdminState, { filter, invert, type }: Selection): (readonly [string, string])[] {
  if (type !== undefined && type !== 'none') return [];
  return [...state.texts()]
    .filter(([name]) => filter === undefined || filter.test(name) !== invert)
    .sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Name, and labels behind it as Envoy shows a custom metric's tags. */
function shown({ name, labels, labelNotes }: SeriesView): string {
  if (labels === undefined || labelNotes === undefined) return name;
  labelNotes.shown ??= Object.entries(labels)
    .map(([key, label]) => `.${key}.${label}`)
    .join('');
  return name + labelNotes.shown;
}

/** The order of `shown`, without making its text for each comparison. */
function compareShown(a: SeriesView, b: SeriesView): number {
  if (a.name !== b.name) return a.name < b.name ? -1 : 1;
  const [first, second] = [a.labelNotes?.shown ?? '', b.labelNotes?.shown ?? ''];
  return first < second ? -1 : first > second ? 1 : 0;
}

/** Counters and gauges by name, then histograms by name, as Envoy orders them. */
async function sorted(state: AdminState, selection: Selection, slices: Slices): Promise<SeriesView[]> {
  const all: SeriesView[] = [];
  let count = 0;
  for (const value of select(state, selection)) {
    all.push(value);
    shown(value);
    if ((++count & 15) === 0 && slices.over) await slices.next();
  }
  const rank = (value: SeriesView): number => (value.type === 'histogram' ? 1 : 0);
  return sortInSlices(all, (a, b) => rank(a) - rank(b) || compareShown(a, b), slices);
}

/** Pieces of text, one line or more an item. */
async function* pieces(
  state: AdminState,
  selection: Selection,
  line: (value: SeriesView, reading: Reading) => string,
): AsyncGenerator<string> {
  const slices = new Slices();
  let piece = '';
  let count = 0;
  for (const value of await sorted(state, selection, slices)) {
    piece += line(value, value.read());
    if (piece.length >= PIECE_CHARACTERS) {
      yield piece;
      piece = '';
    }
    if ((++count & 15) === 0 && slices.over) await slices.next();
  }
  if (piece !== '') yield piece;
}

async function* textBody(state: AdminState, selection: Selection): AsyncGenerator<string> {
  for (const [name, value] of textReadouts(state, selection)) yield `${name}: ${JSON.stringify(value)}\n`;
  yield* pieces(state, selection, (value, reading) => textLine(value, reading, selection.buckets));
}

function textLine(value: SeriesView, { value: number, histogram }: Reading, mode: BucketMode | 'none'): string {
  if (histogram === undefined) return `${shown(value)}: ${number}\n`;
  if (histogram.count === 0) return `${shown(value)}: No recorded values\n`;
  const recent = intervalOf(histogram);
  const summary = QUANTILES.map((quantile) => {
    const interval = recent === undefined ? 'nan' : short(quantileOf(recent, quantile));
    return `P${percent(quantile)}(${interval},${short(quantileOf(histogram, quantile))})`;
  }).join(' ');
  switch (mode) {
    case 'cumulative':
    case 'disjoint':
      return `${shown(value)}: ${displayed(histogram, mode)
        .map(({ bound, interval, count }) => `B${short(bound)}(${interval},${count})`)
        .join(' ')}\n`;
    case 'detailed':
      return `${shown(value)}:\n  totals=${detailed(histogram)}\n  intervals=${
        recent === undefined ? '' : detailed(recent)
      }\n  summary=${summary}\n`;
    default:
      return `${shown(value)}: ${summary}\n`;
  }
}

/** Envoy's order: percent, not a share. */
function percent(quantile: number): number {
  return Math.round(quantile * 10_000) / 100;
}

/** Six significant digits, as C++ prints. */
function short(value: number): string {
  if (value !== 0 && Math.abs(value) >= 1e6) {
    return value
      .toExponential(5)
      .replace(/\.?0+e/, 'e')
      .replace(/e\+(\d)$/, 'e+0$1');
  }
  return String(Number(value.toPrecision(6)));
}

/** The last interval as a histogram of its own; undefined: nothing was recorded in it. */
function intervalOf({ bounds, interval }: Histogram): Histogram | undefined {
  if (interval === undefined) return undefined;
  const buckets = [...interval.subarray(0, bounds.length + 1)];
  const [sum = 0, count = 0] = interval.subarray(bounds.length + 1);
  return { bounds, buckets, sum, count, interval: undefined };
}

interface DisplayedBucket {
  readonly bound: number;
  readonly interval: number;
  readonly count: number;
}

function displayed({ bounds, buckets, interval }: Histogram, mode: 'cumulative' | 'disjoint'): DisplayedBucket[] {
  let sum = 0;
  let recent = 0;
  return bounds.map((bound, i) => {
    const [here, now] = [buckets[i] as number, interval?.[i] ?? 0];
    sum += here;
    recent += now;
    return mode === 'cumulative' ? { bound, interval: recent, count: sum } : { bound, interval: now, count: here };
  });
}

function detailed(histogram: Histogram): string {
  return totals(histogram)
    .map(([low, width, count]) => `${short(low)},${short(width)}:${count}`)
    .join(', ');
}

/** Lower bound, width and count of each bucket that holds something. */
function totals({ bounds, buckets }: Histogram): [number, number, number][] {
  return buckets.flatMap((count, i): [number, number, number][] => {
    const low = i === 0 ? 0 : (bounds[i - 1] as number);
    return count === 0 ? [] : [[low, (bounds[i] ?? low) - low, count]];
  });
}

async function* jsonBody(state: AdminState, selection: Selection): AsyncGenerator<string> {
  let separator = '';
  let histograms = '';
  yield '{"stats":[';
  for (const [name, value] of textReadouts(state, selection)) {
    yield `${separator}${JSON.stringify({ name, value })}`;
    separator = ',';
  }
  const mode = selection.buckets;
  const items = pieces(state, selection, (value, { value: number, histogram }) => {
    if (histogram !== undefined) {
      const item = `${histograms === '' ? histogramsHead(mode, separator) : ','}${histogramJson(value, histogram, mode)}`;
      histograms = mode === 'cumulative' || mode === 'disjoint' ? ']}' : ']}}';
      return item;
    }
    const item = `${separator}${JSON.stringify({ name: shown(value), value: number })}`;
    separator = ',';
    return item;
  });
  yield* items;
  yield `${histograms}]}`;
}

function histogramsHead(mode: BucketMode | 'none', separator: string): string {
  const percents = JSON.stringify(QUANTILES.map(percent));
  switch (mode) {
    case 'cumulative':
    case 'disjoint':
      return `${separator}{"histograms":[`;
    case 'detailed':
      return `${separator}{"histograms":{"supported_percentiles":${percents},"details":[`;
    default:
      return `${separator}{"histograms":{"supported_quantiles":${percents},"computed_quantiles":[`;
  }
}

function histogramJson(value: SeriesView, histogram: Histogram, mode: BucketMode | 'none'): string {
  const name = shown(value);
  const recent = intervalOf(histogram);
  const quantiles = QUANTILES.map((quantile) => ({
    cumulative: histogram.count === 0 ? null : quantileOf(histogram, quantile),
    interval: recent === undefined ? null : quantileOf(recent, quantile),
  }));
  switch (mode) {
    case 'cumulative':
    case 'disjoint':
      return JSON.stringify({
        name,
        buckets: displayed(histogram, mode).map(({ bound, interval, count }) => ({
          upper_bound: bound,
          interval,
          cumulative: count,
        })),
      });
    case 'detailed':
      return JSON.stringify({
        name,
        totals: totals(histogram).map(bucketJson),
        intervals: recent === undefined ? [] : totals(recent).map(bucketJson),
        percentiles: quantiles,
      });
    default:
      return JSON.stringify({ name, values: quantiles });
  }
}

function bucketJson([low, width, count]: readonly [number, number, number]) {
  return { lower_bound: low, width, count };
}

async function* htmlBody(state: AdminState, selection: Selection): AsyncGenerator<string> {
  yield '<!doctype html><title>Statistics</title><style>body{font:13px monospace}</style><pre>';
  for await (const piece of textBody(state, selection)) yield escapeText(piece);
  yield '</pre>';
}

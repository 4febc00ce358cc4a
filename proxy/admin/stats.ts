/** /stats in text, JSON and Prometheus' format, made a slice at a time so that nothing waits for a large scrape. */
import type { SeriesValue } from '../telemetry/aggregate.ts';
import { prometheusText } from '../telemetry/prometheus_text.ts';
import { type AdminAnswer, type AdminEndpoint, type AdminState, json, text } from './state.ts';

const QUANTILES = [0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1];

export const statsEndpoints: readonly AdminEndpoint[] = [
  {
    path: '/stats',
    help: 'print server stats (?usedonly, ?filter=<regex>, ?format=text|json|prometheus)',
    mutates: false,
    answer(state, query) {
      const format = query.get('format') ?? 'text';
      const filter = filterOf(query);
      if (typeof filter === 'string') return text(filter, 400);
      const values = select(state, filter, query.has('usedonly'));
      switch (format) {
        case 'prometheus':
          return prometheus(values);
        case 'json':
          return json({
            stats: [...values].filter(({ type }) => type !== 'histogram').map(({ name, value }) => ({ name, value })),
          });
        case 'text':
          return text([...values].map(line).sort().join(''));
        default:
          return text(`usage: /stats?format=text|json|prometheus, got ${format.slice(0, 40)}\n`, 400);
      }
    },
  },
  {
    path: '/stats/prometheus',
    help: 'print server stats in prometheus format',
    mutates: false,
    answer(state, query) {
      const filter = filterOf(query);
      if (typeof filter === 'string') return text(filter, 400);
      return prometheus(select(state, filter, query.has('usedonly')));
    },
  },
];

function prometheus(values: Iterable<SeriesValue>): AdminAnswer {
  return { status: 200, type: 'text/plain; version=0.0.4; charset=utf-8', body: prometheusText(values) };
}

function filterOf(query: URLSearchParams): RegExp | undefined | string {
  const pattern = query.get('filter');
  if (pattern === null) return undefined;
  try {
    return new RegExp(pattern.slice(0, 256));
  } catch {
    return `Invalid regex: ${pattern.slice(0, 80)}\n`;
  }
}

function* select(state: AdminState, filter: RegExp | undefined, usedOnly: boolean): Generator<SeriesValue> {
  const { aggregate } = state;
  aggregate.own.gauge('server.uptime').set(Math.floor((Date.now() - state.startedMs) / 1000));
  const { heapUsed, rss } = process.memoryUsage();
  aggregate.own.gauge('server.memory_allocated').set(heapUsed);
  aggregate.own.gauge('server.memory_physical_size').set(rss);
  for (const value of aggregate.values()) {
    if (filter !== undefined && !filter.test(value.name)) continue;
    // A gauge that stands at zero was used too (server.state: LIVE), as pilot-agent's readiness check expects.
    if (usedOnly && value.value === 0 && value.type !== 'gauge') continue;
    yield value;
  }
}

function line({ name, labels, type, value, histogram }: SeriesValue): string {
  const shown =
    labels === undefined
      ? name
      : `${name}.${Object.entries(labels)
          .map(([key, label]) => `${key}.${label}`)
          .join('.')}`;
  if (type !== 'histogram' || histogram === undefined) return `${shown}: ${value}\n`;
  if (histogram.count === 0) return `${shown}: No recorded values\n`;
  const parts = QUANTILES.map((quantile) => `P${quantile * 100}(nan,${quantileOf(histogram, quantile)})`);
  return `${shown}: ${parts.join(' ')}\n`;
}

/** Upper bound of the bucket in which the quantile lies. */
function quantileOf({ buckets, bounds, count }: NonNullable<SeriesValue['histogram']>, quantile: number): number {
  let left = Math.max(1, Math.ceil(quantile * count));
  for (let i = 0; i < buckets.length; i++) {
    left -= buckets[i] as number;
    if (left <= 0) return bounds[i] ?? (bounds.at(-1) as number);
  }
  return bounds.at(-1) as number;
}

/**
 * Prometheus' text format, written a slice at a time.
 *
 * By hand rather than by prom-client's registry: that builds one string in one go, and a scrape of 50,000 series would
 * hold the control thread for longer than the 10 ms that traffic's configuration and health can bear.
 * Names and labels are Envoy's: `envoy_cluster_upstream_rq_total{envoy_cluster_name="…"}`.
 */
import type { SeriesValue } from './aggregate.ts';

/** Work between two turns of the event loop. */
const SLICE_MS = 5;

interface Named {
  readonly name: string;
  readonly labels: [string, string][];
}

/** Tags that Envoy takes out of names. Source: envoy source/common/config/well_known_names.cc. */
const TAGS: readonly { readonly pattern: RegExp; readonly tag: string }[] = [
  {
    pattern:
      /^cluster\.(.+?)\.(?=(?:upstream|membership|update|bind|lb|circuit|outlier|max_host|retry|version|assignment|original_dst|default|internal|external)_?)/,
    tag: 'envoy_cluster_name',
  },
  {
    pattern: /^http\.(.+?)\.(?=(?:downstream|rq|rs|no_|tracing|cors|rbac|fault|filter|passthrough))/,
    tag: 'envoy_http_conn_manager_prefix',
  },
  { pattern: /^listener\.(.+?)\.(?=(?:downstream|no_filter|ssl|http))/, tag: 'envoy_listener_address' },
];
const CODE_CLASS = /_rq_(\d)xx$/;
const CODE = /_rq_(\d{3})$/;

function named({ name, labels }: SeriesValue): Named {
  if (name.startsWith('istio_')) return { name: sanitize(name), labels: Object.entries(labels ?? {}) };
  const found: [string, string][] = Object.entries(labels ?? {});
  let rest = name;
  for (const { pattern, tag } of TAGS) {
    const match = pattern.exec(rest);
    if (match === null) continue;
    found.push([tag, match[1] as string]);
    rest = `${rest.slice(0, rest.indexOf('.'))}.${rest.slice(match[0].length)}`;
    break;
  }
  const codeClass = CODE_CLASS.exec(rest);
  const code = CODE.exec(rest);
  if (codeClass !== null) {
    found.push(['envoy_response_code_class', codeClass[1] as string]);
    rest = rest.replace(CODE_CLASS, '_rq_xx');
  } else if (code !== null) {
    found.push(['envoy_response_code', code[1] as string]);
    rest = rest.replace(CODE, '_rq');
  }
  return { name: `envoy_${sanitize(rest)}`, labels: found };
}

function sanitize(name: string): string {
  const clean = name.replace(/[^a-zA-Z0-9_:]/g, '_');
  return /^[0-9]/.test(clean) ? `_${clean}` : clean;
}

/** All series, grouped by metric, in pieces. */
export async function* prometheusText(values: Iterable<SeriesValue>): AsyncGenerator<string> {
  const groups = new Map<string, { type: string; lines: string[] }>();
  let sliceEndMs = performance.now() + SLICE_MS;
  for (const value of values) {
    const { name, labels } = named(value);
    const key =
      groups.get(name)?.type === undefined || groups.get(name)?.type === value.type ? name : `${name}_${value.type}`;
    let group = groups.get(key);
    if (group === undefined) {
      group = { type: value.type, lines: [] };
      groups.set(key, group);
    }
    addLines(group.lines, key, labels, value);
    if (performance.now() > sliceEndMs) {
      await new Promise((resolve) => setImmediate(resolve));
      sliceEndMs = performance.now() + SLICE_MS;
    }
  }
  for (const [name, { type, lines }] of groups) {
    yield `# TYPE ${name} ${type}\n${lines.join('')}`;
  }
}

function addLines(
  lines: string[],
  name: string,
  labels: readonly [string, string][],
  { value, histogram }: SeriesValue,
): void {
  if (histogram === undefined) {
    lines.push(`${name}${labelText(labels)} ${value}\n`);
    return;
  }
  let cumulative = 0;
  histogram.buckets.forEach((count, index) => {
    cumulative += count;
    const bound = histogram.bounds[index];
    lines.push(
      `${name}_bucket${labelText([...labels, ['le', bound === undefined ? '+Inf' : String(bound)]])} ${cumulative}\n`,
    );
  });
  lines.push(
    `${name}_sum${labelText(labels)} ${histogram.sum}\n`,
    `${name}_count${labelText(labels)} ${histogram.count}\n`,
  );
}

function labelText(labels: readonly (readonly [string, string])[]): string {
  if (labels.length === 0) return '';
  return `{${labels.map(([name, value]) => `${sanitize(name)}="${escapeLabel(value)}"`).join(',')}}`;
}

function escapeLabel(value: string): string {
  return /[\\"\n]/.test(value) ? value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n') : value;
}

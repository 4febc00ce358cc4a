/**
 * What istio.stats changes about its metrics: labels overridden by CEL or removed, metrics dropped, metrics added.
 * Source: istio/proxy stats.PluginConfig (metrics, definitions); Telemetry API, MetricsOverrides.
 */
import { ConfigError } from '../config_error.ts';
import type { FormatInput } from '../http/formatter.ts';
import type { NodeIdentity } from '../proxy_options.ts';
import type { Fields } from '../resource_fields.ts';
import { streamAttributes } from './cel/attributes.ts';
import { compileCel, type Evaluate, isTrue } from './cel/evaluator.ts';
import { celText } from './cel/values.ts';
import type { Peer } from './peer.ts';
import type { Counter, Gauge, Histogram, Labels, Statistics } from './statistics.ts';

/** One of stats.PluginConfig's metrics. */
export interface MetricOverride {
  /** Without `istio_`; '': all. */
  readonly name: string;
  /** Label to CEL. */
  readonly dimensions: readonly (readonly [string, string])[];
  readonly tagsToRemove: readonly string[];
  /** CEL; '': always. */
  readonly match: string;
  readonly drop: boolean;
}

export interface MetricDefinition {
  /** With `istio_`. */
  readonly name: string;
  /** CEL: what is added. */
  readonly value: string;
  readonly type: 'COUNTER' | 'GAUGE' | 'HISTOGRAM';
}

export interface IstioMetricsConfig {
  readonly overrides: readonly MetricOverride[];
  readonly definitions: readonly MetricDefinition[];
}

/** Beyond, a configuration is refused: each costs every request something. */
const MAX_EXPRESSIONS = 100;
const UNKNOWN = 'unknown';

/** `fields`: stats.PluginConfig. @throws {ConfigError} for CEL that does not compile. */
export function parseIstioMetrics(fields: Fields): IstioMetricsConfig {
  const overrides = fields.messages('metrics').map((metric) => ({
    name: (metric.string('name') ?? '').replace(/^istio_/, ''),
    dimensions: metric.entries('dimensions').map(([label, text]): readonly [string, string] => {
      if (typeof text !== 'string') return metric.fail('dimensions', `"${label}" is a CEL expression as text`);
      return [label, checked(text, metric.at(`dimensions.${label}`))];
    }),
    tagsToRemove: metric.strings('tags_to_remove'),
    match: metric.string('match') ?? '',
    drop: metric.boolean('drop') ?? false,
  }));
  for (const [index, { match }] of overrides.entries()) {
    if (match !== '') checked(match, `${fields.at('metrics')}[${index}].match`);
  }
  const definitions = fields.messages('definitions').map((definition) => ({
    name: `istio_${definition.requiredString('name').replace(/^istio_/, '')}`,
    value: checked(definition.requiredString('value'), definition.at('value')),
    type: definition.oneOf('type', ['COUNTER', 'GAUGE', 'HISTOGRAM'], 'COUNTER'),
  }));
  const expressions = definitions.length + overrides.reduce((sum, { dimensions }) => sum + dimensions.length + 1, 0);
  if (expressions > MAX_EXPRESSIONS) fields.fail('metrics', `at most ${MAX_EXPRESSIONS} expressions are accepted`);
  return { overrides, definitions };
}

function checked(text: string, path: string): string {
  try {
    compileCel(text, attributes(undefined));
  } catch (error) {
    if (error instanceof ConfigError) throw new ConfigError(path, error.message, { cause: error });
    throw error;
  }
  return text;
}

/** Envoy's attributes, and Istio's: who we are, and who is at the other ends. */
function attributes(node: NodeIdentity | undefined) {
  const peer = (value: Peer | undefined): unknown =>
    value === undefined
      ? undefined
      : {
          workload: value.workload,
          name: value.workload,
          namespace: value.namespace,
          app: value.app,
          version: value.version,
          service: value.canonicalService,
          revision: value.canonicalRevision,
          cluster: value.cluster,
        };
  return streamAttributes({
    node: () => ({ id: node?.id ?? '', cluster: node?.cluster ?? '', metadata: node?.metadata ?? {} }),
    downstream_peer: ({ info }) => peer(info.downstreamPeer),
    upstream_peer: ({ info }) => peer(info.upstreamPeer),
    cluster_name: ({ info }) => info.upstreamCluster,
    route_name: ({ info }) => info.routeName,
  });
}

interface CompiledOverride extends MetricOverride {
  readonly values: readonly (readonly [string, Evaluate<FormatInput>])[];
  readonly applies: Evaluate<FormatInput> | undefined;
}

/** What the expressions gave for one stream, override by override; undefined: its `match` did not hold. */
export type Evaluated = readonly (readonly string[] | undefined)[];

export interface CustomMetric {
  add(value: number): void;
}

/** One thread's, of one configuration. */
export class IstioMetrics {
  /** Nothing is overridden by an expression: labels depend on what they always depend on. */
  readonly isPlain: boolean;
  readonly definitions: readonly { readonly definition: MetricDefinition; readonly value: Evaluate<FormatInput> }[];
  readonly #overrides: readonly CompiledOverride[];

  constructor({ overrides, definitions }: IstioMetricsConfig, node: NodeIdentity) {
    const source = attributes(node);
    this.#overrides = overrides.map((override) => ({
      ...override,
      values: override.dimensions.map(([label, text]) => [label, compileCel(text, source)] as const),
      applies: override.match === '' ? undefined : compileCel(override.match, source),
    }));
    this.definitions = definitions.map((definition) => ({ definition, value: compileCel(definition.value, source) }));
    this.isPlain = this.#overrides.every(({ values, applies }) => values.length === 0 && applies === undefined);
  }

  evaluate(input: FormatInput): Evaluated {
    return this.#overrides.map(({ values, applies }) =>
      applies !== undefined && !isTrue(applies(input))
        ? undefined
        : values.map(([, value]) => celText(value(input)) ?? UNKNOWN),
    );
  }

  /** A metric's labels; undefined: the metric is dropped. `name` without `istio_`. */
  labels(name: string, base: Labels, evaluated: Evaluated): Labels | undefined {
    let labels: Record<string, string> | undefined;
    for (const [index, { name: wanted, drop, tagsToRemove, values }] of this.#overrides.entries()) {
      const found = evaluated[index];
      if (found === undefined || (wanted !== '' && wanted !== name)) continue;
      if (drop) return undefined;
      labels ??= { ...base };
      for (const [i, [label]] of values.entries()) labels[label] = found[i] ?? UNKNOWN;
      for (const tag of tagsToRemove) delete labels[tag];
    }
    return labels ?? base;
  }

  /** A series of a defined metric; undefined: it is dropped. */
  custom(
    statistics: Statistics,
    definition: MetricDefinition,
    base: Labels,
    evaluated: Evaluated,
  ): CustomMetric | undefined {
    const labels = this.labels(definition.name.slice('istio_'.length), base, evaluated);
    if (labels === undefined) return undefined;
    switch (definition.type) {
      case 'COUNTER':
        return adding(statistics.counter(definition.name, labels));
      case 'GAUGE':
        return setting(statistics.gauge(definition.name, labels));
      case 'HISTOGRAM':
        return recording(statistics.histogram(definition.name, labels));
      default:
        return definition.type satisfies never;
    }
  }
}

const adding = (counter: Counter): CustomMetric => ({ add: (value) => counter.add(Math.max(0, value)) });
const setting = (gauge: Gauge): CustomMetric => ({ add: (value) => gauge.set(value) });
const recording = (histogram: Histogram): CustomMetric => ({ add: (value) => histogram.record(value) });

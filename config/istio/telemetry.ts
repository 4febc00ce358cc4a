/** Telemetry (telemetry.istio.io): metrics, access logs and traces of a mesh, a namespace or a workload, as YAML has it. */
import type { KubeObject } from '../kube_object.ts';
import { selects } from './model.ts';
import {
  type At,
  anything,
  boolean,
  duration,
  fail,
  list,
  looseText,
  mapOf,
  message,
  number,
  oneOf,
  openMessage,
  type Read,
  text,
  within,
} from './shape.ts';

const PROVIDERS = list(message({ name: text }));
const MODE = oneOf('CLIENT_AND_SERVER', 'CLIENT', 'SERVER');

/** Istio's metric by its name in the API. */
export const METRICS = {
  REQUEST_COUNT: 'requests_total',
  REQUEST_DURATION: 'request_duration_milliseconds',
  REQUEST_SIZE: 'request_bytes',
  RESPONSE_SIZE: 'response_bytes',
  TCP_OPENED_CONNECTIONS: 'tcp_connections_opened_total',
  TCP_CLOSED_CONNECTIONS: 'tcp_connections_closed_total',
  TCP_SENT_BYTES: 'tcp_sent_bytes_total',
  TCP_RECEIVED_BYTES: 'tcp_received_bytes_total',
  GRPC_REQUEST_MESSAGES: 'request_messages_total',
  GRPC_RESPONSE_MESSAGES: 'response_messages_total',
} as const;

const METRIC_NAMES = Object.keys(METRICS) as (keyof typeof METRICS)[];

const OVERRIDE = message({
  match: message({ metric: oneOf('ALL_METRICS', ...METRIC_NAMES), customMetric: text, mode: MODE }),
  disabled: boolean,
  tagOverrides: mapOf(message({ operation: oneOf('UPSERT', 'REMOVE'), value: text })),
});

const CUSTOM_TAG = message({
  literal: message({ value: looseText }),
  environment: message({ name: text, defaultValue: looseText }),
  header: message({ name: text, defaultValue: looseText }),
  formatter: message({ value: text }),
});

const TELEMETRY = openMessage({
  spec: message({
    selector: message({ matchLabels: mapOf(looseText) }),
    targetRef: anything,
    targetRefs: anything,
    tracing: list(
      message({
        match: message({ mode: MODE }),
        providers: PROVIDERS,
        randomSamplingPercentage: number(0, 100),
        disableSpanReporting: boolean,
        customTags: mapOf(CUSTOM_TAG),
        useRequestIdForTraceSampling: boolean,
        enableIstioTags: boolean,
        disableContextPropagation: boolean,
      }),
    ),
    metrics: list(message({ providers: PROVIDERS, overrides: list(OVERRIDE), reportingInterval: duration })),
    accessLogging: list(
      message({
        match: message({ mode: MODE }),
        providers: PROVIDERS,
        disabled: boolean,
        filter: message({ expression: text }),
      }),
    ),
  }),
  status: anything,
});

type Spec = NonNullable<Read<typeof TELEMETRY>['spec']>;
export type MetricsSpec = NonNullable<Spec['metrics']>[number];
export type MetricsOverride = Read<typeof OVERRIDE>;
export type TracingSpec = NonNullable<Spec['tracing']>[number];
export type CustomTag = Read<typeof CUSTOM_TAG>;
export type AccessLoggingSpec = NonNullable<Spec['accessLogging']>[number];

export interface Telemetry {
  readonly namespace: string;
  /** undefined: the whole namespace, or the whole mesh in the root namespace. */
  readonly selector: ReadonlyMap<string, string> | undefined;
  /** For gateways and waypoints only. */
  readonly targeted: boolean;
  readonly tracing: readonly TracingSpec[];
  readonly metrics: readonly MetricsSpec[];
  readonly accessLogging: readonly AccessLoggingSpec[];
  readonly object: KubeObject;
}

/** @throws {ConfigError} */
export function parseTelemetry(object: KubeObject, at: At): Telemetry {
  const { spec } = TELEMETRY(object.json, at);
  const targeted = spec?.targetRef !== undefined || spec?.targetRefs !== undefined;
  const labels = spec?.selector?.matchLabels;
  if (targeted && labels !== undefined && spec !== undefined)
    fail(within(spec.at, 'selector'), 'only one of targetRefs and selector can be set');
  for (const part of [...(spec?.metrics ?? []), ...(spec?.tracing ?? []), ...(spec?.accessLogging ?? [])]) {
    for (const provider of part.providers ?? []) {
      if ((provider.name ?? '') === '') fail(within(provider.at, 'name'), 'the name of a provider is required');
    }
  }
  for (const tracing of spec?.tracing ?? []) {
    if ((tracing.providers ?? []).length > 1)
      fail(within(tracing.at, 'providers', 1), 'only one provider of traces can be used');
    for (const tag of tracing.customTags?.values() ?? []) checkTag(tag);
  }
  for (const metrics of spec?.metrics ?? []) for (const override of metrics.overrides ?? []) checkOverride(override);
  return {
    namespace: object.namespace,
    selector: labels === undefined || labels.size === 0 ? undefined : labels,
    targeted,
    tracing: spec?.tracing ?? [],
    metrics: spec?.metrics ?? [],
    accessLogging: spec?.accessLogging ?? [],
    object,
  };
}

function checkOverride({ match, tagOverrides }: MetricsOverride): void {
  if (match?.customMetric !== undefined) {
    if (match.customMetric === '') fail(within(match.at, 'customMetric'), 'the name of a metric is required');
    if (match.metric !== undefined) fail(match.at, 'only one of metric and customMetric can be set');
  }
  for (const tag of tagOverrides?.values() ?? []) {
    const remove = tag.operation === 'REMOVE';
    if (!remove && (tag.value ?? '') === '') fail(tag.at, 'value must be set when the operation is UPSERT');
    if (remove && tag.value !== undefined)
      fail(within(tag.at, 'value'), 'value must not be set when the operation is REMOVE');
  }
}

function checkTag(tag: CustomTag): void {
  const given = [tag.literal, tag.environment, tag.header, tag.formatter].filter((item) => item !== undefined);
  if (given.length !== 1) fail(tag.at, 'one of literal, environment, header and formatter is wanted');
  const name = tag.environment ?? tag.header;
  if (name !== undefined && (name.name ?? '') === '') fail(within(name.at, 'name'), 'a name is required');
  if (tag.literal !== undefined && (tag.literal.value ?? '') === '')
    fail(within(tag.literal.at, 'value'), 'a value is required');
}

/** What applies to a workload, widest first: one of the root namespace, one of its own, one selected by its labels. */
export function telemetriesFor(
  all: readonly Telemetry[],
  namespace: string,
  labels: Readonly<Record<string, string>>,
  rootNamespace: string,
): Telemetry[] {
  const own = all.filter((item) => !item.targeted);
  const root = own.find((item) => item.namespace === rootNamespace && item.selector === undefined);
  const ofNamespace =
    namespace === rootNamespace
      ? undefined
      : own.find((item) => item.namespace === namespace && item.selector === undefined);
  const selected = own.find(
    (item) => item.namespace === namespace && item.selector !== undefined && selects(item.selector, labels),
  );
  return [root, ofNamespace, selected].filter((item) => item !== undefined);
}

/** Whether a `match.mode` includes one side. */
export function includesSide(mode: 'CLIENT_AND_SERVER' | 'CLIENT' | 'SERVER' | undefined, side: Side): boolean {
  return mode === undefined || mode === 'CLIENT_AND_SERVER' || mode === (side === 'outbound' ? 'CLIENT' : 'SERVER');
}

export type Side = 'inbound' | 'outbound';

/** The telemetry of one workload: Telemetry objects over the mesh's defaults (istio/istio: pilot/pkg/model/telemetry.go). */
import type { Json } from '../resources.ts';
import { fileAccessLog } from './access_log.ts';
import { any, extension, seconds } from './envoy_json.ts';
import type { ExtensionProvider, MeshConfig } from './mesh.ts';
import {
  includesSide,
  METRICS,
  type MetricsOverride,
  type Side,
  type Telemetry,
  type TracingSpec,
} from './telemetry.ts';
import { samplesByRequestId, tracing } from './tracing.ts';

export interface TelemetryContext {
  readonly mesh: MeshConfig;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  /** Full host of a provider's service: `otel.shop.internal` or `namespace/name`. */
  clusterOf(service: string, port: number): { readonly cluster: string; readonly host: string };
  warn(sentence: string): void;
}

/** http: a connection manager. tcp: tcp_proxy. listener: connections that no filter chain takes. */
export type LogScope = 'http' | 'tcp' | 'listener';

export class TelemetryPolicy {
  readonly #levels: readonly Telemetry[];
  readonly #context: TelemetryContext;

  /** @param levels widest first */
  constructor(levels: readonly Telemetry[], context: TelemetryContext) {
    this.#levels = levels;
    this.#context = context;
  }

  /** @param forced an encoding to standard output whatever the mesh says; undefined: as the mesh and Telemetry say */
  accessLogs(side: Side, scope: LogScope, forced: 'TEXT' | 'JSON' | undefined): Json[] {
    const { mesh } = this.#context;
    const specs = this.#levels
      .flatMap((level) => level.accessLogging)
      .filter(({ match }) => includesSide(match?.mode, side));
    if (forced !== undefined)
      return [fileAccessLog(mesh, '/dev/stdout', forced)].map((log) => inScope(log, scope, undefined));
    if (specs.length === 0 && mesh.defaultLogProviders.length === 0) {
      if (mesh.accessLogFile === '') return [];
      return [inScope(fileAccessLog(mesh, mesh.accessLogFile, mesh.accessLogEncoding), scope, undefined)];
    }
    let names: readonly string[] = mesh.defaultLogProviders;
    const wanted = new Map<string, { readonly disabled: boolean; readonly expression: string | undefined }>(
      names.map((name) => [name, { disabled: false, expression: undefined }]),
    );
    for (const { providers, disabled, filter } of specs) {
      if (providers !== undefined && providers.length > 0) {
        names = providers.map(({ name }) => name ?? '');
        // A narrower scope replaces the wider one's providers.
        for (const name of [...wanted.keys()]) if (!names.includes(name)) wanted.delete(name);
      }
      for (const name of names.length > 0 ? names : ['envoy']) {
        wanted.set(name, {
          disabled: disabled ?? false,
          expression: filter?.expression ?? wanted.get(name)?.expression,
        });
      }
    }
    return [...wanted].flatMap(([name, { disabled, expression }]) => {
      const log = disabled ? undefined : this.#accessLog(name);
      return log === undefined ? [] : [inScope(log, scope, expression)];
    });
  }

  #accessLog(name: string): Json | undefined {
    const { mesh, warn } = this.#context;
    const provider = mesh.extensionProviders.find((item) => item.name === name);
    if (provider === undefined && name === 'envoy') return fileAccessLog(mesh, '/dev/stdout', mesh.accessLogEncoding);
    const file = provider?.envoyFileAccessLog;
    if (file !== undefined) {
      const { text, labels } = file.logFormat ?? {};
      if (text !== undefined) return fileAccessLog({ ...mesh, accessLogFormat: text }, file.path ?? '', 'TEXT');
      if (labels !== undefined)
        return fileAccessLog({ ...mesh, accessLogFormat: JSON.stringify(labels) }, file.path ?? '', 'JSON');
      return fileAccessLog(mesh, file.path ?? '', mesh.accessLogEncoding);
    }
    const otel = provider?.envoyOtelAls;
    if (otel !== undefined) return this.#otelAccessLog(otel);
    warn(
      provider === undefined
        ? `Telemetry names the access-log provider "${name}", which extensionProviders does not have; nothing is logged to it.`
        : `the access-log provider "${name}" is of a kind that Pillion does not execute; nothing is logged to it.`,
    );
    return undefined;
  }

  #otelAccessLog({ service = '', port = 0, logName, logFormat }: NonNullable<ExtensionProvider['envoyOtelAls']>): Json {
    const { cluster, host } = this.#context.clusterOf(service, port);
    const attributes = Object.entries(logFormat?.labels ?? {}).map(([key, value]) => ({
      key,
      value: { string_value: String(value) },
    }));
    return extension(
      'envoy.access_loggers.open_telemetry',
      'envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig',
      {
        common_config: {
          log_name: logName ?? 'otel_envoy_accesslog',
          grpc_service: { envoy_grpc: { cluster_name: cluster, authority: host } },
          transport_api_version: 'V3',
        },
        ...(logFormat?.text !== undefined && { body: { string_value: logFormat.text } }),
        ...(attributes.length > 0 && { attributes: { values: attributes } }),
        disable_builtin_labels: true,
      },
    );
  }

  /** istio.stats for a connection manager or a network filter chain; undefined: no metrics. */
  stats(side: Side): Json | undefined {
    const { mesh } = this.#context;
    const specs = this.#levels.flatMap((level) => level.metrics);
    let on = mesh.prometheusMetrics;
    for (const { providers } of specs) {
      if (providers === undefined || providers.length === 0) continue;
      on = providers.some(({ name }) => this.#isPrometheus(name ?? ''));
    }
    if (!on) return undefined;
    const interval = specs.findLast((spec) => spec.reportingInterval !== undefined)?.reportingInterval;
    const metrics = metricConfigs(
      specs.flatMap((spec) => spec.overrides ?? []),
      side,
    );
    return extension('istio.stats', 'stats.PluginConfig', {
      // A server names the destination from its own service, never from the client's Host.
      ...(side === 'inbound' && { disable_host_header_fallback: true }),
      ...(interval !== undefined && { tcp_reporting_duration: seconds(interval) }),
      ...(metrics.length > 0 && { metrics }),
    });
  }

  #isPrometheus(name: string): boolean {
    const provider = this.#context.mesh.extensionProviders.find((item) => item.name === name);
    return provider === undefined ? name === 'prometheus' : provider.prometheus !== undefined;
  }

  /** HttpConnectionManager.tracing; undefined: off. */
  tracing(side: Side): Json | undefined {
    return tracing(this.#tracingSpecs(side), this.#context);
  }

  /** Whether a request's id says if it is traced. */
  samplesByRequestId(side: Side): boolean {
    return samplesByRequestId(this.#tracingSpecs(side));
  }

  #tracingSpecs(side: Side): TracingSpec[] {
    return this.#levels.flatMap((level) => level.tracing).filter(({ match }) => includesSide(match?.mode, side));
  }
}

/** One entry a metric, by the metric's name in the API; what is said later holds. */
function metricConfigs(overrides: readonly MetricsOverride[], side: Side): Json[] {
  const byMetric = new Map<string, { drop: boolean | undefined; readonly tags: Map<string, string | undefined> }>();
  for (const { match, disabled, tagOverrides } of overrides) {
    if (!includesSide(match?.mode, side)) continue;
    const metric = match?.customMetric ?? match?.metric ?? 'ALL_METRICS';
    for (const name of metric === 'ALL_METRICS' ? Object.keys(METRICS) : [metric]) {
      let entry = byMetric.get(name);
      if (entry === undefined) {
        entry = { drop: undefined, tags: new Map() };
        byMetric.set(name, entry);
      }
      if (disabled !== undefined) entry.drop = disabled;
      for (const [tag, { operation, value }] of tagOverrides ?? []) {
        entry.tags.set(tag, operation === 'REMOVE' ? undefined : value);
      }
    }
  }
  return [...byMetric]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([name, { drop, tags }]): Json[] => {
      const sorted = [...tags].sort(([a], [b]) => (a < b ? -1 : 1));
      const removed = sorted.filter(([, value]) => value === undefined).map(([tag]) => tag);
      const dimensions = Object.fromEntries(sorted.filter(([, value]) => value !== undefined));
      if (drop !== true && sorted.length === 0) return [];
      const known = (METRICS as Readonly<Record<string, string>>)[name] ?? name;
      if (drop === true) return [{ name: known, drop: true }];
      return [
        {
          ...(Object.keys(dimensions).length > 0 && { dimensions }),
          name: known,
          ...(removed.length > 0 && { tags_to_remove: removed }),
        },
      ];
    });
}

/** Connections without a filter chain are logged with flag NR only. */
function inScope(log: Json, scope: LogScope, expression: string | undefined): Json {
  const cel =
    expression === undefined
      ? []
      : [
          {
            extension_filter: {
              name: 'envoy.access_loggers.extension_filters.cel',
              typed_config: any('envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter', { expression }),
            },
          },
        ];
  const filters = [...(scope === 'listener' ? [{ response_flag_filter: { flags: ['NR'] } }] : []), ...cel];
  if (filters.length === 0) return log;
  const { name, ...rest } = log;
  return { name, filter: filters.length === 1 ? filters[0] : { and_filter: { filters } }, ...rest };
}

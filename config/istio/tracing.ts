/** HttpConnectionManager.tracing as istiod configures it (istio/istio: pilot/pkg/networking/core/tracing.go). */
import type { Json } from '../resources.ts';
import { extension, seconds } from './envoy_json.ts';
import type { ExtensionProvider } from './mesh.ts';
import type { CustomTag, TracingSpec } from './telemetry.ts';
import type { TelemetryContext } from './telemetry_policy.ts';

const DEFAULT_TIMEOUT_MS = 10_000;

/** @param specs of Telemetry objects, widest first; undefined: tracing is off */
export function tracing(specs: readonly TracingSpec[], context: TelemetryContext): Json | undefined {
  const { mesh } = context;
  if (specs.length === 0 && !mesh.enableTracing) return undefined;
  let provider = mesh.defaultTracingProviders[0];
  let sampling: number | undefined;
  let disabled = false;
  let istioTags = true;
  let tags: ReadonlyMap<string, CustomTag> = new Map();
  for (const spec of specs) {
    provider = spec.providers?.[0]?.name ?? provider;
    sampling = spec.randomSamplingPercentage ?? sampling;
    disabled = spec.disableSpanReporting ?? disabled;
    istioTags = spec.enableIstioTags ?? istioTags;
    // The narrower scope's tags replace the wider one's.
    tags = spec.customTags ?? tags;
  }
  if (disabled) return undefined;
  const tracer = provider === undefined ? undefined : tracerOf(provider, context);
  const all = [
    ...(istioTags ? istioTagsOf(context) : []),
    ...[...tags].map(([tag, value]) => ({ tag, ...tagValue(value) })),
  ].sort((a, b) => (a.tag < b.tag ? -1 : 1));
  return {
    client_sampling: { value: 100 },
    random_sampling: { value: sampling ?? mesh.tracingSampling },
    overall_sampling: { value: 100 },
    ...(all.length > 0 && { custom_tags: all }),
    ...(tracer !== undefined && { provider: tracer }),
  };
}

/** Whether the decision stands in x-request-id; `specs` as above. */
export function samplesByRequestId(specs: readonly TracingSpec[]): boolean {
  return (
    specs.findLast((spec) => spec.useRequestIdForTraceSampling !== undefined)?.useRequestIdForTraceSampling ?? true
  );
}

function tracerOf(name: string, context: TelemetryContext): Json | undefined {
  const provider = context.mesh.extensionProviders.find((item) => item.name === name);
  if (provider?.opentelemetry !== undefined) return openTelemetry(provider.opentelemetry, context);
  if (provider?.zipkin !== undefined) return zipkin(provider.zipkin, context);
  context.warn(
    provider === undefined
      ? `Telemetry names the tracing provider "${name}", which extensionProviders does not have; no span is reported.`
      : `the tracing provider "${name}" is of a kind that Pillion does not execute; no span is reported.`,
  );
  return undefined;
}

function openTelemetry(
  { service = '', port = 0, http }: NonNullable<ExtensionProvider['opentelemetry']>,
  context: TelemetryContext,
): Json {
  const { cluster, host } = context.clusterOf(service, port);
  return extension('envoy.tracers.opentelemetry', 'envoy.config.trace.v3.OpenTelemetryConfig', {
    ...(http === undefined
      ? { grpc_service: { envoy_grpc: { cluster_name: cluster, authority: host } } }
      : {
          http_service: {
            http_uri: {
              uri: `http://${host}:${port}${http.path ?? '/v1/traces'}`,
              cluster,
              timeout: seconds(http.timeout ?? DEFAULT_TIMEOUT_MS),
            },
            ...((http.headers ?? []).length > 0 && {
              request_headers_to_add: http.headers?.map(({ name, value }) => ({
                header: { key: name ?? '', value: value ?? '' },
                append_action: 'OVERWRITE_IF_EXISTS_OR_ADD',
              })),
            }),
          },
        }),
  });
}

function zipkin(
  { service = '', port = 0, path, enable64bitTraceId }: NonNullable<ExtensionProvider['zipkin']>,
  context: TelemetryContext,
): Json {
  const { cluster, host } = context.clusterOf(service, port);
  return extension('envoy.tracers.zipkin', 'envoy.config.trace.v3.ZipkinConfig', {
    collector_cluster: cluster,
    collector_endpoint: path ?? '/api/v2/spans',
    collector_endpoint_version: 'HTTP_JSON',
    collector_hostname: host,
    trace_id_128bit: enable64bitTraceId !== true,
    shared_span_context: false,
  });
}

function tagValue(tag: CustomTag): Json {
  if (tag.literal !== undefined) return { literal: { value: tag.literal.value ?? '' } };
  if (tag.formatter !== undefined) return { value: tag.formatter.value ?? '' };
  const named = tag.header ?? tag.environment;
  const value = {
    name: named?.name ?? '',
    ...((named?.defaultValue ?? '') !== '' && { default_value: named?.defaultValue }),
  };
  return tag.header !== undefined ? { request_header: value } : { environment: value };
}

const DRY_RUN_TAGS = (['allow', 'deny'] as const).flatMap((action) => [
  [`istio.authorization.dry_run.${action}_policy.name`, `istio_dry_run_${action}_shadow_effective_policy_id`] as const,
  [`istio.authorization.dry_run.${action}_policy.result`, `istio_dry_run_${action}_shadow_engine_result`] as const,
]);

function istioTagsOf({ namespace, labels }: TelemetryContext): (Json & { readonly tag: string })[] {
  const literal = (tag: string, value: string) => ({ tag, literal: { value } });
  return [
    ...DRY_RUN_TAGS.map(([tag, key]) => ({
      tag,
      metadata: {
        kind: { request: {} },
        metadata_key: { key: 'envoy.filters.http.rbac', path: [{ key }] },
      },
    })),
    literal('istio.canonical_revision', labels['service.istio.io/canonical-revision'] ?? 'latest'),
    literal('istio.canonical_service', labels['service.istio.io/canonical-name'] ?? 'unknown'),
    literal('istio.cluster_id', 'Kubernetes'),
    literal('istio.mesh_id', 'unknown'),
    literal('istio.namespace', namespace),
  ];
}

/** MeshConfig.extensionProviders that receive telemetry (istio/api: mesh/v1alpha1/config.proto). */
import { anything, boolean, duration, integer, list, mapOf, openMessage, port, text, uint32 } from './shape.ts';

const SERVICE = { service: text, port } as const;
const LOG_FORMAT = openMessage({ text, labels: anything });

/** By kind, as fields of a provider. Kinds that are `anything` are known by name and not executed. */
export const TELEMETRY_PROVIDERS = {
  prometheus: anything,
  envoyFileAccessLog: openMessage({ path: text, logFormat: LOG_FORMAT, omitEmptyValues: boolean }),
  envoyOtelAls: openMessage({
    ...SERVICE,
    logName: text,
    logFormat: openMessage({ text, labels: mapOf(text) }),
  }),
  envoyHttpAls: anything,
  envoyTcpAls: anything,
  opentelemetry: openMessage({
    ...SERVICE,
    maxTagLength: uint32,
    http: openMessage({ path: text, timeout: duration, headers: list(openMessage({ name: text, value: text })) }),
  }),
  zipkin: openMessage({ ...SERVICE, maxTagLength: integer(0, 2 ** 31), enable64bitTraceId: boolean, path: text }),
  lightstep: anything,
  datadog: anything,
  stackdriver: anything,
  skywalking: anything,
  opencensus: anything,
} as const;

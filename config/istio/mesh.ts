/** MeshConfig: what holds for the whole mesh, with Istio's defaults (istio/api: mesh/v1alpha1/config.proto). */
import { ConfigError } from '../../proxy/config_error.ts';
import { show } from '../../proxy/resource_fields.ts';
import type { KubeObject } from '../kube_object.ts';
import { type AuthorizerSettings, EXT_AUTHZ_GRPC, EXT_AUTHZ_HTTP } from './extension_providers.ts';
import { LOCALITY_SETTING, type LocalitySetting } from './locality_setting.ts';
import { meshWarnings } from './mesh_fields.ts';
import { MESH_TLS, type MeshTls } from './mesh_tls.ts';
import { TELEMETRY_PROVIDERS } from './telemetry_providers.ts';
import { HTTP_RETRY, type HttpRetry } from './http_retry.ts';
import {
  type At,
  boolean,
  duration,
  int32,
  list,
  number,
  openMessage,
  oneOf,
  port,
  type Read,
  text,
  uint32,
} from './shape.ts';

export interface MeshConfig {
  /** Default 10 s. */
  readonly connectTimeoutMs: number;
  /** Default cluster.local. */
  readonly trustDomain: string;
  /** Other names of the same trust domain. */
  readonly trustDomainAliases: readonly string[];
  /** Default istio-system. */
  readonly rootNamespace: string;
  readonly autoMtls: boolean;
  readonly outboundPolicy: 'ALLOW_ANY' | 'REGISTRY_ONLY';
  /** Used only after a lookup that failed. Default 60 s. */
  readonly dnsRefreshMs: number;
  readonly defaultServiceExportTo: readonly string[];
  readonly defaultVirtualServiceExportTo: readonly string[];
  readonly defaultDestinationRuleExportTo: readonly string[];
  /** '' is off. */
  readonly accessLogFile: string;
  readonly accessLogEncoding: 'TEXT' | 'JSON';
  /** '' is Istio's own format. */
  readonly accessLogFormat: string;
  readonly pathNormalization: 'NONE' | 'BASE' | 'MERGE_SLASHES' | 'DECODE_AND_MERGE_SLASHES';
  readonly h2Upgrade: boolean;
  readonly defaultHttpRetry: HttpRetry | undefined;
  readonly tcpKeepalive: Keepalive | undefined;
  /** Whether istio.stats feeds Prometheus, which is the default of an installed mesh. */
  readonly prometheusMetrics: boolean;
  /** Port of mesh-wide `proxyHttpPort`; 0: none. */
  readonly proxyHttpPort: number;
  /** How long a server that speaks first is kept waiting for its client; default 0: for ever. */
  readonly protocolDetectionTimeoutMs: number;
  /** Inbound connections go on to 127.0.0.1 instead of the address that was dialled. */
  readonly inboundToLocalhost: boolean;
  /** Of mutual TLS between workloads, on the server's side. */
  readonly meshTls: MeshTls | undefined;
  /** Of all other TLS towards services. */
  readonly tlsDefaults: MeshTls | undefined;
  /** undefined: Istio's; empty: none. */
  readonly defaultInboundHttpRetry: HttpRetry | undefined;
  /** Of virtualOutbound and virtualInbound. */
  readonly outboundPort: number;
  readonly inboundPort: number;
  /** Of workloads that say nothing themselves. */
  readonly interceptionMode: 'REDIRECT' | 'TPROXY' | 'NONE';
  /** Sentences about fields without effect. */
  readonly warnings: readonly string[];
  /** undefined: on, with Istio's order. */
  readonly localityLbSetting: LocalitySetting | undefined;
  /** Whom AuthorizationPolicies of action CUSTOM may ask. */
  readonly authorizers: readonly AuthorizerSettings[];
  readonly extensionProviders: readonly ExtensionProvider[];
  /** Where access logs go when Telemetry names nobody. */
  readonly defaultLogProviders: readonly string[];
  readonly defaultTracingProviders: readonly string[];
  /** Default true: requests are traced where somebody is there to report to. */
  readonly enableTracing: boolean;
  /** Per cent of new traces. Default 1. */
  readonly tracingSampling: number;
}

export const KEEPALIVE = openMessage({ probes: uint32, time: duration, interval: duration });
export type Keepalive = Read<typeof KEEPALIVE>;

const PROVIDER = openMessage({
  name: text,
  ...TELEMETRY_PROVIDERS,
  envoyExtAuthzHttp: EXT_AUTHZ_HTTP,
  envoyExtAuthzGrpc: EXT_AUTHZ_GRPC,
});

export type ExtensionProvider = Read<typeof PROVIDER>;

const MESH_SHAPE = {
  connectTimeout: duration,
  trustDomain: text,
  trustDomainAliases: list(text),
  rootNamespace: text,
  enableAutoMtls: boolean,
  outboundTrafficPolicy: openMessage({ mode: oneOf('ALLOW_ANY', 'REGISTRY_ONLY', 'ALLOW_ANY_DYNAMIC_DNS') }),
  dnsRefreshRate: duration,
  defaultServiceExportTo: list(text),
  defaultVirtualServiceExportTo: list(text),
  defaultDestinationRuleExportTo: list(text),
  accessLogFile: text,
  accessLogEncoding: oneOf('TEXT', 'JSON'),
  accessLogFormat: text,
  pathNormalization: openMessage({
    normalization: oneOf('DEFAULT', 'NONE', 'BASE', 'MERGE_SLASHES', 'DECODE_AND_MERGE_SLASHES'),
  }),
  h2UpgradePolicy: oneOf('DO_NOT_UPGRADE', 'UPGRADE'),
  defaultHttpRetryPolicy: HTTP_RETRY,
  tcpKeepalive: KEEPALIVE,
  defaultProviders: openMessage({ metrics: list(text), tracing: list(text), accessLogging: list(text) }),
  enableTracing: boolean,
  defaultConfig: openMessage({
    tracing: openMessage({ sampling: number(0, 100) }),
    interceptionMode: oneOf('REDIRECT', 'TPROXY', 'NONE'),
  }),
  extensionProviders: list(PROVIDER),
  proxyHttpPort: int32,
  localityLbSetting: LOCALITY_SETTING,
  protocolDetectionTimeout: duration,
  inboundTrafficPolicy: openMessage({ mode: oneOf('PASSTHROUGH', 'LOCALHOST') }),
  meshMTLS: MESH_TLS,
  tlsDefaults: MESH_TLS,
  defaultInboundHttpRetryPolicy: HTTP_RETRY,
  proxyListenPort: port,
  proxyInboundListenPort: port,
} as const;

const MESH = openMessage(MESH_SHAPE);

/**
 * Reads MeshConfig as JSON (camelCase, Istio's names); what is absent is Istio's default.
 * @param origin where it came from, for complaints
 * @throws {ConfigError}
 */
export function meshConfig(json: Readonly<Record<string, unknown>>, origin = 'MeshConfig'): MeshConfig {
  const mesh = MESH(json, placeIn(json, origin));
  const normalization = mesh.pathNormalization?.normalization ?? 'DEFAULT';
  const policy = mesh.outboundTrafficPolicy?.mode ?? 'ALLOW_ANY';
  return {
    connectTimeoutMs: mesh.connectTimeout ?? 10_000,
    trustDomain: mesh.trustDomain ?? 'cluster.local',
    trustDomainAliases: mesh.trustDomainAliases ?? [],
    rootNamespace: mesh.rootNamespace ?? 'istio-system',
    autoMtls: mesh.enableAutoMtls ?? true,
    outboundPolicy: policy === 'REGISTRY_ONLY' ? 'REGISTRY_ONLY' : 'ALLOW_ANY',
    dnsRefreshMs: mesh.dnsRefreshRate ?? 60_000,
    defaultServiceExportTo: mesh.defaultServiceExportTo ?? ['*'],
    defaultVirtualServiceExportTo: mesh.defaultVirtualServiceExportTo ?? ['*'],
    defaultDestinationRuleExportTo: mesh.defaultDestinationRuleExportTo ?? ['*'],
    accessLogFile: mesh.accessLogFile ?? '',
    accessLogEncoding: mesh.accessLogEncoding ?? 'TEXT',
    accessLogFormat: mesh.accessLogFormat ?? '',
    pathNormalization: normalization === 'DEFAULT' ? 'BASE' : normalization,
    h2Upgrade: mesh.h2UpgradePolicy === 'UPGRADE',
    defaultHttpRetry: mesh.defaultHttpRetryPolicy,
    tcpKeepalive: mesh.tcpKeepalive,
    prometheusMetrics: feedsPrometheus(mesh),
    proxyHttpPort: mesh.proxyHttpPort ?? 0,
    protocolDetectionTimeoutMs: mesh.protocolDetectionTimeout ?? 0,
    inboundToLocalhost: mesh.inboundTrafficPolicy?.mode === 'LOCALHOST',
    meshTls: mesh.meshMTLS,
    tlsDefaults: mesh.tlsDefaults,
    defaultInboundHttpRetry: mesh.defaultInboundHttpRetryPolicy,
    outboundPort: mesh.proxyListenPort ?? 15_001,
    inboundPort: mesh.proxyInboundListenPort ?? 15_006,
    interceptionMode: mesh.defaultConfig?.interceptionMode ?? 'REDIRECT',
    warnings: meshWarnings(json, Object.keys(MESH_SHAPE)),
    localityLbSetting: mesh.localityLbSetting,
    authorizers: mesh.extensionProviders ?? [],
    extensionProviders: mesh.extensionProviders ?? [],
    defaultLogProviders: mesh.defaultProviders?.accessLogging ?? [],
    defaultTracingProviders: mesh.defaultProviders?.tracing ?? [],
    enableTracing: mesh.enableTracing ?? true,
    tracingSampling: mesh.defaultConfig?.tracing?.sampling ?? 1,
  };
}

function feedsPrometheus(mesh: Read<typeof MESH>): boolean {
  const wanted = mesh.defaultProviders?.metrics;
  if (wanted === undefined) return true;
  const named = (mesh.extensionProviders ?? []).filter((provider) => provider.prometheus !== undefined);
  return wanted.some((name) => name === 'prometheus' || named.some((provider) => provider.name === name));
}

/** MeshConfig is no Kubernetes object; its place in complaints is a name only. */
function placeIn(json: Readonly<Record<string, unknown>>, origin: string): At {
  if (json === null || typeof json !== 'object') {
    throw new ConfigError('', `MeshConfig must be an object, got ${show(json)}`, { origin });
  }
  const object: KubeObject = {
    apiVersion: '',
    kind: 'MeshConfig',
    name: 'mesh',
    namespace: 'istio-system',
    labels: {},
    annotations: {},
    creationMs: undefined,
    order: 0,
    json,
    source: { file: origin, line: 1, locate: () => origin },
  };
  return { object, path: [], allowUnknown: true };
}

/** DestinationRule (networking.istio.io): how a service's endpoints are talked to. */
import type { KubeObject } from '../kube_object.ts';
import { LOCALITY_SETTING } from './locality_setting.ts';
import { HostIndex, resolveHost } from './hosts.ts';
import type { MeshConfig } from './mesh.ts';
import { type MeshService, selects, type Visibility } from './model.ts';
import {
  type At,
  anything,
  boolean,
  duration,
  fail,
  int32,
  integer,
  list,
  looseText,
  mapOf,
  message,
  number,
  oneOf,
  openMessage,
  port,
  type Read,
  text,
  uint32,
  within,
} from './shape.ts';
import { isVisible, visibility } from './visibility.ts';

const KEEPALIVE = message({ probes: uint32, time: duration, interval: duration });

export const CONNECTION_POOL = message({
  tcp: message({
    maxConnections: int32,
    connectTimeout: duration,
    tcpKeepalive: KEEPALIVE,
    maxConnectionDuration: duration,
    idleTimeout: duration,
  }),
  http: message({
    http1MaxPendingRequests: int32,
    http2MaxRequests: int32,
    maxRequestsPerConnection: int32,
    maxRetries: int32,
    idleTimeout: duration,
    h2UpgradePolicy: oneOf('DEFAULT', 'DO_NOT_UPGRADE', 'UPGRADE'),
    useClientProtocol: boolean,
    maxConcurrentStreams: int32,
    http2KeepAlive: message({ interval: duration, timeout: duration }),
  }),
});

const CONSISTENT_HASH = message({
  httpHeaderName: text,
  httpCookie: message({
    name: text,
    path: text,
    ttl: duration,
    attributes: list(message({ name: text, value: text })),
  }),
  useSourceIp: boolean,
  httpQueryParameterName: text,
  ringHash: message({ minimumRingSize: uint32 }),
  maglev: message({ tableSize: uint32 }),
  minimumRingSize: uint32,
});

const LOAD_BALANCER = message({
  simple: oneOf('UNSPECIFIED', 'LEAST_CONN', 'RANDOM', 'PASSTHROUGH', 'ROUND_ROBIN', 'LEAST_REQUEST'),
  consistentHash: CONSISTENT_HASH,
  localityLbSetting: LOCALITY_SETTING,
  zoneAwareLbSetting: anything,
  warmupDurationSecs: duration,
  warmup: message({ duration, minimumPercent: number(0, 100), aggression: number(0, Number.POSITIVE_INFINITY) }),
});

const OUTLIER_DETECTION = message({
  consecutiveErrors: int32,
  splitExternalLocalOriginErrors: boolean,
  consecutiveLocalOriginFailures: uint32,
  consecutiveGatewayErrors: uint32,
  consecutive5xxErrors: uint32,
  interval: duration,
  baseEjectionTime: duration,
  maxEjectionPercent: integer(0, 100),
  minHealthPercent: integer(0, 100),
  outlierDetectionHttpErrorCodes: anything,
});

const TLS = message({
  mode: oneOf('DISABLE', 'SIMPLE', 'MUTUAL', 'ISTIO_MUTUAL'),
  clientCertificate: text,
  privateKey: text,
  caCertificates: text,
  credentialName: text,
  subjectAltNames: list(text),
  sni: text,
  insecureSkipVerify: boolean,
  caCrl: text,
});

const PORT_FIELDS = {
  loadBalancer: LOAD_BALANCER,
  connectionPool: CONNECTION_POOL,
  outlierDetection: OUTLIER_DETECTION,
  tls: TLS,
} as const;

const TRAFFIC_POLICY = message({
  ...PORT_FIELDS,
  portLevelSettings: list(message({ ...PORT_FIELDS, port: message({ number: port }) })),
  tunnel: message({ protocol: text, targetHost: text, targetPort: port }),
  proxyProtocol: message({ version: oneOf('V1', 'V2') }),
  retryBudget: message({ percent: number(0, 100), minRetryConcurrency: uint32, budgetInterval: duration }),
});

const DESTINATION_RULE = openMessage({
  spec: message({
    host: text,
    trafficPolicy: TRAFFIC_POLICY,
    subsets: list(message({ name: text, labels: mapOf(looseText), trafficPolicy: TRAFFIC_POLICY })),
    exportTo: list(text),
    workloadSelector: message({ matchLabels: mapOf(looseText) }),
  }),
  status: anything,
});

export type ConnectionPool = Read<typeof CONNECTION_POOL>;
export type ConsistentHash = Read<typeof CONSISTENT_HASH>;
export type LoadBalancer = Read<typeof LOAD_BALANCER>;
export type OutlierDetection = Read<typeof OUTLIER_DETECTION>;
export type ClientTls = Read<typeof TLS>;
export type TrafficPolicy = Read<typeof TRAFFIC_POLICY>;

export interface Subset {
  readonly name: string;
  readonly labels: ReadonlyMap<string, string>;
  readonly policy: TrafficPolicy | undefined;
}

/** A rule, or several of one host and namespace merged. */
export interface DestinationRule {
  readonly host: string;
  readonly namespace: string;
  readonly visibility: Visibility;
  readonly policy: TrafficPolicy | undefined;
  readonly subsets: readonly Subset[];
  /** undefined: every workload of the tier. */
  readonly workloadSelector: ReadonlyMap<string, string> | undefined;
  readonly object: KubeObject;
}

/** @throws {ConfigError} */
export function parseDestinationRule(object: KubeObject, at: At, domain: string, mesh: MeshConfig): DestinationRule {
  const { spec } = DESTINATION_RULE(object.json, at);
  if (spec?.host === undefined || spec.host === '') fail(within(at, 'spec', 'host'), 'a host is required');
  checkPolicy(spec.trafficPolicy);
  const names = new Set<string>();
  const subsets = (spec.subsets ?? []).map((subset) => {
    if (subset.name === undefined || subset.name === '') return fail(subset.at, 'name is required');
    if (names.has(subset.name)) fail(within(subset.at, 'name'), `subset "${subset.name}" is there twice`);
    names.add(subset.name);
    checkPolicy(subset.trafficPolicy);
    return { name: subset.name, labels: subset.labels ?? new Map<string, string>(), policy: subset.trafficPolicy };
  });
  return {
    host: resolveHost(spec.host, object.namespace, domain),
    namespace: object.namespace,
    visibility: visibility(spec.exportTo, object.namespace, mesh.defaultDestinationRuleExportTo),
    policy: spec.trafficPolicy,
    subsets,
    workloadSelector: spec.workloadSelector?.matchLabels,
    object,
  };
}

function checkPolicy(policy: TrafficPolicy | undefined): void {
  if (policy === undefined) return;
  for (const level of [policy, ...(policy.portLevelSettings ?? [])]) {
    const balancer = level.loadBalancer;
    if (balancer?.warmup !== undefined && balancer.warmup.duration === undefined) {
      fail(within(balancer.warmup.at, 'duration'), 'a duration is required');
    }
    const hash = balancer?.consistentHash;
    if (hash !== undefined) {
      const keys = [hash.httpHeaderName, hash.httpCookie, hash.useSourceIp, hash.httpQueryParameterName];
      if (keys.filter((key) => key !== undefined).length !== 1) {
        fail(hash.at, 'exactly one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName is wanted');
      }
      if (balancer?.simple !== undefined) fail(hash.at, 'only one of simple and consistentHash can be set');
    }
    const tls = level.tls;
    if (tls?.mode === 'MUTUAL' && tls.credentialName === undefined) {
      for (const name of ['clientCertificate', 'privateKey'] as const) {
        if ((tls[name] ?? '') === '')
          fail(within(tls.at, name), 'mode MUTUAL needs a client certificate and its private key');
      }
    }
  }
}

/** The rules of one namespace by host. */
interface Tier {
  readonly selected: HostIndex<DestinationRule[]>;
  readonly common: HostIndex<DestinationRule>;
}

/** Finds the rule of a service for a client (istio/istio: pilot/pkg/model/push_context.go). */
export class DestinationRules {
  readonly #tiers = new Map<string, Tier>();
  readonly #rootNamespace: string;

  /** @param rules in the order of age */
  constructor(rules: readonly DestinationRule[], rootNamespace: string) {
    this.#rootNamespace = rootNamespace;
    for (const rule of rules) {
      let tier = this.#tiers.get(rule.namespace);
      if (tier === undefined) {
        tier = { selected: new HostIndex(), common: new HostIndex() };
        this.#tiers.set(rule.namespace, tier);
      }
      if (rule.workloadSelector !== undefined) {
        const others = tier.selected.get(rule.host) ?? [];
        tier.selected.set(rule.host, [...others, rule]);
      } else {
        const first = tier.common.get(rule.host);
        tier.common.set(rule.host, first === undefined ? rule : merge(first, rule));
      }
    }
  }

  /** The client's namespace, then the service's, then the root namespace: the first tier with a match wins. */
  find(
    service: Pick<MeshService, 'host' | 'namespace'>,
    namespace: string,
    labels: Readonly<Record<string, string>>,
  ): DestinationRule | undefined {
    const own = this.#tiers.get(namespace);
    if (own !== undefined && namespace !== this.#rootNamespace) {
      const found = matching(own, service.host, labels, () => true);
      if (found !== undefined) return found;
    }
    const exported = (rule: DestinationRule) => isVisible(rule.visibility, namespace);
    for (const name of [service.namespace, this.#rootNamespace]) {
      const tier = this.#tiers.get(name);
      if (tier === undefined) continue;
      const found = matching(tier, service.host, name === namespace ? labels : undefined, exported);
      if (found !== undefined) return found;
    }
    return undefined;
  }
}

/** @param labels undefined: rules with a workload selector do not count, they hold in their own namespace only */
function matching(
  tier: Tier,
  host: string,
  labels: Readonly<Record<string, string>> | undefined,
  accept: (rule: DestinationRule) => boolean,
): DestinationRule | undefined {
  if (labels !== undefined) {
    const candidates = tier.selected.mostSpecific(host) ?? [];
    const chosen = candidates.find((rule) => selects(rule.workloadSelector, labels) && accept(rule));
    if (chosen !== undefined) return chosen;
  }
  const rule = tier.common.mostSpecific(host);
  return rule !== undefined && accept(rule) ? rule : undefined;
}

/** The first top-level policy wins, subsets come together; of two subsets with one name the first. */
function merge(first: DestinationRule, other: DestinationRule): DestinationRule {
  const known = new Set(first.subsets.map((subset) => subset.name));
  return {
    ...first,
    policy: first.policy ?? other.policy,
    subsets: [...first.subsets, ...other.subsets.filter((subset) => !known.has(subset.name))],
  };
}

/**
 * What holds on one port for one subset. A port's settings REPLACE the whole policy (what they leave out is the
 * default); a subset's policy overrides the rule's block by block.
 */
export function effectivePolicy(
  rule: DestinationRule | undefined,
  subset: Subset | undefined,
  portNumber: number,
): Omit<TrafficPolicy, 'at'> {
  const base = onPort(rule?.policy, portNumber) ?? rule?.policy ?? {};
  if (subset?.policy === undefined) return base;
  const { at: _at, portLevelSettings: _ports, ...blocks } = subset.policy;
  return onPort(subset.policy, portNumber) ?? { ...base, ...blocks };
}

function onPort(policy: TrafficPolicy | undefined, portNumber: number): Omit<TrafficPolicy, 'at'> | undefined {
  const setting = policy?.portLevelSettings?.find((item) => item.port?.number === portNumber);
  if (setting === undefined) return undefined;
  const { at: _at, port: _port, ...blocks } = setting;
  return blocks;
}

/**
 * The consistent hash that a route to this destination computes. The port's hash counts only where the destination
 * names the port (istio/istio: hashForHTTPDestination).
 */
export function destinationHash(
  rule: DestinationRule | undefined,
  subsetName: string,
  portNumber: number | undefined,
): ConsistentHash | undefined {
  const onPortOf = (policy: TrafficPolicy | undefined): ConsistentHash | undefined =>
    portNumber === undefined ? undefined : onPort(policy, portNumber)?.loadBalancer?.consistentHash;
  const subset = rule?.subsets.find((item) => item.name === subsetName);
  return (
    onPortOf(subset?.policy) ??
    subset?.policy?.loadBalancer?.consistentHash ??
    onPortOf(rule?.policy) ??
    rule?.policy?.loadBalancer?.consistentHash
  );
}

/** Sidecar (networking.istio.io): what a workload's proxy sees of the mesh, and which of its own ports it opens. */
import type { KubeObject } from '../kube_object.ts';
import { CONNECTION_POOL, type ConnectionPool } from './destination_rule.ts';
import { selects } from './model.ts';
import { declaredProtocol, type Protocol } from './protocol.ts';
import {
  type At,
  anything,
  fail,
  list,
  looseText,
  mapOf,
  message,
  oneOf,
  openMessage,
  port,
  type Read,
  text,
  within,
} from './shape.ts';

const PORT = message({ number: port, protocol: text, name: text, targetPort: port });
const CAPTURE_MODE = oneOf('DEFAULT', 'IPTABLES', 'NONE');
const DESTINATION = message({ host: text, subset: text, port: message({ number: port }) });
const SERVER_TLS = message({
  mode: oneOf('PASSTHROUGH', 'SIMPLE', 'MUTUAL', 'AUTO_PASSTHROUGH', 'ISTIO_MUTUAL', 'OPTIONAL_MUTUAL'),
  serverCertificate: text,
  privateKey: text,
  caCertificates: text,
  credentialName: text,
  subjectAltNames: list(text),
  cipherSuites: list(text),
  minProtocolVersion: text,
  maxProtocolVersion: text,
  httpsRedirect: anything,
  caCrl: text,
});

const INGRESS = message({
  port: PORT,
  bind: text,
  captureMode: CAPTURE_MODE,
  defaultEndpoint: text,
  tls: SERVER_TLS,
  connectionPool: CONNECTION_POOL,
});

const EGRESS = message({ port: PORT, bind: text, captureMode: CAPTURE_MODE, hosts: list(text) });

const SIDECAR = openMessage({
  spec: message({
    workloadSelector: message({ labels: mapOf(looseText) }),
    ingress: list(INGRESS),
    egress: list(EGRESS),
    outboundTrafficPolicy: message({
      mode: oneOf('REGISTRY_ONLY', 'ALLOW_ANY', 'ALLOW_ANY_DYNAMIC_DNS'),
      egressProxy: DESTINATION,
    }),
    inboundConnectionPool: CONNECTION_POOL,
  }),
  status: anything,
});

type Spec = NonNullable<Read<typeof SIDECAR>['spec']>;

/** One pattern of `egress[].hosts`. */
export interface HostImport {
  /** A namespace, or `*` for all. `.` is resolved already. */
  readonly namespace: string;
  /** A host, a wildcard such as `*.example.org`, or `*`. */
  readonly host: string;
}

export interface SidecarEgress {
  /** undefined: all ports that no other listener of the Sidecar names. */
  readonly port: { readonly number: number; readonly protocol: Protocol; readonly name: string } | undefined;
  /** An address or `unix:///path`; '' where the proxy chooses. */
  readonly bind: string;
  readonly captureMode: 'DEFAULT' | 'IPTABLES' | 'NONE';
  readonly imports: readonly HostImport[];
  /** `~namespace/host`: taken out again. */
  readonly exclusions: readonly HostImport[];
}

export interface SidecarIngress {
  readonly port: { readonly number: number; readonly protocol: Protocol; readonly name: string };
  /** '' where the proxy chooses. */
  readonly bind: string;
  readonly captureMode: 'DEFAULT' | 'IPTABLES' | 'NONE';
  /** Where the application listens: `127.0.0.1:8080`, `unix:///path`; '' for the port itself. */
  readonly defaultEndpoint: string;
  readonly connectionPool: ConnectionPool | undefined;
  /** Whether the port ends TLS itself (only where PeerAuthentication is DISABLE). */
  readonly tls: Read<typeof SERVER_TLS> | undefined;
}

export interface Sidecar {
  readonly namespace: string;
  /** undefined: every workload of the namespace (of the mesh, in the root namespace). */
  readonly selector: ReadonlyMap<string, string> | undefined;
  /** undefined: not narrowed. */
  readonly egress: readonly SidecarEgress[] | undefined;
  /** undefined: the ports that services name. */
  readonly ingress: readonly SidecarIngress[] | undefined;
  /** undefined: as the mesh says. */
  readonly outboundPolicy: 'ALLOW_ANY' | 'REGISTRY_ONLY' | undefined;
  readonly egressProxy: Read<typeof DESTINATION> | undefined;
  readonly inboundConnectionPool: ConnectionPool | undefined;
  readonly object: KubeObject;
}

/** @throws {ConfigError} */
export function parseSidecar(object: KubeObject, at: At): Sidecar {
  const { spec } = SIDECAR(object.json, at);
  if (spec === undefined) fail(at, 'spec is required');
  const { namespace } = object;
  const labels = spec.workloadSelector?.labels;
  const policy = spec.outboundTrafficPolicy?.mode;
  return {
    namespace,
    selector: labels === undefined || labels.size === 0 ? undefined : labels,
    egress: readEgress(spec, namespace),
    ingress: readIngress(spec),
    outboundPolicy: policy === undefined ? undefined : policy === 'REGISTRY_ONLY' ? 'REGISTRY_ONLY' : 'ALLOW_ANY',
    egressProxy: spec.outboundTrafficPolicy?.egressProxy,
    inboundConnectionPool: spec.inboundConnectionPool,
    object,
  };
}

/**
 * The Sidecar that holds for a workload: selected by its labels in its own namespace, else its namespace's, else the
 * root namespace's. `all` oldest first.
 */
export function sidecarFor(
  all: readonly Sidecar[],
  namespace: string,
  labels: Readonly<Record<string, string>>,
  rootNamespace: string,
): Sidecar | undefined {
  const own = all.filter((sidecar) => sidecar.namespace === namespace);
  return (
    own.find((sidecar) => sidecar.selector !== undefined && selects(sidecar.selector, labels)) ??
    own.find((sidecar) => sidecar.selector === undefined) ??
    all.find((sidecar) => sidecar.namespace === rootNamespace && sidecar.selector === undefined)
  );
}

function readEgress(spec: Spec, namespace: string): SidecarEgress[] | undefined {
  const { egress } = spec;
  if (egress === undefined || egress.length === 0) return undefined;
  let catchAll = false;
  return egress.map((item, index) => {
    const hosts = item.hosts ?? [];
    if (hosts.length === 0) fail(within(item.at, 'hosts'), 'at least one host is required, such as "./*"');
    if (item.port === undefined) {
      if (catchAll) fail(item.at, 'only one egress listener may leave out the port');
      if (index !== egress.length - 1) fail(item.at, 'the egress listener without a port must be the last one');
      if (item.bind !== undefined && item.bind !== '') fail(within(item.at, 'bind'), 'bind needs a port');
      catchAll = true;
    }
    if (item.bind?.startsWith('unix://') === true && item.captureMode === 'IPTABLES')
      fail(within(item.at, 'captureMode'), 'a unix socket cannot be captured; use DEFAULT or NONE');
    const patterns = hosts.map((host, at) => readImport(host, namespace, within(item.at, 'hosts', at)));
    return {
      port: item.port === undefined ? undefined : readPort(item.port),
      bind: item.bind ?? '',
      captureMode: item.captureMode ?? 'DEFAULT',
      imports: patterns.filter((pattern) => !pattern.excluded),
      exclusions: patterns.filter((pattern) => pattern.excluded),
    };
  });
}

function readImport(pattern: string, own: string, at: At): HostImport & { readonly excluded: boolean } {
  const slash = pattern.indexOf('/');
  if (slash < 0 || pattern.indexOf('/', slash + 1) >= 0)
    fail(at, `a host with its namespace is wanted, such as "./${pattern}" or "*/*", got "${pattern}"`);
  const given = pattern.slice(0, slash);
  const host = pattern.slice(slash + 1);
  // `~/*` is nothing at all; `~ns/host` takes one out again.
  const excluded = given.startsWith('~') && given.length > 1;
  const namespace = excluded ? given.slice(1) : given;
  if (namespace === '') fail(at, `a namespace is wanted before the "/", got "${pattern}"`);
  if (host === '' || (host !== '*' && !/^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?$/.test(host)))
    fail(at, `a host, a wildcard such as "*.example.org" or "*" is wanted after the "/", got "${pattern}"`);
  return { namespace: namespace === '.' ? own : namespace, host, excluded };
}

function readIngress(spec: Spec): SidecarIngress[] | undefined {
  const { ingress } = spec;
  if (ingress === undefined || ingress.length === 0) return undefined;
  const numbers = new Set<number>();
  return ingress.map((item) => {
    if (item.port === undefined) return fail(item.at, 'port is required');
    const read = readPort(item.port);
    if (numbers.has(read.number)) fail(within(item.at, 'port', 'number'), `port ${read.number} is there twice`);
    numbers.add(read.number);
    if (item.bind?.startsWith('unix://') === true) fail(within(item.at, 'bind'), 'a unix socket is for egress only');
    const { defaultEndpoint = '' } = item;
    if (defaultEndpoint !== '') checkEndpoint(defaultEndpoint, within(item.at, 'defaultEndpoint'));
    return {
      port: read,
      bind: item.bind ?? '',
      captureMode: item.captureMode ?? 'DEFAULT',
      defaultEndpoint,
      connectionPool: item.connectionPool,
      tls: item.tls,
    };
  });
}

function readPort(item: Read<typeof PORT>): SidecarIngress['port'] {
  if (item.number === undefined) return fail(item.at, 'number is required');
  if (item.targetPort !== undefined) fail(within(item.at, 'targetPort'), 'targetPort means nothing in a Sidecar');
  return { number: item.number, protocol: declaredProtocol(item.protocol), name: item.name ?? '' };
}

function checkEndpoint(endpoint: string, at: At): void {
  if (endpoint.startsWith('unix://')) {
    const path = endpoint.slice('unix://'.length);
    if (!path.startsWith('/') && !path.startsWith('@')) fail(at, `an absolute path is wanted, got "${endpoint}"`);
    return;
  }
  const match = /^(127\.0\.0\.1|\[::1\]|0\.0\.0\.0|\[::\]):(\d{1,5})$/.exec(endpoint);
  const number = Number(match?.[2]);
  if (match === null || number < 1 || number > 65535)
    fail(
      at,
      `127.0.0.1:PORT, [::1]:PORT, 0.0.0.0:PORT (the pod's own address) or unix:///PATH is wanted, got "${endpoint}"`,
    );
}

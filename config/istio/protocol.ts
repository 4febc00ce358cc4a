/** Which protocol a service port speaks (istio/istio: pkg/config/kube/conversion.go). */

/** Auto: to be found out from the first bytes. */
export type Protocol =
  | 'HTTP'
  | 'HTTP2'
  | 'GRPC'
  | 'GRPC-Web'
  | 'HTTPS'
  | 'TLS'
  | 'TCP'
  | 'Mongo'
  | 'Redis'
  | 'MySQL'
  | 'UDP'
  | 'Auto';

const BY_NAME: Readonly<Record<string, Protocol>> = {
  http: 'HTTP',
  http2: 'HTTP2',
  grpc: 'GRPC',
  'grpc-web': 'GRPC-Web',
  https: 'HTTPS',
  tls: 'TLS',
  tcp: 'TCP',
  mongo: 'Mongo',
  redis: 'Redis',
  mysql: 'MySQL',
  udp: 'UDP',
};

const BY_APP_PROTOCOL: Readonly<Record<string, Protocol>> = {
  'kubernetes.io/h2c': 'HTTP2',
  'kubernetes.io/ws': 'HTTP',
  'kubernetes.io/wss': 'HTTPS',
};

/** Ports of protocols in which the server speaks first: waiting for the client's bytes would hang them. */
const SERVER_FIRST_PORTS: ReadonlySet<number> = new Set([25, 53, 3306, 27017]);

/** A declared protocol (ServiceEntry.ports.protocol); what is unknown counts as undeclared. */
export function declaredProtocol(name: string | undefined): Protocol {
  if (name === undefined) return 'Auto';
  return lookUp(name) ?? 'Auto';
}

/** A Kubernetes service port: transport, then appProtocol, then the name up to its first dash. */
export function kubernetesProtocol(
  number: number,
  name: string,
  appProtocol: string | undefined,
  transport: string | undefined,
): Protocol {
  if (transport === 'UDP' || transport === 'SCTP') return 'UDP';
  if (appProtocol !== undefined) {
    const lower = appProtocol.toLowerCase();
    const known = Object.hasOwn(BY_APP_PROTOCOL, lower) ? BY_APP_PROTOCOL[lower] : lookUp(lower);
    if (known !== undefined) return known;
  }
  const lower = name.toLowerCase();
  const prefix = lower.startsWith('grpc-web') ? 'grpc-web' : (lower.split('-', 1)[0] as string);
  const named = lookUp(prefix);
  if (named !== undefined) return named;
  return SERVER_FIRST_PORTS.has(number) ? 'TCP' : 'Auto';
}

function lookUp(name: string): Protocol | undefined {
  const lower = name.toLowerCase();
  return Object.hasOwn(BY_NAME, lower) ? BY_NAME[lower] : undefined;
}

/** Declared as HTTP of some kind. */
export function isHttp(protocol: Protocol): boolean {
  return protocol === 'HTTP' || isHttp2(protocol);
}

/** The upstream speaks HTTP/2. */
export function isHttp2(protocol: Protocol): boolean {
  return protocol === 'HTTP2' || protocol === 'GRPC' || protocol === 'GRPC-Web';
}

export function isHttpOrSniffed(protocol: Protocol): boolean {
  return isHttp(protocol) || protocol === 'Auto';
}

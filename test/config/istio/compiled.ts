/** Compiles YAML of a test and finds what it made. */
import { compile } from '../../../config/istio/compile.ts';
import type { CompileInput, CompileResult } from '../../../config/istio/target.ts';
import type { Json, ResourceType } from '../../../config/resources.ts';
import { kubeObjects } from '../../support/kube_objects.ts';

/** What stands at a path of JSON; undefined: nothing. */
export function dig(json: unknown, ...path: readonly (string | number)[]): unknown {
  let value = json;
  for (const step of path) {
    if (value === null || typeof value !== 'object') return undefined;
    value = (value as Readonly<Record<string | number, unknown>>)[step];
  }
  return value;
}

/** The list at a path; empty where there is none. */
export function digList(json: unknown, ...path: readonly (string | number)[]): readonly unknown[] {
  const value = dig(json, ...path);
  return Array.isArray(value) ? value : [];
}

export const SIDECAR = { kind: 'sidecar' } as const;
export const EXPLICIT = {
  kind: 'explicit',
  outbound: { ip: '127.0.0.1', port: 15001 },
  inbound: [],
  accessLog: undefined,
} as const;

export class Compiled {
  readonly result: CompileResult;

  constructor(yaml: string, input: Partial<CompileInput> = {}) {
    this.result = compile({
      objects: kubeObjects(yaml),
      mesh: {},
      proxy: undefined,
      domain: 'cluster.local',
      mode: EXPLICIT,
      ...input,
    });
  }

  json(type: ResourceType, name: string): unknown {
    const found = this.result.resources.find((item) => item.type === type && item.name === name);
    if (found === undefined) throw new Error(`no ${type} ${name} in ${this.names(type).join(', ')}`);
    return found.json;
  }

  names(type: ResourceType): string[] {
    return this.result.resources.filter((item) => item.type === type).map((item) => item.name);
  }

  /** The virtual host with this domain in a route configuration, without its route for CONNECT. */
  host(domain: string, routes = 'http_proxy'): unknown {
    const host = this.wholeHost(domain, routes) as Json;
    return {
      ...host,
      routes: digList(host, 'routes').filter((route) => dig(route, 'match', 'connect_matcher') === undefined),
    };
  }

  wholeHost(domain: string, routes = 'http_proxy'): unknown {
    const hosts = digList(this.json('route', routes), 'virtual_hosts');
    const found = hosts.find((host) => digList(host, 'domains').includes(domain));
    if (found === undefined) throw new Error(`no virtual host has the domain ${domain}`);
    return found;
  }

  /** `ip:port` of each endpoint of a cluster. */
  addresses(cluster: string): string[] {
    return digList(this.json('endpoint', cluster), 'endpoints').flatMap((group) =>
      digList(group, 'lb_endpoints').map((item) => {
        const place = dig(item, 'endpoint', 'address', 'socket_address');
        return `${dig(place, 'address')}:${dig(place, 'port_value')}`;
      }),
    );
  }
}

/** A service with its Pods, as short as YAML allows. */
export function service(name: string, port: number, pods: readonly string[] = [], namespace = 'default'): string {
  const workloads = pods.map(
    (ip, index) => `
---
apiVersion: v1
kind: Pod
metadata: { name: ${name}-${index}, namespace: ${namespace}, labels: { app: ${name}, version: v${index + 1} } }
spec: { serviceAccountName: ${name}, containers: [{ name: app, ports: [{ name: web, containerPort: 8080 }] }] }
status: { podIP: ${ip} }`,
  );
  return `
---
apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: ${namespace} }
spec: { selector: { app: ${name} }, ports: [{ name: http, port: ${port}, targetPort: 8080 }] }${workloads.join('')}
`;
}

/** An Istio networking object of namespace `default`. */
export function istio(kind: string, name: string, spec: string, namespace = 'default'): string {
  const indented = spec.trim().replaceAll(/^/gm, '  ');
  return `
---
apiVersion: networking.istio.io/v1
kind: ${kind}
metadata: { name: ${name}, namespace: ${namespace} }
spec:
${indented}
`;
}

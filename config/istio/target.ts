/** For whom the compiler compiles, and what it answers. */
import type { NamedHost } from '../../proxy/dns/name_table.ts';
import type { KubeObject } from '../kube_object.ts';
import type { Resource } from '../resources.ts';
import type { KeyLookup, WantedKeys } from './request_authentication.ts';
import type { ProxyConfig } from './proxy_config.ts';

/** The workload beside which the proxy stands. */
export interface ProxyIdentity {
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly serviceAccount: string;
  /** First one is the pod's own. */
  readonly ips: readonly string[];
}

export interface CompileInput {
  readonly objects: readonly KubeObject[];
  /** MeshConfig as JSON (camelCase, Istio's names), undefined fields at Istio's defaults. */
  readonly mesh: Readonly<Record<string, unknown>>;
  /** undefined: no workload (a laptop's client): namespace `default`, no labels. */
  readonly proxy: ProxyIdentity | undefined;
  /** Default cluster.local. */
  readonly domain: string;
  readonly mode: CompileMode;
  /** `--mock` and `dev`: where a workload's port really is; undefined: as the YAML says. */
  readonly endpointAddress?:
    | ((workload: Workload, port: number) => { readonly ip: string; readonly port: number } | undefined)
    | undefined;
  /** Names are answered by the proxy: entries without an address get one. Default false. */
  readonly dnsCapture?: boolean | undefined;
  /** `--allow-unknown-static-fields`: unknown fields of Istio's objects are passed over. Default false. */
  readonly allowUnknownFields?: boolean | undefined;
  /** Keys that rules name by URL or issuer; undefined: none are known, and tokens of those rules are refused. */
  readonly keys?: KeyLookup | undefined;
}

/**
 * sidecar: istiod's own listeners (15001, 15006, one per service port). explicit: no interception: one outbound
 * HTTP listener, and one inbound listener per entry.
 */
export type CompileMode =
  | {
      readonly kind: 'sidecar';
      /** Default true. Without a certificate of the mesh endpoints get plain text, and what asks for mutual TLS is closed. */
      readonly hasIdentity?: boolean;
    }
  | {
      readonly kind: 'explicit';
      /** The workload has a certificate of the mesh. Default false: everything is in the clear. */
      readonly hasIdentity?: boolean;
      readonly outbound: { readonly ip: string; readonly port: number } | undefined;
      readonly inbound: readonly {
        readonly ip: string;
        readonly port: number;
        readonly workloadPort: number;
        /** Where its application listens. */
        readonly app: { readonly ip: string; readonly port: number };
      }[];
      /** Local ports for TCP and TLS services; default none. */
      readonly maps?: readonly PortMapping[];
      /** Istio access log to stdout in this encoding, whatever the mesh says; undefined: as the mesh says. */
      readonly accessLog: 'TEXT' | 'JSON' | undefined;
    };

/** One `--map`. */
export interface PortMapping {
  /** Where it listens. */
  readonly ip: string;
  readonly port: number;
  /** `db`, `db.shop`, or a full name. */
  readonly host: string;
  readonly servicePort: number;
  /** Among those for the same service port. */
  readonly index: number;
  /** As it was given, for errors. */
  readonly text: string;
}

/** A pod, or a Deployment's pods, or a WorkloadEntry. */
export interface Workload {
  readonly kind: string;
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly serviceAccount: string;
  readonly ips: readonly string[];
  /** Container ports, by number. */
  readonly ports: readonly { readonly name: string; readonly number: number }[];
  readonly origin: string;
}

export interface CompileResult {
  readonly resources: readonly Resource[];
  readonly services: readonly ServiceSummary[];
  readonly workloads: readonly Workload[];
  /** What the workload's DNS proxy answers, by host. */
  readonly names: ReadonlyMap<string, NamedHost>;
  /** What ProxyConfig objects say for the proxy: read at the start only. */
  readonly proxyConfig: Pick<ProxyConfig, 'concurrency' | 'environment'>;
  /** Keys that stand elsewhere, of the rules that hold for the workload. */
  readonly wantedKeys: readonly WantedKeys[];
  /** Sentences, each with `file:line:col`. */
  readonly warnings: readonly string[];
}

/** For people: what `dev` prints. */
export interface ServiceSummary {
  readonly host: string;
  readonly namespace: string;
  readonly shortName: string;
  readonly ports: readonly {
    readonly number: number;
    readonly name: string;
    readonly protocol: string;
    readonly targetPort: number;
  }[];
  readonly workloads: readonly string[];
  /** Kind/name of the VirtualService and DestinationRule that shape it. */
  readonly shapedBy: readonly string[];
  readonly origin: string;
}

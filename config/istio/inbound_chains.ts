/**
 * Which connections to a workload's port are let in, and as what: by the port's mutual TLS mode and by what is known of
 * its protocol (istio.md §6.5; istio/istio pilot/pkg/networking/core/filterchain_options.go).
 */
import type { Json } from '../resources.ts';
import { PLAIN_HTTP } from './inspectors.ts';
import type { MutualTlsMode } from './peer_authentication.ts';

/** HTTP and TCP are declared; auto is found out. */
export type InboundKind = 'http' | 'tcp' | 'auto';

export interface InboundChain {
  readonly match: Json;
  readonly http: boolean;
  /** Whether TLS is terminated, with a client certificate required. */
  readonly mutualTls: boolean;
}

const MESH_HTTP = ['istio-http/1.0', 'istio-http/1.1', 'istio-h2'];
const MESH_TCP = ['istio-peer-exchange', 'istio'];
const MESH_ANY = ['istio', 'istio-peer-exchange', ...MESH_HTTP];

const TLS: Json = { transport_protocol: 'tls' };
const RAW: Json = { transport_protocol: 'raw_buffer' };
const tls = (application_protocols: readonly string[]): Json => ({ ...TLS, application_protocols });
const chain = (match: Json, http: boolean, mutualTls: boolean): InboundChain => ({ match, http, mutualTls });

const CHAINS: Readonly<Record<MutualTlsMode, Readonly<Record<InboundKind, readonly InboundChain[]>>>> = {
  STRICT: {
    http: [chain(TLS, true, true)],
    tcp: [chain(TLS, false, true)],
    auto: [chain(tls(MESH_HTTP), true, true), chain(TLS, false, true)],
  },
  PERMISSIVE: {
    // TLS of strangers is reset where HTTP is declared, else it belongs to the application.
    http: [chain(tls(MESH_ANY), true, true), chain(RAW, true, false)],
    tcp: [chain(tls(MESH_ANY), false, true), chain(TLS, false, false), chain(RAW, false, false)],
    auto: [
      chain(tls(MESH_HTTP), true, true),
      chain(PLAIN_HTTP, true, false),
      chain(tls(MESH_TCP), false, true),
      chain(RAW, false, false),
      chain(TLS, false, false),
    ],
  },
  DISABLE: {
    http: [chain(RAW, true, false)],
    tcp: [chain(RAW, false, false)],
    auto: [chain(PLAIN_HTTP, true, false), chain(RAW, false, false)],
  },
};

export function inboundChains(mode: MutualTlsMode, kind: InboundKind): readonly InboundChain[] {
  return CHAINS[mode][kind];
}

/** Whether the client's first bytes must be looked at for TLS: a chain tells TLS from the rest. */
export function needsTlsInspector(chains: readonly InboundChain[]): boolean {
  return chains.some(({ match }) => match['transport_protocol'] === 'tls');
}

/** Whether they must be looked at for HTTP. */
export function needsHttpInspector(chains: readonly InboundChain[]): boolean {
  return chains.some(({ match }) => match === PLAIN_HTTP);
}

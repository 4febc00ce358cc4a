/** TLS towards endpoints: automatic mutual TLS, and what a DestinationRule asks for. */
import type { Json } from '../resources.ts';
import type { ClientTls } from './destination_rule.ts';
import { any, extension } from './envoy_json.ts';
import { type MeshTls, tlsParameters } from './mesh_tls.ts';

const TLS_PARAMS: Json = { tls_minimum_protocol_version: 'TLSv1_2', tls_maximum_protocol_version: 'TLSv1_3' };

const SDS_SOURCE: Json = {
  api_config_source: {
    api_type: 'GRPC',
    transport_api_version: 'V3',
    grpc_services: [{ envoy_grpc: { cluster_name: 'sds-grpc' } }],
    set_node_on_first_message_only: true,
  },
  resource_api_version: 'V3',
};
/** The workload's own certificate: a cluster waits for it as long as it takes. */
export const IDENTITY_SOURCE: Json = { ...SDS_SOURCE, initial_fetch_timeout: '0s' };

const RAW_BUFFER = extension(
  'envoy.transport_sockets.raw_buffer',
  'envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer',
);

function tlsSocket(context: Json): Json {
  return extension(
    'envoy.transport_sockets.tls',
    'envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext',
    context,
  );
}

/** Mutual TLS with the mesh's identity. @param names whom the server's certificate must name; empty: anybody of the mesh */
export function istioMutualTls(sni: string, names: readonly string[], http2: boolean): Json {
  return tlsSocket({
    common_tls_context: {
      tls_params: TLS_PARAMS,
      tls_certificate_sds_secret_configs: [{ name: 'default', sds_config: IDENTITY_SOURCE }],
      combined_validation_context: {
        default_validation_context: sanMatchers(names),
        validation_context_sds_secret_config: { name: 'ROOTCA', sds_config: IDENTITY_SOURCE },
      },
      alpn_protocols: http2 ? ['istio-peer-exchange', 'istio', 'h2'] : ['istio-peer-exchange', 'istio'],
    },
    sni,
  });
}

/** Endpoint by endpoint: mutual TLS where a sidecar stands, else plain text. */
export function autoMutualTls(sni: string, names: readonly string[], http2: boolean): Json[] {
  return [
    { name: 'tlsMode-istio', match: { tlsMode: 'istio' }, transport_socket: istioMutualTls(sni, names, http2) },
    { name: 'tlsMode-disabled', match: {}, transport_socket: RAW_BUFFER },
  ];
}

/** SIMPLE and MUTUAL. @param defaultNames of a ServiceEntry, where the rule gives none */
export function userTls(
  tls: ClientTls,
  defaultNames: readonly string[],
  http2: boolean,
  asked: MeshTls | undefined,
): Json {
  const names = tls.subjectAltNames ?? defaultNames;
  return tlsSocket({
    common_tls_context: {
      tls_params: tlsParameters(asked, []),
      ...(tls.mode === 'MUTUAL' && {
        tls_certificate_sds_secret_configs: [{ name: certificateName(tls), sds_config: SDS_SOURCE }],
      }),
      ...(tls.insecureSkipVerify !== true && {
        combined_validation_context: {
          default_validation_context: sanMatchers(names),
          validation_context_sds_secret_config: { name: rootName(tls), sds_config: SDS_SOURCE },
        },
      }),
      ...(http2 && { alpn_protocols: ['h2'] }),
    },
    ...((tls.sni ?? '') !== '' && { sni: tls.sni }),
  });
}

function sanMatchers(names: readonly string[]): Json {
  return names.length === 0 ? {} : { match_subject_alt_names: names.map((name) => ({ exact: name })) };
}

function certificateName(tls: ClientTls): string {
  if (tls.credentialName !== undefined) return `kubernetes://${tls.credentialName}`;
  return `file-cert:${tls.clientCertificate}~${tls.privateKey}`;
}

function rootName(tls: ClientTls): string {
  if (tls.credentialName !== undefined) return `kubernetes://${tls.credentialName}-cacert`;
  // Without a bundle of its own a rule trusts what the operating system trusts.
  const root = (tls.caCertificates ?? '') === '' ? 'system' : tls.caCertificates;
  return tls.caCrl === undefined ? `file-root:${root}` : `file-root:${root}~${tls.caCrl}`;
}

export function proxyProtocolSocket(version: 'V1' | 'V2', inner: Json | undefined): Json {
  return {
    name: 'envoy.transport_sockets.upstream_proxy_protocol',
    typed_config: any('envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport', {
      config: { version },
      transport_socket: inner ?? RAW_BUFFER,
    }),
  };
}

/** TLS of connections that arrive: mutual, with the mesh's identity, whoever of the mesh calls. */
import type { Json } from '../resources.ts';
import { extension } from './envoy_json.ts';
import type { MeshConfig } from './mesh.ts';
import { tlsParameters } from './mesh_tls.ts';
import { IDENTITY_SOURCE } from './upstream_tls.ts';

const CIPHERS = [
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'AES256-GCM-SHA384',
  'AES128-GCM-SHA256',
];

/** Identities of the mesh's trust domain and its aliases are accepted. */
export function mutualTlsSocket(http: boolean, { trustDomain, trustDomainAliases, meshTls: asked }: MeshConfig): Json {
  const trustDomains = [trustDomain, ...trustDomainAliases];
  const names = trustDomains.map((domain) => ({ prefix: `spiffe://${domain}/` }));
  return extension('envoy.transport_sockets.tls', 'envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext', {
    common_tls_context: {
      tls_params: tlsParameters(asked, CIPHERS),
      tls_certificate_sds_secret_configs: [{ name: 'default', sds_config: IDENTITY_SOURCE }],
      combined_validation_context: {
        default_validation_context: { match_subject_alt_names: names },
        validation_context_sds_secret_config: { name: 'ROOTCA', sds_config: IDENTITY_SOURCE },
      },
      alpn_protocols: http ? ['h2', 'http/1.1'] : ['istio-peer-exchange', 'h2', 'http/1.1'],
    },
    require_client_certificate: true,
  });
}

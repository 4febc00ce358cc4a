/** TLS versions, ciphers and curves that MeshConfig asks for. Source: istio/api mesh/v1alpha1 MeshConfig.TLSConfig. */
import type { Json } from '../resources.ts';
import { list, message, oneOf, type Read, text } from './shape.ts';

export const MESH_TLS = message({
  minProtocolVersion: oneOf('TLS_AUTO', 'TLSV1_2', 'TLSV1_3'),
  cipherSuites: list(text),
  ecdhCurves: list(text),
});

export type MeshTls = Omit<Read<typeof MESH_TLS>, 'at'>;

/** Of `envoy.extensions.transport_sockets.tls.v3.TlsParameters`; TLS 1.2 to 1.3 where nothing is said. */
export function tlsParameters(asked: MeshTls | undefined, ciphers: readonly string[]): Json {
  const chosen = asked?.cipherSuites ?? ciphers;
  const curves = asked?.ecdhCurves ?? [];
  return {
    tls_minimum_protocol_version: asked?.minProtocolVersion === 'TLSV1_3' ? 'TLSv1_3' : 'TLSv1_2',
    tls_maximum_protocol_version: 'TLSv1_3',
    ...(chosen.length > 0 && { cipher_suites: chosen }),
    ...(curves.length > 0 && { ecdh_curves: curves }),
  };
}

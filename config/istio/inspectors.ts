/** Listener filters that find out what a client speaks. */
import type { Json } from '../resources.ts';
import { extension, seconds } from './envoy_json.ts';
import type { MeshConfig } from './mesh.ts';

/** A chain for what the HTTP inspector finds in plain text. */
export const PLAIN_HTTP: Json = { transport_protocol: 'raw_buffer', application_protocols: ['http/1.1', 'h2c'] };

/** A server that speaks first on an undeclared port waits so long for its client; by default for ever. */
export function byBytes({ protocolDetectionTimeoutMs }: MeshConfig): Json {
  return {
    listener_filters_timeout: seconds(protocolDetectionTimeoutMs),
    continue_on_listener_filters_timeout: true,
  };
}

export function inspector(kind: 'tls' | 'http'): Json {
  const name = `envoy.filters.listener.${kind}_inspector`;
  return kind === 'tls'
    ? extension(name, 'envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector', {
        initial_read_buffer_size: 512,
      })
    : extension(name, 'envoy.extensions.filters.listener.http_inspector.v3.HttpInspector');
}

/** Mutual TLS as a mesh has it: one process is both sidecars, so that a request costs one TLS client and one TLS server. */
import { MeshCa } from '../test/support/mesh_ca.ts';
import { downstreamTls, upstreamTls } from '../test/support/mesh_ca.ts';

const SERVER = 'spiffe://cluster.local/ns/bench/sa/server';
const CLIENT = 'spiffe://cluster.local/ns/bench/sa/client';
const ca = new MeshCa('bench');
const server = ca.issue(SERVER);
const client = ca.issue(CLIENT);

/** tls12: with at most that version. Else 1.3, which istiod asks for; Envoy's own default for clients is 1.2. */
export type Handshakes = 'kept' | 'full' | 'resumed' | 'full-tls12' | 'resumed-tls12';

/** Envoy's client takes a session of TLS 1.3 once only: with fewer it would resume every fourth time. */
const SESSIONS = 100;

/** load → plain listener → mutual TLS → listener at `port` + 1 → plain upstream. full, resumed: a connection each request. */
export function mutualTlsBootstrap(
  port: number,
  upstream: number,
  handshakes: Handshakes,
  serverFilters: readonly object[] = [],
): string {
  const listener = (name: string, at: number, cluster: string, socket: object | undefined): object => ({
    name,
    address: { socket_address: { address: '127.0.0.1', port_value: at } },
    filter_chains: [
      {
        filters: [
          {
            name: 'envoy.filters.network.http_connection_manager',
            typed_config: {
              '@type':
                'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
              stat_prefix: name,
              http_filters: [
                ...(name === 'inbound' ? serverFilters : []),
                {
                  name: 'envoy.filters.http.router',
                  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router' },
                },
              ],
              route_config: {
                name,
                virtual_hosts: [
                  { name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, route: { cluster } }] },
                ],
              },
            },
          },
        ],
        ...(socket !== undefined && { transport_socket: socket }),
      },
    ],
  });
  const cluster = (name: string, to: number, more: object): object => ({
    name,
    type: 'STATIC',
    connect_timeout: '5s',
    load_assignment: {
      cluster_name: name,
      endpoints: [
        { lb_endpoints: [{ endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: to } } } }] },
      ],
    },
    ...more,
  });
  const inbound = downstreamTls({ own: server, roots: ca.pem, prefix: 'spiffe://cluster.local/' });
  const outbound = upstreamTls({
    own: client,
    roots: ca.pem,
    uris: [SERVER],
    newest: handshakes.endsWith('tls12') ? 'TLSv1_2' : 'TLSv1_3',
    // The same key exchange for both: Envoy would take a post-quantum one in TLS 1.3, which costs it 150 µs.
    curves: ['X25519', 'P-256'],
    more: { max_session_keys: handshakes.startsWith('full') ? 0 : SESSIONS },
  });
  return JSON.stringify({
    static_resources: {
      listeners: [listener('outbound', port, 'mesh', undefined), listener('inbound', port + 1, 'upstream', inbound)],
      clusters: [
        cluster('mesh', port + 1, {
          transport_socket: outbound,
          ...(handshakes !== 'kept' && { max_requests_per_connection: 1 }),
        }),
        cluster('upstream', upstream, {}),
      ],
    },
  });
}

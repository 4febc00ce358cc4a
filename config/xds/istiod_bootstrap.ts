/** A bootstrap for a proxy that talks to istiod itself, without an agent beside it: what pilot-agent makes of its environment. */
import { readFileSync } from 'node:fs';
import { ConfigError } from '../../proxy/config_error.ts';
import { ISTIO_STATS_CONFIG } from '../istio/stats_config.ts';
import type { Json } from '../resources.ts';
import { type Environment, istiodNode } from './istiod_node.ts';

/** pilot-agent's name for it: it stands in statistics. */
export const ISTIOD_CLUSTER = 'xds-grpc';
const DEFAULT_ROOTS = '/var/run/secrets/istio/root-cert.pem';
const DEFAULT_TOKEN = '/var/run/secrets/tokens/istio-token';
const TLS = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext';

export interface IstiodOptions {
  /** `istiod.istio-system.svc:15012`; plaintext with port 15010 or `http://`. */
  readonly address: string;
  readonly environment: Environment;
  /** ProxyConfig: PROXY_CONFIG of the environment. */
  readonly proxyConfig: Json;
  readonly podInfo?: string;
}

/** @throws {ConfigError} when the address is none. */
export function istiodBootstrap({ address, environment, proxyConfig, podInfo }: IstiodOptions): Json {
  // What the mesh configures as environment of the proxy.
  const more = (proxyConfig['proxyMetadata'] ?? {}) as Record<string, string>;
  const all = { ...more, ...environment };
  const { host, port, isPlain } = parseAddress(address);
  const source = { ads: {}, initial_fetch_timeout: '0s', resource_api_version: 'V3' };
  return {
    node: istiodNode(all, proxyConfig, podInfo).json,
    layered_runtime: { layers: [{ name: 'admin', admin_layer: {} }] },
    stats_config: ISTIO_STATS_CONFIG,
    dynamic_resources: {
      ads_config: {
        api_type: all['ISTIO_DELTA_XDS'] === 'false' ? 'GRPC' : 'DELTA_GRPC',
        transport_api_version: 'V3',
        set_node_on_first_message_only: true,
        grpc_services: [{ envoy_grpc: { cluster_name: ISTIOD_CLUSTER } }],
      },
      lds_config: source,
      cds_config: source,
    },
    static_resources: {
      clusters: [
        {
          name: ISTIOD_CLUSTER,
          type: 'STRICT_DNS',
          connect_timeout: '1s',
          typed_extension_protocol_options: {
            'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
              '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
          upstream_connection_options: { tcp_keepalive: { keepalive_time: 300 } },
          load_assignment: {
            cluster_name: ISTIOD_CLUSTER,
            endpoints: [
              { lb_endpoints: [{ endpoint: { address: { socket_address: { address: host, port_value: port } } } }] },
            ],
          },
          ...(!isPlain && {
            transport_socket: {
              name: 'envoy.transport_sockets.tls',
              typed_config: {
                '@type': TLS,
                sni: all['ISTIOD_SAN'] || host,
                common_tls_context: {
                  validation_context: { trusted_ca: { filename: all['XDS_ROOT_CA'] || DEFAULT_ROOTS } },
                },
              },
            },
          }),
        },
      ],
    },
  };
}

/** Sent with each stream to istiod: the token, read anew, and XDS_HEADER_*. @throws when there is no token to be read. */
export function istiodHeaders(environment: Environment): () => readonly (readonly [string, string])[] {
  const headers = Object.entries(environment).flatMap(([name, value]): [string, string][] =>
    name.startsWith('XDS_HEADER_') && value !== undefined
      ? [[name.slice('XDS_HEADER_'.length).toLowerCase().replaceAll('_', '-'), value]]
      : [],
  );
  if (environment['PROV_CERT'] || environment['FILE_MOUNTED_CERTS'] === 'true') return () => headers;
  const path = environment['CA_TOKEN_PATH'] || DEFAULT_TOKEN;
  return () => {
    let token: string;
    try {
      token = readFileSync(path, 'utf8').trim();
    } catch (error) {
      throw new Error(`the token ${path} cannot be read (${(error as NodeJS.ErrnoException).code})`, { cause: error });
    }
    return [['authorization', `Bearer ${token}`], ...headers];
  };
}

function parseAddress(text: string): { host: string; port: number; isPlain: boolean } {
  const match = /^(https?:\/\/)?(?:\[([^\]]+)\]|([^:/]+)):(\d{1,5})$/.exec(text);
  const host = match?.[2] ?? match?.[3];
  const port = Number(match?.[4]);
  if (host === undefined || port < 1 || port > 65_535) {
    throw new ConfigError(
      '',
      `Cannot use the discovery address "${text}": HOST:PORT such as istiod.istio-system.svc:15012 is wanted`,
    );
  }
  return { host, port, isPlain: match?.[1] === 'http://' || port === 15_010 };
}

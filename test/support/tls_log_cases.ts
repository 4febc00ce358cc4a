/** A hop with mutual TLS on both sides of a proxy, names of every kind in the certificates, for access logs. */
import { generateKeyPairSync } from 'node:crypto';
import type { Json, Resource } from '../../config/resources.ts';
import { issueCertificate, selfSignedAuthority } from '../../proxy/identity/certificates.ts';
import { der, oid, utf8 } from '../../proxy/identity/der_writer.ts';
import { publicKeyDer } from '../../proxy/identity/keys.ts';
import { httpListener, routeConfig, staticCluster } from './envoy_resources.ts';
import { downstreamTls, type KeyPair, MeshCa, upstreamTls } from './mesh_ca.ts';
import { resource } from './static_source.ts';

const HOUR_MS = 3_600_000;
/** GeneralNames beside URI and DNS (RFC 5280 §4.2.1.6): mail, IPv4, IPv6, a user principal name. */
const RAW_NAMES: readonly Buffer[] = [
  der(0x81, Buffer.from('who@shop.example', 'latin1')),
  der(0x87, Buffer.from([10, 1, 2, 3])),
  der(0x87, Buffer.from('20010db8000000000000000000000001', 'hex')),
  der(0xa0, oid('1.3.6.1.4.1.311.20.2.3'), der(0xa0, utf8('who@principal.example'))),
];

export const ca = new MeshCa('root of tests');

/** Signed by an authority below the root, whose certificate goes along. */
function issued(commonName: string): KeyPair {
  const authority = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  const request = { commonName: 'middle, of tests', organization: 'shop', lifetimeMs: HOUR_MS };
  const above = issueCertificate(
    { ...request, publicKey: publicKeyDer(authority), isAuthority: true, serial: Buffer.from([0x01, 0xab]) },
    ca.issuer,
  );
  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
  const uri = `spiffe://cluster.local/ns/shop/sa/${commonName}`;
  const own = issueCertificate(
    {
      publicKey: publicKeyDer(key),
      commonName,
      organization: 'shop',
      uris: [uri, `${uri}/second`],
      dnsNames: [`${commonName}.example`],
      rawNames: RAW_NAMES,
      lifetimeMs: HOUR_MS,
      serial: Buffer.from([0x0a, 0xbc, 0xde]),
    },
    selfSignedAuthority(authority, request).issuer,
  );
  return { chain: own + above, key: key.export({ type: 'pkcs8', format: 'pem' }) as string };
}

/** Of the client, and of the server behind the proxy. */
export const client = issued('client');
export const server = issued('server');
const proxyServer = issued('proxy');
const proxyClient = issued('caller');

const BOTH_SIDES =
  'TLS_VERSION TLS_CIPHER TLS_GROUP TLS_SESSION_ID PEER_URI_SAN PEER_DNS_SAN PEER_IP_SAN PEER_SUBJECT PEER_ISSUER ' +
  'PEER_CERT PEER_CERT_V_START PEER_CERT_V_END LOCAL_URI_SAN LOCAL_DNS_SAN LOCAL_IP_SAN DETECTED_CLOSE_TYPE LOCAL_CLOSE_REASON';
const DOWNSTREAM =
  'PEER_FINGERPRINT_256 PEER_FINGERPRINT_1 PEER_SERIAL PEER_CHAIN_FINGERPRINTS_256 PEER_CHAIN_FINGERPRINTS_1 ' +
  'PEER_CHAIN_SERIALS PEER_EMAIL_SAN PEER_OTHERNAME_SAN LOCAL_SUBJECT LOCAL_EMAIL_SAN LOCAL_OTHERNAME_SAN ' +
  'PEER_ISSUER_SERIAL PEER_ISSUER_FINGERPRINT_256 HANDSHAKE_DURATION LOCAL_ADDRESS_ENDPOINT_ID DIRECT_LOCAL_ADDRESS_ENDPOINT_ID';
const OTHERS =
  'TLS_JA3_FINGERPRINT TLS_JA4_FINGERPRINT REQUESTED_SERVER_NAME UPSTREAM_SERVER_NAME ROUNDTRIP_DURATION BYTES_RETRANSMITTED ' +
  'PACKETS_RETRANSMITTED UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID UPSTREAM_FILTER_STATE(a) XFCC_VALUE(URI) XFCC_VALUE(Subject) ' +
  'METADATA(LISTENER:a:b) METADATA(LISTENER:a) METADATA(LISTENER_FILTER_CHAIN:a:b) METADATA(VIRTUAL_HOST:a:b) METADATA(DYNAMIC:a:b) ' +
  'METADATA(UPSTREAM_HOST:a:b) METADATA(ROUTE:a:b) TYPED_CEL(request.headers.size()) TYPED_CEL(connection.mtls) ' +
  'CEL(xds.listener_metadata.filter_metadata["a"]["b"]) CEL(xds.virtual_host_metadata.filter_metadata["a"]["b"]) ' +
  'COMMON_DURATION(DS_CX_BEG:DS_CX_END:us)';

/** Without the percent signs. */
export const TLS_COMMANDS: readonly string[] = [
  ...BOTH_SIDES.split(' ').flatMap((name) => [`DOWNSTREAM_${name}`, `UPSTREAM_${name}`]),
  ...DOWNSTREAM.split(' ').map((name) => `DOWNSTREAM_${name}`),
  ...OTHERS.split(' '),
];

/** Durations: whether they are there, and of what size, is all that two proxies can share. */
export const TLS_DURATIONS: readonly string[] = [
  'COMMON_DURATION(DS_CX_BEG:DS_HS_BEG:us)',
  'COMMON_DURATION(DS_HS_BEG:DS_HS_END:us)',
  'COMMON_DURATION(DS_HS_END:DS_RX_BEG:us)',
  'COMMON_DURATION(DS_RX_BEG:DS_RX_HDR_END:us)',
  'COMMON_DURATION(DS_RX_HDR_END:DS_RX_END:us)',
  'COMMON_DURATION(US_CX_BEG:US_CX_END:us)',
  'COMMON_DURATION(US_CX_END:US_HS_END:us)',
  'ROUTE_RESOLUTION_TIME_US',
  // Envoy asks QUIC only, and says 0 of TCP.
  'DOWNSTREAM_CX_RTT',
];

export const VERSIONS = ['TLSv1.3', 'TLSv1.2'] as const;

/** `/TLSv1.3` and `/TLSv1.2` go to the server over that version. */
export function tlsResources(serverPort: number, log: string): Resource[] {
  const metadata = (b: string): Json => ({ filter_metadata: { a: { b } } });
  const routes = routeConfig(
    VERSIONS.map((version) => ({
      match: { prefix: `/${version}` },
      route: { cluster: version },
      metadata: metadata('of the route'),
    })),
  );
  const hosts = (routes['virtual_hosts'] as Json[]).map((host) => ({ ...host, metadata: metadata('of the host') }));
  const plain = httpListener({
    routes: { ...routes, virtual_hosts: hosts },
    manager: {
      forward_client_cert_details: 'APPEND_FORWARD',
      set_current_client_cert_details: { subject: true, uri: true },
      access_log: [
        {
          name: 'envoy.access_loggers.file',
          typed_config: {
            '@type': 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog',
            path: log,
            log_format: {
              text_format_source: {
                inline_string: `${[...TLS_COMMANDS, ...TLS_DURATIONS].map((name, i) => `${i} %${name}%`).join('\t')}\n`,
              },
            },
          },
        },
      ],
    },
  });
  const [chain] = plain.json['filter_chains'] as Json[];
  return [
    resource('listener', {
      ...plain.json,
      metadata: metadata('of the listener'),
      listener_filters: [
        {
          name: 'envoy.filters.listener.tls_inspector',
          typed_config: {
            '@type': 'type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector',
            enable_ja3_fingerprinting: true,
            enable_ja4_fingerprinting: true,
          },
        },
      ],
      filter_chains: [
        {
          ...chain,
          metadata: metadata('of the chain'),
          transport_socket: downstreamTls({ own: proxyServer, roots: ca.pem, alpn: ['http/1.1'] }),
        },
      ],
    }),
    ...VERSIONS.map((version) => {
      const only = version.replace('.', '_');
      return staticCluster(version, [serverPort], {
        transport_socket: upstreamTls({
          own: proxyClient,
          roots: ca.pem,
          alpn: ['http/1.1'],
          common: { tls_params: { tls_minimum_protocol_version: only, tls_maximum_protocol_version: only } },
          more: { sni: 'back.shop' },
        }),
      });
    }),
  ];
}

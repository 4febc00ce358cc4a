/** TLS towards hosts: who is accepted, what is offered, and what happens while a secret is not there. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { dnsName, uriName } from '../../proxy/identity/certificates.ts';
import { der, oid } from '../../proxy/identity/der_writer.ts';
import { certificatesOf } from '../../proxy/net/tls/certificate.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { inlineCertificate, type KeyPair, MeshCa, upstreamTls } from '../support/mesh_ca.ts';
import { fetchText } from '../support/fetch_text.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { LogFile, startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';
import { startTlsUpstream } from '../support/tls_peers.ts';

const ca = new MeshCa();
const other = new MeshCa('other CA');
const BACKEND = 'spiffe://cluster.local/ns/shop/sa/backend';
const FRONTEND = 'spiffe://cluster.local/ns/shop/sa/frontend';
const own = ca.issue(FRONTEND);
const backend = ca.issue(BACKEND);
const toBackend = routeConfig([{ match: { prefix: '/' }, route: { cluster: 'backend' } }]);

async function proxyTo(t: Scope, port: number, cluster: Json, secrets: readonly ReturnType<typeof resource>[] = []) {
  const log = new LogFile(t);
  const proxy = await startTestProxy(t, [
    ...secrets,
    httpListener({
      routes: toBackend,
      manager: { access_log: [log.config('%RESPONSE_CODE% %RESPONSE_FLAGS% %UPSTREAM_TRANSPORT_FAILURE_REASON%\n')] },
    }),
    staticCluster('backend', [port], cluster),
  ]);
  return { proxy, log, get: () => fetchText(proxy.port(), '/') };
}

test('a cluster with TLS shows its certificate, SNI and ALPN, and passes requests', async (t) => {
  const upstream = await startTlsUpstream(t, {
    cert: backend.chain,
    key: backend.key,
    ca: ca.pem,
    requestCert: true,
    ALPNProtocols: ['istio'],
  });
  const { proxy, get } = await proxyTo(t, upstream.port, {
    transport_socket: upstreamTls({
      own,
      roots: ca.pem,
      uris: [BACKEND],
      alpn: ['istio-peer-exchange', 'istio'],
      more: { sni: 'outbound_.80_._.backend.shop.svc.cluster.local' },
    }),
  });
  assert.equal((await get()).body, 'GET / HTTP/1.1');
  assert.deepEqual(upstream.seen, [
    {
      alpn: 'istio',
      servername: 'outbound_.80_._.backend.shop.svc.cluster.local',
      resumed: false,
      peer: `URI:${FRONTEND}`,
    },
  ]);
  await proxy.counted();
  assert.equal(proxy.value('cluster.backend.ssl.handshake'), 1);
  assert.equal(proxy.value('cluster.backend.ssl.versions.TLSv1.3'), 1);
  assert.equal(proxy.value('cluster.backend.ssl.ciphers.TLS_AES_256_GCM_SHA384'), 1);
});

interface Refusal {
  readonly shows: KeyPair;
  readonly wants?: readonly string[];
  readonly validation?: Json;
  readonly reason: RegExp;
  readonly explained: RegExp;
  readonly counted: string;
  /** What the server is told; default certificate_unknown, as by Envoy. */
  readonly alert?: RegExp;
}
const revoked = Buffer.from([0x41, 2, 3]);
const refusals: Readonly<Record<string, Refusal>> = {
  'has another name': {
    shows: ca.issue('spiffe://cluster.local/ns/shop/sa/thief'),
    reason:
      /^TLS_error:\|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_SAN_matcher,_certificate_SANs_are_\[spiffe:\/\/cluster\.local\/ns\/shop\/sa\/thief\]:TLS_error_end$/,
    explained:
      /its certificate is spiffe:\/\/cluster\.local\/ns\/shop\/sa\/thief; wanted is spiffe:\/\/cluster\.local\/ns\/shop\/sa\/backend/,
    counted: 'fail_verify_san',
  },
  'is of another trust domain': {
    shows: ca.issue('spiffe://elsewhere/ns/shop/sa/backend'),
    reason: /SAN_matcher/,
    explained: /spiffe:\/\/elsewhere\/ns\/shop\/sa\/backend/,
    counted: 'fail_verify_san',
  },
  'has expired': {
    shows: ca.issue(BACKEND, { fromMs: Date.now() - 7_200_000, lifetimeMs: 3_600_000 }),
    reason: /verify_cert_failed:_X509_verify_cert:_certificate_verification_error_at_depth_0:_certificate_has_expired/,
    explained: /not accepted: certificate has expired/,
    counted: 'fail_verify_error',
    alert: /ALERT_CERTIFICATE_EXPIRED/,
  },
  'is not valid yet': {
    shows: ca.issue(BACKEND, { fromMs: Date.now() + 3_600_000 }),
    reason: /certificate_is_not_yet_valid/,
    explained: /not yet valid/,
    counted: 'fail_verify_error',
    alert: /ALERT_(?:CERTIFICATE_EXPIRED|BAD_CERTIFICATE)/,
  },
  'signed itself': {
    shows: ca.selfSigned(BACKEND),
    reason: /self-signed_certificate/,
    explained: /self-signed/,
    counted: 'fail_verify_error',
    alert: /ALERT_UNKNOWN_CA/,
  },
  'is signed by another CA': {
    shows: other.issue(BACKEND),
    reason: /unable_to_(?:get_local_issuer|verify_the_first)_certificate/,
    explained: /not accepted/,
    counted: 'fail_verify_error',
    alert: /ALERT_UNKNOWN_CA/,
  },
  'was revoked': {
    shows: ca.issue(BACKEND, { serial: revoked }),
    validation: { crl: { inline_string: ca.revocations([revoked]) } },
    reason: /against_provided_CRLs_failed:_certificate_revoked/,
    explained: /certificate revoked/,
    counted: 'fail_verify_error',
    alert: /ALERT_CERTIFICATE_REVOKED/,
  },
  'has two URI names': {
    shows: ca.issue(BACKEND, { uris: [BACKEND, 'spiffe://cluster.local/ns/shop/sa/other'] }),
    reason: /SAN_matcher/,
    explained: /has 2 URI names/,
    counted: 'fail_verify_san',
  },
  'has the name with a NUL behind it': {
    shows: ca.issue(undefined, { rawNames: [uriName(`${BACKEND}\0.evil`)] }),
    reason: /SAN_matcher/,
    explained: /backend\\x00\.evil/,
    counted: 'fail_verify_san',
  },
  'has the name as DNS name': {
    shows: ca.issue(undefined, { rawNames: [dnsName(BACKEND)] }),
    reason: /SAN_matcher/,
    explained: /wanted is/,
    counted: 'fail_verify_san',
  },
  'has the name as other name': {
    shows: ca.issue(undefined, {
      rawNames: [der(0xa0, oid('1.3.6.1.4.1.311.20.2.3'), der(0xa0, der(0x0c, Buffer.from(BACKEND))))],
    }),
    reason: /SAN_matcher/,
    explained: /wanted is/,
    counted: 'fail_verify_san',
  },
  'has the name in other letters': {
    shows: ca.issue(BACKEND.toUpperCase()),
    reason: /SAN_matcher/,
    explained: /wanted is/,
    counted: 'fail_verify_san',
  },
  'has another public key than the pinned one': {
    shows: ca.issue(BACKEND),
    validation: { verify_certificate_spki: [Buffer.alloc(32, 7).toString('base64')] },
    reason: /cert_hash_and_spki/,
    explained: /none of the hashes/,
    counted: 'fail_verify_cert_hash',
    alert: /ALERT_BAD_CERTIFICATE/,
  },
};

for (const [what, { shows, validation, reason, explained, counted, alert }] of Object.entries(refusals)) {
  test(`a server whose certificate ${what} is refused`, async (t) => {
    const upstream = await startTlsUpstream(t, { cert: shows.chain, key: shows.key });
    const { proxy, log, get } = await proxyTo(t, upstream.port, {
      transport_socket: upstreamTls({ own, roots: ca.pem, uris: [BACKEND], ...(validation && { validation }) }),
    });
    const told = once(upstream.server, 'tlsClientError') as Promise<[NodeJS.ErrnoException]>;
    assert.equal((await get()).status, 503);
    const [code, flags, ...rest] = ((await log.lines(1))[0] as string).split(' ');
    assert.deepEqual([code, flags], ['503', 'UF']);
    assert.match(rest.join(' '), reason);
    await proxy.counted();
    assert.equal(proxy.value(`cluster.backend.ssl.${counted}`), 1);
    assert.equal(proxy.value('cluster.backend.ssl.handshake'), 0);
    assert.match((await told)[0].code ?? '', alert ?? /ALERT_CERTIFICATE_UNKNOWN/);
    const [line = ''] = proxy.warnings;
    assert.match(line, explained);
    assert.match(line, /^tls: Cluster "backend" \(test:1\) at 127\.0\.0\.1:\d+: we offered mutual TLS as spiffe:/);
  });
}

test('a server that speaks plain text is refused, and the log says so', async (t) => {
  const plain = await RawUpstream.start(t, (_, socket) => void socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
  const { proxy, log, get } = await proxyTo(t, plain.port, { transport_socket: upstreamTls({ own, roots: ca.pem }) });
  assert.equal((await get()).status, 503);
  assert.match((await log.lines(1))[0] as string, /^503 UF TLS_error:\|268435703:.*WRONG_VERSION_NUMBER/);
  assert.match(proxy.warnings[0] ?? '', /takes plain text there/);
});

test('a cluster without tls_params speaks TLS 1.2, as Envoy does', async (t) => {
  const upstream = await startTlsUpstream(t, { cert: backend.chain, key: backend.key });
  const transport_socket = upstreamTls({ own, roots: ca.pem, uris: [BACKEND], newest: 'TLS_AUTO' });
  const { proxy, get } = await proxyTo(t, upstream.port, { transport_socket });
  assert.equal((await get()).status, 200);
  await proxy.counted();
  assert.equal(proxy.value('cluster.backend.ssl.versions.TLSv1.2'), 1);
});

for (const newest of ['TLSv1_2', 'TLSv1_3'] as const) {
  test(`requests of one cluster resume their session, until the certificate or the roots change (${newest})`, async (t) => {
    const upstream = await startTlsUpstream(t, {
      cert: backend.chain,
      key: backend.key,
      ca: ca.pem,
      requestCert: true,
    });
    const close = { max_requests_per_connection: 1 };
    const identity = (pair: KeyPair) =>
      resource('secret', { name: 'default', tls_certificate: inlineCertificate(pair) });
    const roots = (pem: string) =>
      resource('secret', { name: 'ROOTCA', validation_context: { trusted_ca: { inline_string: pem } } });
    const cluster = {
      ...close,
      transport_socket: upstreamTls({
        newest,
        common: {
          tls_certificate_sds_secret_configs: [{ name: 'default' }],
          combined_validation_context: {
            default_validation_context: {
              match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { exact: BACKEND } }],
            },
            validation_context_sds_secret_config: { name: 'ROOTCA' },
          },
        },
      }),
    };
    const { proxy, get } = await proxyTo(t, upstream.port, cluster, [identity(own), roots(ca.pem)]);
    const rest = [httpListener({ routes: toBackend }), staticCluster('backend', [upstream.port], cluster)];
    for (let i = 0; i < 3; i++) assert.equal((await get()).status, 200);
    assert.deepEqual(
      upstream.seen.map(({ resumed }) => resumed),
      [false, true, true],
    );
    proxy.set([identity(ca.issue(FRONTEND)), roots(ca.pem), ...rest]);
    await proxy.settled();
    for (let i = 0; i < 2; i++) assert.equal((await get()).status, 200);
    assert.deepEqual(
      upstream.seen.slice(3).map(({ resumed }) => resumed),
      [false, true],
    );
    // Several roots at once: the old peers go on.
    proxy.set([identity(ca.issue(FRONTEND)), roots(`${other.pem}${ca.pem}`), ...rest]);
    await proxy.settled();
    assert.equal((await get()).status, 200);
    assert.equal(upstream.seen.at(-1)?.resumed, false);
    // The roots no longer hold the server's CA: a session made before must not help it.
    proxy.set([identity(own), roots(other.pem), ...rest]);
    await proxy.settled();
    assert.equal((await get()).status, 503);
    assert.ok(proxy.value('cluster.backend.client_ssl_socket_factory.ssl_context_update_by_sds') >= 3);
  });
}

test('a cluster whose secret has not arrived refuses, naming it, and serves once it is there', async (t) => {
  const upstream = await startTlsUpstream(t, { cert: backend.chain, key: backend.key });
  const cluster = {
    transport_socket: upstreamTls({
      common: {
        tls_certificate_sds_secret_configs: [{ name: 'default' }],
        validation_context_sds_secret_config: { name: 'ROOTCA' },
      },
    }),
  };
  const { proxy, log, get } = await proxyTo(t, upstream.port, cluster);
  assert.equal((await get()).status, 503);
  assert.match((await log.lines(1))[0] as string, /secret_"default"_has_not_arrived/);
  await proxy.counted();
  assert.equal(proxy.value('cluster.backend.client_ssl_socket_factory.upstream_context_secrets_not_ready'), 1);
  assert.equal(upstream.seen.length, 0);
  proxy.set([
    resource('secret', { name: 'default', tls_certificate: inlineCertificate(own) }),
    resource('secret', { name: 'ROOTCA', validation_context: { trusted_ca: { inline_string: ca.pem } } }),
    httpListener({ routes: toBackend }),
    staticCluster('backend', [upstream.port], cluster),
  ]);
  await proxy.settled();
  assert.equal((await get()).status, 200);
});

test('a handshake that takes too long is a connect timeout', async (t) => {
  const silent = await RawUpstream.start(t, () => {});
  const { proxy, get } = await proxyTo(t, silent.port, {
    connect_timeout: '0.15s',
    transport_socket: upstreamTls({ own, roots: ca.pem }),
  });
  assert.equal((await get()).status, 503);
  await proxy.counted();
  assert.equal(proxy.value('cluster.backend.upstream_cx_connect_timeout'), 1);
});

test('endpoints are reached in TLS or in the clear as their metadata says', async (t) => {
  const upstream = await startTlsUpstream(t, { cert: backend.chain, key: backend.key });
  const plain = await RawUpstream.start(t, answering('plain'));
  const endpoint = (port: number, labels: Json) => ({
    endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } },
    metadata: { filter_metadata: { 'envoy.transport_socket_match': labels } },
  });
  const { get } = await proxyTo(t, 0, {
    lb_policy: 'ROUND_ROBIN',
    load_assignment: {
      cluster_name: 'backend',
      endpoints: [{ lb_endpoints: [endpoint(upstream.port, { tlsMode: 'istio' }), endpoint(plain.port, {})] }],
    },
    transport_socket_matches: [
      {
        name: 'tlsMode-istio',
        match: { tlsMode: 'istio' },
        transport_socket: upstreamTls({ own, roots: ca.pem, uris: [BACKEND] }),
      },
      {
        name: 'tlsMode-disabled',
        match: {},
        transport_socket: {
          name: 'envoy.transport_sockets.raw_buffer',
          typed_config: { '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer' },
        },
      },
    ],
  });
  const bodies = [(await get()).body, (await get()).body].sort();
  assert.deepEqual(bodies, ['GET / HTTP/1.1', 'plain']);
});

test('auto_sni and auto_san_validation ask for the host of the request', async (t) => {
  const named = ca.issue(undefined, { dnsNames: ['127.0.0.1.example', 'good.example'] });
  const upstream = await startTlsUpstream(t, { cert: named.chain, key: named.key });
  const { proxy } = await proxyTo(t, upstream.port, {
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        upstream_http_protocol_options: { auto_sni: true, auto_san_validation: true },
        explicit_http_config: { http_protocol_options: {} },
      },
    },
    transport_socket: upstreamTls({ roots: ca.pem }),
  });
  assert.equal((await fetchText(proxy.port(), '/', { host: 'good.example:8080' })).status, 200);
  assert.equal((await fetchText(proxy.port(), '/', { host: 'bad.example' })).status, 503);
  assert.equal(upstream.seen[0]?.servername, 'good.example');
  await proxy.counted();
  assert.equal(proxy.value('cluster.backend.ssl.fail_verify_san'), 1);
});

test('ACCEPT_UNTRUSTED takes any certificate', async (t) => {
  const shows = other.selfSigned('spiffe://elsewhere/x');
  const upstream = await startTlsUpstream(t, { cert: shows.chain, key: shows.key });
  const { get } = await proxyTo(t, upstream.port, {
    transport_socket: upstreamTls({ validation: { trust_chain_verification: 'ACCEPT_UNTRUSTED' } }),
  });
  assert.equal((await get()).status, 200);
});

test('a pinned certificate or key is enough', async (t) => {
  const [pinned] = certificatesOf(backend.chain);
  const upstream = await startTlsUpstream(t, { cert: backend.chain, key: backend.key });
  for (const validation of [
    { verify_certificate_hash: [pinned?.fingerprint.toUpperCase().replace(/(..)(?=.)/g, '$1:') ?? ''] },
    { verify_certificate_spki: [pinned?.publicKeyHash ?? ''] },
  ]) {
    const { get } = await proxyTo(t, upstream.port, { transport_socket: upstreamTls({ validation }) });
    assert.equal((await get()).status, 200);
  }
});

test('auto_host_sni sends the endpoint’s host name, and the certificate must name it', async (t) => {
  const named = ca.issue(undefined, { dnsNames: ['db.example'] });
  const upstream = await startTlsUpstream(t, { cert: named.chain, key: named.key });
  const to = (hostname: string): Json => ({
    load_assignment: {
      cluster_name: 'backend',
      endpoints: [
        {
          lb_endpoints: [
            {
              endpoint: {
                hostname,
                address: { socket_address: { address: '127.0.0.1', port_value: upstream.port } },
              },
            },
          ],
        },
      ],
    },
    transport_socket: upstreamTls({ roots: ca.pem, more: { auto_host_sni: true, auto_sni_san_validation: true } }),
  });
  assert.equal((await (await proxyTo(t, upstream.port, to('db.example'))).get()).status, 200);
  assert.equal(upstream.seen[0]?.servername, 'db.example');
  assert.equal((await (await proxyTo(t, upstream.port, to('other.example'))).get()).status, 503);
});

/** Fields of Envoy's TLS contexts beyond the common ones: what each does to real connections. */
import assert from 'node:assert/strict';
import { createHash, createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { connect, type ConnectionOptions } from 'node:tls';
import { buildDownstreamTls } from '../../config/build/tls.ts';
import type { Json } from '../../config/resources.ts';
import { issueCertificate, uriName } from '../../proxy/identity/certificates.ts';
import { der, oid } from '../../proxy/identity/der_writer.ts';
import { FileSecrets } from '../../proxy/identity/file_secrets.ts';
import { publicKeyDer } from '../../proxy/identity/keys.ts';
import { httpListener, routeConfig } from '../support/envoy_resources.ts';
import { findProgram } from '../support/find_program.ts';
import { downstreamTls, inlineCertificate, type KeyPair, keyOf, MeshCa } from '../support/mesh_ca.ts';
import { ocspResponse } from '../support/ocsp_response.ts';
import { runProgram } from '../support/run_program.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';
import { askOverTls } from '../support/tls_peers.ts';

const ca = new MeshCa();
const other = new MeshCa('other CA');
const ID = 'spiffe://cluster.local/ns/shop/sa/frontend';
const own = ca.issue('spiffe://cluster.local/ns/shop/sa/backend');
const client = ca.issue(ID);
const HOUR_MS = 3_600_000;
const TYPE = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3';
const as = ({ chain, key }: KeyPair): ConnectionOptions => ({ cert: chain, key });
const withoutOpenssl = findProgram('openssl') === undefined && 'openssl is not installed: apt-get install openssl';

async function serve(t: Scope, socket: Json) {
  const routes = routeConfig([
    { match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'hello' } } },
  ]);
  const plain = httpListener({ routes });
  const [chain] = plain.json['filter_chains'] as Json[];
  const json = { ...plain.json, stat_prefix: 'test', filter_chains: [{ ...chain, transport_socket: socket }] };
  const files = new FileSecrets({ log() {} });
  const proxy = await startTestProxy(t, [resource('listener', json)], { sources: [files] });
  return { proxy, port: proxy.port() };
}

/** '' where it was let in, else the alert. */
async function asks(port: number, shown: KeyPair | undefined): Promise<string> {
  const { text, error } = await askOverTls(port, shown === undefined ? {} : as(shown));
  return /^HTTP\/1\.1 200/.test(text) ? '' : (error ?? 'no answer');
}

/** A server that shows this TlsCertificate. */
function serverOf(certificate: Json, more: Json = {}): Json {
  const common_tls_context = { tls_certificates: [certificate] };
  return {
    name: 'envoy.transport_sockets.tls',
    typed_config: { '@type': `${TYPE}.DownstreamTlsContext`, common_tls_context, ...more },
  };
}
const refusal = (socket: Json): string => {
  try {
    buildDownstreamTls(socket['typed_config'], 'tls', 'test:1', undefined);
    return '';
  } catch (error) {
    return (error as Error).message;
  }
};

describe('who the peer is', () => {
  const validated = (validation: Json, roots = ca.pem): Json => downstreamTls({ own, roots, validation });
  const expired = ca.issue(ID, { fromMs: Date.now() - 2 * HOUR_MS, lifetimeMs: HOUR_MS });

  test('allow_expired_certificate forgives the time, and nothing else', async (t) => {
    const { port } = await serve(t, validated({ allow_expired_certificate: true }));
    assert.equal(await asks(port, expired), '');
    const forged = other.issue(ID, { fromMs: Date.now() - 2 * HOUR_MS, lifetimeMs: HOUR_MS });
    assert.match(await asks(port, forged), /UNKNOWN_CA/);
    assert.match(await asks((await serve(t, validated({}))).port, expired), /CERTIFICATE_EXPIRED/);
  });

  test('an expired certificate that is allowed resumes its session', async (t) => {
    const { port } = await serve(t, validated({ allow_expired_certificate: true }));
    const first = await askOverTls(port, { ...as(expired), maxVersion: 'TLSv1.2' });
    const session = first.session as Buffer;
    assert.equal((await askOverTls(port, { ...as(expired), maxVersion: 'TLSv1.2', session })).resumed, true);
  });

  // leaf ← lower ← upper ← ca
  const upper = new MeshCa('upper');
  const lower = new MeshCa('lower');
  const signed = (subject: MeshCa, name: string, by: MeshCa, serial?: Buffer): string =>
    issueCertificate(
      {
        publicKey: publicKeyDer(subject.issuer.key),
        organization: name,
        isAuthority: true,
        lifetimeMs: HOUR_MS,
        ...(serial && { serial }),
      },
      by.issuer,
    );
  const lowerSerial = Buffer.from([0x41, 1]);
  const leaf = lower.issue(ID);
  const long: KeyPair = {
    chain: `${leaf.chain}${signed(lower, 'lower', upper, lowerSerial)}${signed(upper, 'upper', ca)}`,
    key: leaf.key,
  };

  test('max_verify_depth counts the certificates above the leaf, the root among them', async (t) => {
    for (const [depth, let_in] of [
      [3, true],
      [2, false],
      [1, false],
    ] as const) {
      const { port } = await serve(t, validated({ max_verify_depth: depth }));
      assert.equal((await asks(port, long)) === '', let_in, `depth ${depth}`);
      assert.equal(await asks(port, client), '');
    }
  });

  test('only_verify_leaf_cert_crl looks for the leaf only', async (t) => {
    const leafSerial = Buffer.from([0x41, 2]);
    const revokedLeaf = lower.issue(ID, { serial: leafSerial });
    const crls = (of: readonly Buffer[]): string =>
      `${lower.revocations(of)}${upper.revocations([lowerSerial])}${ca.revocations([])}`;
    const all = await serve(t, validated({ crl: { inline_string: crls([]) } }));
    assert.match(await asks(all.port, long), /CERTIFICATE_REVOKED/);
    const leafOnly = { crl: { inline_string: crls([leafSerial]) }, only_verify_leaf_cert_crl: true };
    const { port } = await serve(t, validated(leafOnly));
    assert.equal(await asks(port, long), '');
    const above = long.chain.slice(leaf.chain.length);
    assert.match(await asks(port, { ...revokedLeaf, chain: revokedLeaf.chain + above }), /CERTIFICATE_REVOKED/);
  });

  test('a CRL that stands in trusted_ca counts', async (t) => {
    const serial = Buffer.from([0x41, 3]);
    const { port } = await serve(t, downstreamTls({ own, roots: `${ca.pem}${ca.revocations([serial])}` }));
    assert.match(await asks(port, ca.issue(ID, { serial })), /CERTIFICATE_REVOKED/);
    assert.equal(await asks(port, client), '');
  });

  test('ACCEPT_UNTRUSTED wants a certificate, any', async (t) => {
    const { port } = await serve(t, validated({ trust_chain_verification: 'ACCEPT_UNTRUSTED' }));
    assert.equal(await asks(port, other.selfSigned('spiffe://elsewhere/x')), '');
    assert.match(await asks(port, undefined), /CERTIFICATE_REQUIRED/);
  });

  test('names are matched by their kind', async (t) => {
    const UPN = '1.3.6.1.4.1.311.20.2.3';
    const otherName = (id: string): Buffer => der(0xa0, oid(id), der(0xa0, der(0x0c, Buffer.from('alice'))));
    const kinds: Readonly<Record<string, readonly [name: Buffer, wanted: Json]>> = {
      URI: [uriName('spiffe://a/b'), { exact: 'spiffe://a/b' }],
      DNS: [der(0x82, Buffer.from('*.shop.example')), { exact: 'a.shop.example' }],
      EMAIL: [der(0x81, Buffer.from('alice@shop.example')), { suffix: '@shop.example' }],
      IP_ADDRESS: [der(0x87, Buffer.from([10, 1, 2, 3])), { exact: '10.1.2.3' }],
      OTHER_NAME: [otherName(UPN), { prefix: 'ali' }],
    };
    for (const [san_type, [, matcher]] of Object.entries(kinds)) {
      const wanted = { san_type, matcher, ...(san_type === 'OTHER_NAME' && { oid: UPN }) };
      const { port } = await serve(t, validated({ match_typed_subject_alt_names: [wanted] }));
      for (const [kind, [name]] of Object.entries(kinds)) {
        const verdict = await asks(port, ca.issue(undefined, { rawNames: [name] }));
        assert.equal(verdict === '', kind === san_type, `${kind} where ${san_type} is wanted: ${verdict}`);
      }
      if (san_type === 'OTHER_NAME') {
        const verdict = await asks(port, ca.issue(undefined, { rawNames: [otherName('1.2.3.4')] }));
        assert.match(verdict, /CERTIFICATE_UNKNOWN/, 'another kind of other name');
      }
    }
  });

  test('a hash of the certificate or of its key lets in, with or without a CA', async (t) => {
    const certificate = new X509Certificate(client.chain);
    const spki = certificate.publicKey.export({ type: 'spki', format: 'der' });
    const pins: Json[] = [
      { verify_certificate_hash: [certificate.fingerprint256] },
      { verify_certificate_spki: [createHash('sha256').update(spki).digest('base64')] },
    ];
    for (const pin of pins) {
      for (const roots of [ca.pem, undefined]) {
        const socket = downstreamTls({
          own,
          more: {
            require_client_certificate: true,
            common_tls_context: {
              tls_certificates: [inlineCertificate(own)],
              validation_context: { ...pin, ...(roots !== undefined && { trusted_ca: { inline_string: roots } }) },
            },
          },
        });
        const { port } = await serve(t, socket);
        assert.equal(await asks(port, client), '');
        assert.match(await asks(port, ca.issue(ID)), /BAD_CERTIFICATE/);
      }
    }
  });
});

describe('the SPIFFE validator', () => {
  const spiffe = (config: Json, validation: Json = {}): Json =>
    downstreamTls({
      own,
      more: {
        require_client_certificate: true,
        common_tls_context: {
          tls_certificates: [inlineCertificate(own)],
          validation_context: {
            ...validation,
            custom_validator_config: {
              name: 'envoy.tls.cert_validator.spiffe',
              typed_config: { '@type': `${TYPE}.SPIFFECertValidatorConfig`, ...config },
            },
          },
        },
      },
    });
  const domains = {
    trust_domains: [
      { name: 'cluster.local', trust_bundle: { inline_string: ca.pem } },
      { name: 'partner.example', trust_bundle: { inline_string: other.pem } },
    ],
  };

  test('each trust domain has its own roots', async (t) => {
    const { proxy, port } = await serve(t, spiffe(domains));
    assert.equal(await asks(port, client), '');
    assert.equal(await asks(port, other.issue('spiffe://partner.example/ns/a/sa/b')), '');
    // The partner's CA must not speak for us.
    assert.match(await asks(port, other.issue(ID)), /UNKNOWN_CA/);
    assert.match(await asks(port, ca.issue('spiffe://partner.example/ns/a/sa/b')), /UNKNOWN_CA/);
    assert.match(await asks(port, ca.issue('spiffe://unknown.example/ns/a/sa/b')), /CERTIFICATE_UNKNOWN/);
    assert.match(await asks(port, ca.issue(undefined, { dnsNames: ['cluster.local'] })), /CERTIFICATE_UNKNOWN/);
    assert.match(await asks(port, ca.issue(ID, { isAuthority: true })), /CERTIFICATE_UNKNOWN|UNSUPPORTED/);
    assert.match(await asks(port, undefined), /CERTIFICATE_REQUIRED/);
    await proxy.counted();
    assert.equal(proxy.value('listener.test.ssl.fail_verify_error'), 5);
    assert.match(proxy.warnings.join('\n'), /there are no roots of trust domain "unknown\.example"/);
  });

  test('URI matchers, CRLs in a bundle, and expiry', async (t) => {
    const serial = Buffer.from([0x41, 4]);
    const bundle = {
      trust_domains: [
        { name: 'cluster.local', trust_bundle: { inline_string: `${ca.pem}${ca.revocations([serial])}` } },
      ],
    };
    const names = [
      { san_type: 'URI', matcher: { prefix: 'spiffe://cluster.local/ns/shop/' } },
      { san_type: 'DNS', matcher: { exact: 'never.asked' } },
    ];
    const { port } = await serve(t, spiffe(bundle, { match_typed_subject_alt_names: names }));
    assert.equal(await asks(port, client), '');
    assert.match(await asks(port, ca.issue('spiffe://cluster.local/ns/other/sa/a')), /CERTIFICATE_UNKNOWN/);
    assert.match(await asks(port, ca.issue(ID, { serial })), /CERTIFICATE_REVOKED/);
    const old = ca.issue(ID, { fromMs: Date.now() - 2 * HOUR_MS, lifetimeMs: HOUR_MS });
    assert.match(await asks(port, old), /CERTIFICATE_EXPIRED/);
    assert.equal(await asks((await serve(t, spiffe(domains, { allow_expired_certificate: true }))).port, old), '');
  });

  test('trust_bundles are read from a file of SPIFFE bundles', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'pillion-bundles-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const file = join(folder, 'bundles.json');
    const x5c = [new X509Certificate(ca.pem).raw.toString('base64')];
    const keys = [{ kty: 'EC', use: 'x509-svid', x5c }];
    writeFileSync(file, JSON.stringify({ trust_domains: { 'cluster.local': { spiffe_sequence: 1, keys } } }));
    const { port } = await serve(t, spiffe({ trust_bundles: { filename: file } }));
    assert.equal(await asks(port, client), '');
    assert.match(await asks(port, other.issue(ID)), /UNKNOWN_CA/);
  });

  test('another validator, no domain and a domain twice are refused', () => {
    const twice = { trust_domains: [domains.trust_domains[0], domains.trust_domains[0]] };
    assert.match(refusal(spiffe(twice)), /Multiple trust bundles are given for one trust domain for cluster\.local/);
    assert.match(refusal(spiffe({})), /trust_domains: must have at least one item/);
    assert.match(
      refusal(spiffe({ '@type': 'type.googleapis.com/x.Y' })),
      /"type\.googleapis\.com\/x\.Y" is not supported/,
    );
  });
});

describe('what a server shows', () => {
  const fingerprint = (pair: KeyPair): string => new X509Certificate(pair.chain).fingerprint256;
  const shownAt = (port: number): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false }, () => {
        resolve(socket.getPeerX509Certificate()?.fingerprint256 ?? '');
        socket.destroy();
      });
      socket.on('error', reject);
    });

  test('a key behind a password is opened with it, and only with it', async (t) => {
    const key = keyOf(own).export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'opensesame' });
    const certificate = { certificate_chain: { inline_string: own.chain }, private_key: { inline_string: key } };
    const { port } = await serve(t, serverOf({ ...certificate, password: { inline_string: 'opensesame' } }));
    assert.equal(await shownAt(port), fingerprint(own));
    for (const wrong of [{ ...certificate, password: { inline_string: 'wrong' } }, certificate]) {
      const message = refusal(serverOf(wrong as Json));
      assert.match(message, /private_key is no PEM private key, or its password is wrong/);
      assert.doesNotMatch(message, /opensesame|wrong'/);
    }
  });

  for (const rsa of [false, true]) {
    for (const legacy of [false, true]) {
      test(`a PKCS #12 bundle with ${rsa ? 'an RSA' : 'an EC'} key and ${legacy ? '3DES and SHA-1' : 'AES and SHA-256'}`, {
        skip: withoutOpenssl,
      }, async (t) => {
        const folder = mkdtempSync(join(tmpdir(), 'pillion-pkcs12-'));
        t.after(() => rmSync(folder, { recursive: true, force: true }));
        const pair = ca.issue(ID, { rsa });
        const at = (name: string): string => join(folder, name);
        writeFileSync(at('cert.pem'), pair.chain);
        writeFileSync(at('key.pem'), pair.key);
        writeFileSync(at('ca.pem'), ca.pem);
        const old = ['-keypbe', 'PBE-SHA1-3DES', '-certpbe', 'PBE-SHA1-3DES', '-macalg', 'sha1'];
        const parameters = ['-inkey', at('key.pem'), '-in', at('cert.pem'), '-certfile', at('ca.pem')];
        const made = await runProgram('openssl', [
          ...['pkcs12', '-export', '-out', at('bundle.p12'), '-passout', 'pass:opensesame'],
          ...parameters,
          ...(legacy ? old : []),
        ]);
        assert.equal(made.code, 0, made.stderr);
        const password = { inline_string: 'opensesame' };
        const inline = { inline_bytes: readFileSync(at('bundle.p12')).toString('base64') };
        for (const pkcs12 of [inline, { filename: at('bundle.p12') }]) {
          const { port } = await serve(t, serverOf({ pkcs12, password }));
          assert.equal(await shownAt(port), fingerprint(pair));
        }
        assert.match(refusal(serverOf({ pkcs12: inline })), /no PKCS #12 bundle, or its password is wrong/);
        const both = { ...inlineCertificate(pair), pkcs12: inline, password };
        assert.match(refusal(serverOf(both)), /can't have both pkcs12 and certificate_chain/);
        // The CA in the bundle is sent, and trusted by nobody.
        const socket = downstreamTls({
          own,
          more: {
            require_client_certificate: true,
            common_tls_context: {
              tls_certificates: [{ pkcs12: inline, password }],
              validation_context: { trusted_ca: { inline_string: other.pem } },
            },
          },
        });
        assert.match(await asks((await serve(t, socket)).port, client), /UNKNOWN_CA/);
      });
    }
  }

  test('a provider of private keys is refused, unless the plain key may be used instead', async (t) => {
    const provider = (fallback: boolean): Json => ({
      ...inlineCertificate(own),
      private_key_provider: { provider_name: 'cryptomb', fallback },
    });
    assert.match(refusal(serverOf(provider(false))), /private_key_provider: is not supported without fallback: true/);
    const { port } = await serve(t, serverOf(provider(true)));
    assert.equal(await shownAt(port), fingerprint(own));
  });

  /** The OCSP response that a client gets; undefined: none. */
  const stapledAt = (port: number, options: ConnectionOptions = {}): Promise<Buffer | undefined | 'closed'> =>
    new Promise((resolve) => {
      let response: Buffer | undefined;
      const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false, requestOCSP: true, ...options });
      socket.on('OCSPResponse', (bytes: Buffer | null) => {
        response = bytes ?? undefined;
      });
      socket.on('secureConnect', () => {
        resolve(response);
        socket.destroy();
      });
      socket.on('error', () => resolve('closed'));
      socket.on('close', () => resolve('closed'));
    });
  const good = ocspResponse(ca, own, Date.now() + HOUR_MS);
  const over = ocspResponse(ca, own, Date.now() - 60_000);
  const stapling = (staple: Buffer | undefined, policy: string): Json =>
    serverOf(
      { ...inlineCertificate(own), ...(staple && { ocsp_staple: { inline_bytes: staple.toString('base64') } }) },
      { ocsp_staple_policy: policy },
    );

  test('a response is shown to who asks, in TLS 1.2 and 1.3', async (t) => {
    const { proxy, port } = await serve(t, stapling(good, 'LENIENT_STAPLING'));
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
      assert.deepEqual(await stapledAt(port, { maxVersion }), good);
    }
    assert.equal(await shownAt(port), fingerprint(own));
    await proxy.counted();
    assert.equal(proxy.value('listener.test.ssl.ocsp_staple_requests'), 2);
    assert.equal(proxy.value('listener.test.ssl.ocsp_staple_responses'), 2);
  });

  test('openssl s_client takes the response as the authority’s', { skip: withoutOpenssl }, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'pillion-ocsp-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    writeFileSync(join(folder, 'ca.pem'), ca.pem);
    writeFileSync(join(folder, 'staple.der'), good);
    const { port } = await serve(
      t,
      serverOf({ ...inlineCertificate(own), ocsp_staple: { filename: join(folder, 'staple.der') } }),
    );
    const common = ['s_client', '-connect', `127.0.0.1:${port}`, '-CAfile', join(folder, 'ca.pem')];
    const { stdout } = await runProgram('openssl', [...common, '-status']);
    assert.match(stdout, /OCSP Response Status: successful/);
    assert.match(stdout, /Cert Status: good/);
  });

  for (const [policy, action] of [
    ['LENIENT_STAPLING', 'omitted'],
    ['STRICT_STAPLING', 'failed'],
    ['MUST_STAPLE', 'failed'],
  ] as const) {
    test(`${policy} with a response that is over: ${action}`, async (t) => {
      const { proxy, port } = await serve(t, stapling(over, policy));
      assert.equal(await stapledAt(port), action === 'omitted' ? undefined : 'closed');
      // Who does not ask is served.
      assert.equal(await shownAt(port), fingerprint(own));
      await proxy.counted();
      assert.equal(proxy.value('listener.test.ssl.ocsp_staple_requests'), 1);
      assert.equal(proxy.value(`listener.test.ssl.ocsp_staple_${action}`), 1);
    });
  }

  test('STRICT_STAPLING without a response serves; one that never ends is over at once', async (t) => {
    const { port } = await serve(t, stapling(undefined, 'STRICT_STAPLING'));
    assert.equal(await stapledAt(port), undefined);
    const endless = await serve(t, stapling(ocspResponse(ca, own, undefined), 'STRICT_STAPLING'));
    assert.equal(await stapledAt(endless.port), 'closed');
  });

  test('a response that is missing, of another certificate, or none at all is refused', () => {
    assert.match(refusal(stapling(undefined, 'MUST_STAPLE')), /Required OCSP response is missing from TLS context/);
    const foreign = ocspResponse(ca, client, Date.now() + HOUR_MS);
    assert.match(refusal(stapling(foreign, 'LENIENT_STAPLING')), /OCSP response does not match its TLS certificate/);
    assert.match(refusal(stapling(Buffer.from('nothing'), 'LENIENT_STAPLING')), /is no OCSP response in DER/);
    const text = serverOf({ ...inlineCertificate(own), ocsp_staple: { inline_string: 'x' } });
    assert.match(refusal(text), /cannot be provided via inline_string/);
  });

  test('a certificate that demands a staple makes its policy MUST_STAPLE', { skip: withoutOpenssl }, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'pillion-muststaple-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const [cert, key] = [join(folder, 'c.pem'), join(folder, 'k.pem')];
    const made = await runProgram('openssl', [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '1'],
      ...['-subj', '/CN=demanding', '-addext', 'tlsfeature=status_request', '-keyout', key, '-out', cert],
    ]);
    assert.equal(made.code, 0, made.stderr);
    const pair: KeyPair = { chain: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') };
    assert.equal(createPrivateKey(pair.key).asymmetricKeyType, 'ec');
    const demanding = (nextMs: number | undefined): Json =>
      serverOf({
        ...inlineCertificate(pair),
        ...(nextMs !== undefined && {
          ocsp_staple: { inline_bytes: ocspResponse(ca, pair, nextMs).toString('base64') },
        }),
      });
    assert.match(refusal(demanding(undefined)), /OCSP response is required for must-staple certificate/);
    assert.equal(await stapledAt((await serve(t, demanding(Date.now() - 1000))).port), 'closed');
    assert.ok(Buffer.isBuffer(await stapledAt((await serve(t, demanding(Date.now() + HOUR_MS))).port)));
  });
});

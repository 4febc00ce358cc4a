/** TLS on accepted connections: who is let in, what is negotiated, what resumes. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { test } from 'node:test';
import type { ConnectionOptions } from 'node:tls';
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig } from '../support/envoy_resources.ts';
import { downstreamTls, inlineCertificate, type KeyPair, MeshCa } from '../support/mesh_ca.ts';
import { LogFile, startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';
import { askOverTls } from '../support/tls_peers.ts';

const ca = new MeshCa();
const other = new MeshCa('other CA');
const SERVER = 'spiffe://cluster.local/ns/shop/sa/backend';
const CLIENT = 'spiffe://cluster.local/ns/shop/sa/frontend';
const own = ca.issue(SERVER);
const client = ca.issue(CLIENT);
const answer = routeConfig([
  { match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'hello' } } },
]);
const TLS_INSPECTOR = {
  name: 'envoy.filters.listener.tls_inspector',
  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector' },
};

function tlsListener(socket: Json, options: { readonly inspect?: boolean; readonly manager?: Json } = {}): Resource {
  const plain = httpListener({ routes: answer, ...(options.manager && { manager: options.manager }) });
  const [chain] = plain.json['filter_chains'] as Json[];
  return resource('listener', {
    ...plain.json,
    stat_prefix: 'test',
    ...(options.inspect === true && { listener_filters: [TLS_INSPECTOR] }),
    filter_chains: [{ ...chain, transport_socket: socket }],
  });
}

const mutual = downstreamTls({ own, roots: ca.pem, prefix: 'spiffe://cluster.local/', alpn: ['h2', 'http/1.1'] });
const as = (pair: KeyPair): ConnectionOptions => ({ cert: pair.chain, key: pair.key });

async function serve(t: Scope, socket: Json = mutual, inspect = true) {
  const log = new LogFile(t);
  const proxy = await startTestProxy(t, [
    tlsListener(socket, {
      inspect,
      manager: {
        access_log: [
          log.config(
            '%DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_TLS_CIPHER% %DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_LOCAL_URI_SAN% %DOWNSTREAM_PEER_FINGERPRINT_256% "%DOWNSTREAM_PEER_SUBJECT%" %REQUESTED_SERVER_NAME%\n',
          ),
        ],
      },
    }),
  ]);
  return { proxy, log, port: proxy.port() };
}

for (const inspect of [true, false]) {
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    test(`a client with a certificate of the mesh is served (${maxVersion}, ${inspect ? 'inspected' : 'not inspected'})`, async (t) => {
      const { proxy, log, port } = await serve(t, mutual, inspect);
      const { text, alpn } = await askOverTls(
        port,
        {
          ...as(client),
          ca: ca.pem,
          rejectUnauthorized: true,
          checkServerIdentity: () => undefined,
          maxVersion,
          servername: 'shop.example',
          ALPNProtocols: ['http/1.1'],
        },
        undefined,
        'hello',
      );
      assert.match(text, /^HTTP\/1\.1 200 OK/);
      assert.equal(alpn, 'http/1.1');
      const [line = ''] = await log.lines(1);
      const [version, cipher, peer, local, fingerprint, subject, sni] = line.split(' ');
      assert.deepEqual([version, peer, local, subject, sni], [maxVersion, CLIENT, SERVER, '"-"', 'shop.example']);
      assert.equal(cipher, maxVersion === 'TLSv1.2' ? 'ECDHE-ECDSA-AES128-GCM-SHA256' : 'TLS_AES_128_GCM_SHA256');
      assert.match(fingerprint ?? '', /^[0-9a-f]{64}$/);
      await proxy.counted();
      assert.equal(proxy.value('listener.test.ssl.handshake'), 1);
      assert.equal(proxy.value(`listener.test.ssl.versions.${maxVersion}`), 1);
    });
  }
}

const revoked = Buffer.from([0x41, 9]);
const refused: Readonly<
  Record<string, { options: ConnectionOptions; explained: RegExp; counted: string; alert: RegExp }>
> = {
  'without a certificate': {
    options: {},
    explained: /it showed no certificate; wanted is spiffe:\/\/cluster\.local\/\*/,
    counted: 'fail_verify_no_cert',
    alert: /CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE/,
  },
  'of another trust domain': {
    options: as(ca.issue('spiffe://elsewhere/ns/shop/sa/frontend')),
    explained:
      /its certificate is spiffe:\/\/elsewhere\/ns\/shop\/sa\/frontend; wanted is spiffe:\/\/cluster\.local\/\*/,
    counted: 'fail_verify_san',
    alert: /CERTIFICATE_UNKNOWN/,
  },
  'whose certificate signed itself': {
    options: as(other.selfSigned(CLIENT)),
    explained: /self-signed certificate/,
    counted: 'fail_verify_error',
    alert: /UNKNOWN_CA/,
  },
  'with a certificate of another CA': {
    options: as(other.issue(CLIENT)),
    explained: /is not accepted/,
    counted: 'fail_verify_error',
    alert: /UNKNOWN_CA/,
  },
  'whose certificate has expired': {
    options: as(ca.issue(CLIENT, { fromMs: Date.now() - 7_200_000, lifetimeMs: 3_600_000 })),
    explained: /certificate has expired/,
    counted: 'fail_verify_error',
    alert: /CERTIFICATE_EXPIRED/,
  },
  'whose certificate was revoked': {
    options: as(ca.issue(CLIENT, { serial: revoked })),
    explained: /certificate revoked/,
    counted: 'fail_verify_error',
    alert: /CERTIFICATE_REVOKED/,
  },
  'with two URI names': {
    options: as(ca.issue(CLIENT, { uris: [CLIENT, 'spiffe://cluster.local/ns/shop/sa/admin'] })),
    explained: /has 2 URI names/,
    counted: 'fail_verify_san',
    alert: /CERTIFICATE_UNKNOWN/,
  },
};

for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
  for (const [what, { options, explained, counted, alert }] of Object.entries(refused)) {
    test(`a client ${what} is refused (${maxVersion})`, async (t) => {
      const socket = downstreamTls({
        own,
        roots: ca.pem,
        prefix: 'spiffe://cluster.local/',
        ...(what.includes('revoked') && { validation: { crl: { inline_string: ca.revocations([revoked]) } } }),
      });
      const { proxy, port } = await serve(t, socket);
      const { text, error } = await askOverTls(port, { ...options, maxVersion });
      assert.equal(text, '');
      assert.match(error ?? '', alert);
      await proxy.counted();
      assert.equal(proxy.value(`listener.test.ssl.${counted}`), 1);
      assert.equal(proxy.value('listener.test.ssl.handshake'), 0);
      assert.equal(proxy.value('listener.test.downstream_cx_active'), 0);
      assert.match(proxy.warnings[0] ?? '', explained);
      assert.match(
        proxy.warnings[0] ?? '',
        /^tls: Listener "test" \(test:1\): the client 127\.0\.0\.1:\d+ was refused by mutual TLS as spiffe:\/\/cluster\.local\/ns\/shop\/sa\/backend: /,
      );
    });
  }
}

test('ALPN lists that do not overlap are not fatal', async (t) => {
  const { port } = await serve(t);
  const { text, alpn } = await askOverTls(port, { ...as(client), ALPNProtocols: ['istio-peer-exchange', 'istio'] });
  assert.match(text, /^HTTP\/1\.1 200/);
  assert.equal(alpn, false);
});

test('an intermediate among the roots is trusted, as by Envoy', async (t) => {
  const { issueCertificate } = await import('../../proxy/identity/certificates.ts');
  const { publicKeyDer } = await import('../../proxy/identity/keys.ts');
  const between = new MeshCa('between');
  const publicKey = publicKeyDer(between.issuer.key);
  const intermediate = issueCertificate(
    { publicKey, organization: 'between', isAuthority: true, lifetimeMs: 3_600_000 },
    ca.issuer,
  );
  const { port } = await serve(t, downstreamTls({ own, roots: intermediate }));
  assert.match((await askOverTls(port, as(between.issue(CLIENT)))).text, /^HTTP\/1\.1 200/);
  assert.equal((await askOverTls(port, as(ca.issue(CLIENT)))).text, '');
});

test('a ClientHello that comes byte by byte is a ClientHello', async (t) => {
  for (const inspect of [true, false]) {
    const { port } = await serve(t, mutual, inspect);
    const socket = connectTcp(port, '127.0.0.1');
    t.after(() => socket.destroy());
    // The hello in pieces of one byte, whatever follows as it comes.
    let first = true;
    const slowly = new Duplex({
      read() {},
      write(bytes: Buffer, _, done) {
        if (!first) return void socket.write(bytes, done);
        first = false;
        let at = 0;
        const next = (): void => {
          if (at === bytes.length) return done();
          socket.write(bytes.subarray(at, ++at), () => setImmediate(next));
        };
        next();
      },
    });
    socket.setNoDelay(true);
    socket.on('data', (bytes) => slowly.push(bytes));
    socket.on('close', () => slowly.push(null));
    const { text } = await askOverTls(0, { ...as(client), socket: slowly });
    assert.match(text, /^HTTP\/1\.1 200/);
  }
});

test('what is no TLS is refused, and said so', async (t) => {
  for (const inspect of [true, false]) {
    const { proxy, port } = await serve(t, mutual, inspect);
    const socket = connectTcp(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
    const received = await new Promise<string>((resolve) => {
      let text = '';
      socket.on('data', (bytes) => (text += bytes.toString('latin1')));
      socket.on('close', () => resolve(text));
    });
    assert.doesNotMatch(received, /HTTP/);
    await proxy.counted();
    assert.equal(proxy.value('listener.test.ssl.connection_error'), 1);
    assert.match(proxy.warnings[0] ?? '', /handshake with 127\.0\.0\.1:\d+ failed/);
  }
});

test('a handshake that stalls is ended', async (t) => {
  for (const inspect of [true, false]) {
    const plain = tlsListener(mutual, { inspect });
    const [chain] = plain.json['filter_chains'] as Json[];
    const json = {
      ...plain.json,
      listener_filters_timeout: '0.1s',
      filter_chains: [{ ...chain, transport_socket_connect_timeout: '0.1s' }],
    };
    const proxy = await startTestProxy(t, [resource('listener', json)]);
    const socket = connectTcp(proxy.port(), '127.0.0.1');
    socket.on('error', () => {});
    socket.write(Buffer.from([22, 3, 1, 2, 0, 1, 0]));
    await new Promise((resolve) => socket.on('close', resolve));
    await proxy.counted();
    assert.equal(proxy.value('listener.test.downstream_cx_active'), 0);
  }
});

for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
  test(`sessions resume on any thread, until identity or roots change (${maxVersion})`, async (t) => {
    const secrets = (pair: KeyPair, roots: string) => [
      resource('secret', { name: 'default', tls_certificate: inlineCertificate(pair) }),
      resource('secret', { name: 'ROOTCA', validation_context: { trusted_ca: { inline_string: roots } } }),
    ];
    const socket = {
      name: 'envoy.transport_sockets.tls',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
        common_tls_context: {
          tls_certificate_sds_secret_configs: [{ name: 'default' }],
          combined_validation_context: {
            default_validation_context: {
              match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { prefix: 'spiffe://cluster.local/' } }],
            },
            validation_context_sds_secret_config: { name: 'ROOTCA' },
          },
        },
        require_client_certificate: true,
      },
    };
    const proxy = await startTestProxy(t, [tlsListener(socket), ...secrets(own, ca.pem)], { concurrency: 2 });
    let session: Buffer | undefined;
    const ask = async (): Promise<boolean> => {
      const got = await askOverTls(
        proxy.port(),
        { ...as(client), maxVersion, ...(session && { session }) },
        undefined,
        'hello',
      );
      assert.match(got.text, /^HTTP\/1\.1 200/, got.error ?? '');
      session = got.session ?? session;
      return got.resumed;
    };
    assert.equal(await ask(), false);
    let resumed = 0;
    for (let i = 0; i < 40; i++) if (await ask()) resumed++;
    assert.ok(resumed >= 38, `${resumed} of 40 resumed`);
    proxy.set([tlsListener(socket), ...secrets(ca.issue(SERVER), ca.pem)]);
    await proxy.settled();
    assert.equal(await ask(), false, 'with another certificate of ours');
    assert.equal(await ask(), true);
    proxy.set([tlsListener(socket), ...secrets(own, other.pem)]);
    await proxy.settled();
    const last = await askOverTls(proxy.port(), { ...as(client), maxVersion, ...(session && { session }) });
    assert.equal(last.text, '', 'the CA of the client is no longer trusted');
  });
}

test('a session of a chain that asks for no certificate is none for one that does', async (t) => {
  const open = downstreamTls({ own });
  const strict = downstreamTls({ own, roots: ca.pem });
  const first = await startTestProxy(t, [tlsListener(open)]);
  const { session, text } = await askOverTls(first.port(), {}, undefined, 'hello');
  assert.match(text, /200/);
  const given = first.set([tlsListener(strict)]);
  assert.deepEqual(given.rejected, []);
  await first.settled();
  assert.equal((await askOverTls(first.port(), session === undefined ? {} : { session })).text, '');
});

test('TLS 1.1 is refused by default', async (t) => {
  const { port } = await serve(t);
  const { text } = await askOverTls(port, {
    ...as(client),
    minVersion: 'TLSv1.1',
    maxVersion: 'TLSv1.1',
    ciphers: 'DEFAULT@SECLEVEL=0',
  });
  assert.equal(text, '');
});

test('a listener whose secret has not arrived refuses, never in the clear', async (t) => {
  const socket = {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
      common_tls_context: { tls_certificate_sds_secret_configs: [{ name: 'default' }] },
    },
  };
  const { proxy, port } = await serve(t, socket);
  assert.equal((await askOverTls(port, {})).text, '');
  await proxy.counted();
  assert.equal(proxy.value('listener.test.server_ssl_socket_factory.downstream_context_secrets_not_ready'), 1);
  assert.match(proxy.warnings[0] ?? '', /secret "default" has not arrived/);
});

test('curl and openssl s_client are served with a certificate, and refused without', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pillion-tls-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, text] of [
    ['ca.pem', ca.pem],
    ['cert.pem', client.chain],
    ['key.pem', client.key],
  ] as const) {
    writeFileSync(join(folder, name), text);
  }
  const { port } = await serve(t);
  const { runProgram } = await import('../support/run_program.ts');
  if (spawnSync('curl', ['--version']).status === 0) {
    const with_ = ['--cert', join(folder, 'cert.pem'), '--key', join(folder, 'key.pem')];
    const url = `https://127.0.0.1:${port}/`;
    assert.equal((await runProgram('curl', ['-sk', '--http1.1', ...with_, url])).stdout, 'hello');
    assert.notEqual((await runProgram('curl', ['-sk', '--http1.1', url])).code, 0);
  }
  const common = [
    's_client',
    '-connect',
    `127.0.0.1:${port}`,
    '-CAfile',
    join(folder, 'ca.pem'),
    '-quiet',
    '-verify_return_error',
  ];
  const request = 'GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n';
  const good = await runProgram(
    'openssl',
    [...common, '-cert', join(folder, 'cert.pem'), '-key', join(folder, 'key.pem')],
    request,
  );
  assert.match(good.stdout, /^HTTP\/1\.1 200 OK/);
  assert.doesNotMatch((await runProgram('openssl', common, request)).stdout, /HTTP/);
});

test('a client cannot renegotiate (attacks.md row 56)', async (t) => {
  const { connect } = await import('node:tls');
  const { port } = await serve(t);
  const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false, ...as(client), maxVersion: 'TLSv1.2' });
  t.after(() => socket.destroy());
  await once(socket, 'secureConnect');
  const refused = await new Promise<boolean>((resolve) => {
    socket.on('error', () => resolve(true));
    socket.on('close', () => resolve(true));
    socket.renegotiate({}, (error) => resolve(error !== null));
  });
  assert.equal(refused, true);
});

test('a certificate that is not required is judged where it is shown', async (t) => {
  const socket = downstreamTls({ own, roots: ca.pem, more: { require_client_certificate: false } });
  const { proxy, port } = await serve(t, socket);
  assert.match((await askOverTls(port, {})).text, /^HTTP\/1\.1 200/);
  assert.match((await askOverTls(port, as(client))).text, /^HTTP\/1\.1 200/);
  assert.equal((await askOverTls(port, as(other.issue(CLIENT)))).text, '');
  await proxy.counted();
  assert.equal(proxy.value('listener.test.ssl.no_certificate'), 1);
  assert.equal(proxy.value('listener.test.ssl.fail_verify_error'), 1);
});

test('without tickets nothing resumes', async (t) => {
  for (const [more, resumes] of [
    [{ disable_stateless_session_resumption: true }, false],
    [{ session_ticket_keys: { keys: [{ inline_string: 'x'.repeat(80) }] } }, true],
  ] as const) {
    const { port } = await serve(t, downstreamTls({ own, roots: ca.pem, more }));
    const first = await askOverTls(port, { ...as(client), maxVersion: 'TLSv1.2' }, undefined, 'hello');
    const { session } = first;
    assert.ok(session);
    const second = await askOverTls(port, { ...as(client), maxVersion: 'TLSv1.2', session }, undefined, 'hello');
    assert.match(second.text, /200 OK/);
    assert.equal(second.resumed, resumes);
  }
});

test('ticket keys come by SDS, are the same for two proxies, and another key ends old sessions', async (t) => {
  const socket = downstreamTls({
    own,
    roots: ca.pem,
    more: { session_ticket_keys_sds_secret_config: { name: 'tickets' } },
  });
  const keys = (text: string) =>
    resource('secret', { name: 'tickets', session_ticket_keys: { keys: [{ inline_string: text }] } });
  const start = () => startTestProxy(t, [tlsListener(socket)]);
  const [one, two] = await Promise.all([start(), start()]);
  const asked = { ...as(client), maxVersion: 'TLSv1.2' as const };
  assert.equal((await askOverTls(one.port(), asked)).text, '', 'before the keys are there');
  for (const proxy of [one, two]) proxy.set([tlsListener(socket), keys('x'.repeat(80))]);
  await Promise.all([one.settled(), two.settled()]);
  const { session, text } = await askOverTls(one.port(), asked);
  assert.match(text, /^HTTP\/1\.1 200/);
  const resumes = async (proxy: typeof one) =>
    (await askOverTls(proxy.port(), { ...asked, session: session as Buffer })).resumed;
  assert.deepEqual([await resumes(one), await resumes(two)], [true, true]);
  two.set([tlsListener(socket), keys('y'.repeat(80))]);
  await two.settled();
  assert.deepEqual([await resumes(one), await resumes(two)], [true, false]);
});

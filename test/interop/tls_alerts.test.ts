/** What a stranger is told who is refused: openssl's client at Pillion and at a real Envoy, curl, and Envoy as the client. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import type { Json, Resource } from '../../config/resources.ts';
import { startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { fetchText } from '../support/fetch_text.ts';
import { findProgram } from '../support/find_program.ts';
import { downstreamTls, type KeyPair, MeshCa, upstreamTls } from '../support/mesh_ca.ts';
import { runProgram } from '../support/run_program.ts';
import { LogFile, startTestProxy } from '../support/running_proxy.ts';
import { fileScope, type Scope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';

const ca = new MeshCa();
const other = new MeshCa('other CA');
const CLIENT = 'spiffe://cluster.local/ns/shop/sa/frontend';
const server = ca.issue('spiffe://cluster.local/ns/shop/sa/backend');
const revoked = Buffer.from([0x41, 0x21]);
const old = { fromMs: Date.now() - 7_200_000, lifetimeMs: 3_600_000 };

/** RFC 8446 §6.2. */
const CERTIFICATE_REQUIRED = 116;
const clients: Readonly<Record<string, { readonly pair: KeyPair | undefined; readonly alert: number | undefined }>> = {
  good: { pair: ca.issue(CLIENT), alert: undefined },
  'without a certificate': { pair: undefined, alert: CERTIFICATE_REQUIRED },
  'of another trust domain': { pair: ca.issue('spiffe://elsewhere/ns/shop/sa/frontend'), alert: 46 },
  'of another CA': { pair: other.issue(CLIENT), alert: 48 },
  'that signed itself': { pair: other.selfSigned(CLIENT), alert: 48 },
  expired: { pair: ca.issue(CLIENT, old), alert: 45 },
  revoked: { pair: ca.issue(CLIENT, { serial: revoked }), alert: 44 },
};
const routes = routeConfig([
  { match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'served' } } },
]);

function listener(): Resource {
  const plain = httpListener({ name: 'mtls', routes });
  const [chain] = plain.json['filter_chains'] as Json[];
  const transport_socket = downstreamTls({
    own: server,
    roots: ca.pem,
    prefix: 'spiffe://cluster.local/',
    validation: { crl: { inline_string: ca.revocations([revoked]) } },
  });
  return resource('listener', { ...plain.json, filter_chains: [{ ...chain, transport_socket }] });
}

const withoutProgram = (name: string): string | false =>
  findProgram(name) === undefined && `${name} is not installed: apt-get install ${name}`;

type Start = (scope: Scope, resources: readonly Resource[]) => Promise<{ port(name: string): number }>;
const servers: Readonly<Record<string, readonly [start: Start, skip: string | false]>> = {
  Pillion: [async (scope, resources) => startTestProxy(scope, resources), false],
  Envoy: [startEnvoy, withoutEnvoy()],
};

/** PEM files of a pair, as the parameters that `flags` name. */
function pairFiles(
  folder: string,
  name: string,
  pair: KeyPair | undefined,
  flags: readonly [string, string],
): string[] {
  if (pair === undefined) return [];
  const files = [join(folder, `${name}.crt`), join(folder, `${name}.key`)] as const;
  writeFileSync(files[0], pair.chain);
  writeFileSync(files[1], pair.key);
  return [flags[0], files[0], flags[1], files[1]];
}

for (const [program, [start, skip]] of Object.entries(servers)) {
  describe(`at ${program}`, { skip }, () => {
    const scope = fileScope();
    const folder = mkdtempSync(join(tmpdir(), 'pillion-alerts-'));
    scope.after(() => rmSync(folder, { recursive: true, force: true }));
    let port = 0;
    before(async () => {
      port = (await start(scope, [listener()])).port('mtls');
    });
    for (const version of ['-tls1_2', '-tls1_3']) {
      for (const [name, { pair, alert }] of Object.entries(clients)) {
        test(`openssl s_client ${version} ${name} is told ${alert ?? 'nothing'}`, {
          skip: withoutProgram('openssl'),
        }, async () => {
          const shown = pairFiles(folder, 'client', pair, ['-cert', '-key']);
          // In TLS 1.3 a client is told after it may speak: one that writes when the server has gone (EPIPE) reads no alert.
          const listens = version === '-tls1_3' && alert !== undefined;
          const { stdout, stderr } = await runProgram(
            'openssl',
            ['s_client', '-connect', `127.0.0.1:${port}`, version, '-quiet', '-ign_eof', ...shown],
            listens ? '' : 'GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n',
          );
          const told = /SSL alert number (\d+)/.exec(stderr)?.[1];
          // TLS 1.2 has no alert of its own for that (RFC 5246 §7.4.6).
          const expected = alert === CERTIFICATE_REQUIRED && version === '-tls1_2' ? 40 : alert;
          assert.equal(told, expected?.toString(), stderr);
          assert.equal(stdout.includes('served'), alert === undefined);
        });
      }
    }
    test('curl says why it was refused', { skip: withoutProgram('curl') }, async () => {
      for (const [name, words] of [
        ['without a certificate', /handshake failure/],
        ['of another CA', /unknown ca/],
        ['of another trust domain', /certificate unknown/],
      ] as const) {
        // In TLS 1.3 a client may be told after it has begun to speak, and then say something else.
        const shown = pairFiles(folder, 'curl', clients[name]?.pair, ['--cert', '--key']);
        const { code, stderr } = await runProgram('curl', [
          '-sSk',
          '--tls-max',
          '1.2',
          '--http1.1',
          ...shown,
          `https://127.0.0.1:${port}/`,
        ]);
        assert.notEqual(code, 0);
        assert.match(stderr, words, name);
      }
    });
  });
}

test('Envoy as the client logs the alert that Pillion gave', { skip: withoutEnvoy() }, async (t) => {
  const proxy = await startTestProxy(t, [listener()]);
  const log = new LogFile(t);
  const envoy = await startEnvoy(
    t,
    ['of another trust domain', 'of another CA', 'expired'].flatMap((name) => [
      httpListener({
        name,
        routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: name } }]),
        manager: { access_log: [log.config('%UPSTREAM_TRANSPORT_FAILURE_REASON%\n')] },
      }),
      staticCluster(name, [proxy.port('mtls')], {
        transport_socket: upstreamTls({ own: clients[name]?.pair, roots: ca.pem, newest: 'TLSv1_2' }),
      }),
    ]),
  );
  let asked = 0;
  for (const [name, words] of [
    ['of another trust domain', /SSLV3_ALERT_CERTIFICATE_UNKNOWN/],
    ['of another CA', /TLSV1_ALERT_UNKNOWN_CA/],
    ['expired', /SSLV3_ALERT_CERTIFICATE_EXPIRED/],
  ] as const) {
    asked++;
    assert.equal((await fetchText(envoy.port(name), '/')).status, 503);
    assert.match((await log.lines(asked))[asked - 1] ?? '', words);
  }
});

/** Mutual TLS with a real Envoy as either end: the same resources, the same verdicts, the same words. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import type { Json, Resource } from '../../config/resources.ts';
import { startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { fetchText } from '../support/fetch_text.ts';
import { downstreamTls, type KeyPair, MeshCa, upstreamTls } from '../support/mesh_ca.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { fileScope, type Scope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';
import { eventually } from '../support/eventually.ts';

const ca = new MeshCa();
const other = new MeshCa('other CA');
const SERVER = 'spiffe://cluster.local/ns/shop/sa/backend';
const CLIENT = 'spiffe://cluster.local/ns/shop/sa/frontend';
const old = { fromMs: Date.now() - 7_200_000, lifetimeMs: 3_600_000 };
const revoked = Buffer.from([0x41, 5]);
const CRL = { crl: { inline_string: ca.revocations([revoked]) } };

interface Shown {
  readonly pair: KeyPair;
  readonly accepted: boolean;
}
const shownBy = (id: string): Readonly<Record<string, Shown>> => ({
  good: { pair: ca.issue(id), accepted: true },
  'good, RSA': { pair: ca.issue(id, { rsa: true }), accepted: true },
  'wrong SAN': { pair: ca.issue('spiffe://other.domain/ns/shop/sa/x'), accepted: false },
  expired: { pair: ca.issue(id, old), accepted: false },
  'self-signed': { pair: other.selfSigned(id), accepted: false },
  'another CA': { pair: other.issue(id), accepted: false },
  'two wrong SANs': {
    pair: ca.issue(undefined, { dnsNames: ['a.example'], uris: ['spiffe://other.domain/x'] }),
    accepted: false,
  },
  revoked: { pair: ca.issue(id, { serial: revoked }), accepted: false },
});
const servers = shownBy(SERVER);
const clients: Readonly<Record<string, { readonly pair: KeyPair | undefined; readonly accepted: boolean }>> = {
  ...shownBy(CLIENT),
  'no certificate': { pair: undefined, accepted: false },
};

function serverListener(name: string, pair: KeyPair): Resource {
  const routes = routeConfig([
    { match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'served' } } },
  ]);
  const plain = httpListener({ name, routes });
  const [chain] = plain.json['filter_chains'] as Json[];
  const transport_socket = downstreamTls({
    own: pair,
    roots: ca.pem,
    prefix: 'spiffe://cluster.local/',
    alpn: ['h2', 'http/1.1'],
    validation: CRL,
  });
  return resource('listener', { ...plain.json, filter_chains: [{ ...chain, transport_socket }] });
}

function clientResources(name: string, port: number, own: KeyPair | undefined, log: string): Resource[] {
  const transport_socket = upstreamTls({
    own,
    roots: ca.pem,
    uris: [SERVER],
    alpn: ['istio-http/1.1', 'istio', 'http/1.1'],
    ...(name.includes('revoked') && { validation: CRL }),
    more: { sni: 'backend.shop' },
  });
  const access_log = [
    {
      name: 'envoy.access_loggers.file',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog',
        path: log,
        log_format: {
          text_format_source: { inline_string: `${name}\t%RESPONSE_CODE%\t%UPSTREAM_TRANSPORT_FAILURE_REASON%\n` },
        },
      },
    },
  ];
  return [
    httpListener({
      name,
      routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: name } }]),
      manager: { access_log },
    }),
    staticCluster(name, [port], { connect_timeout: '5s', transport_socket }),
  ];
}

type Start = (scope: Scope, resources: readonly Resource[]) => Promise<{ port(name: string): number }>;
const pillion: Start = async (scope, resources) => startTestProxy(scope, resources);
const envoy: Start = startEnvoy;

const pairs: Readonly<Record<string, readonly [client: Start, server: Start]>> = {
  'Pillion to Pillion': [pillion, pillion],
  'Pillion to Envoy': [pillion, envoy],
  'Envoy to Pillion': [envoy, pillion],
};
const reasons = new Map<string, string>();

for (const [ends, [startClient, startServer]] of Object.entries(pairs)) {
  const skip = ends.includes('Envoy') ? withoutEnvoy() : false;
  describe(ends, { skip }, () => {
    const scope = fileScope();
    const folder = mkdtempSync(join(tmpdir(), 'pillion-mtls-'));
    scope.after(() => rmSync(folder, { recursive: true, force: true }));
    const log = join(folder, 'access.log');
    let ask: (name: string) => Promise<{ status: number; body: string }>;
    before(async () => {
      const server = await startServer(
        scope,
        Object.entries(servers).map(([name, { pair }]) => serverListener(name, pair)),
      );
      const client = await startClient(scope, [
        ...Object.entries(servers).flatMap(([name]) =>
          clientResources(`server ${name}`, server.port(name), (clients['good'] as Shown).pair, log),
        ),
        ...Object.entries(clients).flatMap(([name, { pair }]) =>
          clientResources(`client ${name}`, server.port('good'), pair, log),
        ),
      ]);
      ask = (name) => fetchText(client.port(name), '/');
    });
    for (const [side, shown] of [
      ['server', servers],
      ['client', clients],
    ] as const) {
      for (const [name, { accepted }] of Object.entries(shown)) {
        test(`a ${side} certificate that is ${name} is ${accepted ? 'accepted' : 'refused'}`, async () => {
          const { status, body } = await ask(`${side} ${name}`);
          assert.equal(status, accepted ? 200 : 503, body);
          if (accepted) assert.equal(body, 'served');
          if (side === 'server' && !accepted) reasons.set(`${ends} ${name}`, await reasonIn(log, `server ${name}`));
        });
      }
    }
  });
}

test('both give the same reason for refusing a server', { skip: withoutEnvoy() }, () => {
  // Of one that signed itself OpenSSL says so, BoringSSL that it finds no issuer.
  const refused = Object.entries(servers).flatMap(([name, { accepted }]) =>
    accepted || name === 'self-signed' ? [] : [name],
  );
  const of = (ends: string) => refused.map((name) => reasons.get(`${ends} ${name}`));
  assert.deepEqual(of('Pillion to Pillion'), of('Envoy to Pillion'));
});

async function reasonIn(path: string, name: string): Promise<string> {
  let line: string | undefined;
  await eventually(`"${name}" is in the access log`, () => {
    line = readLog(path).find((text) => text.startsWith(`${name}\t`));
    return line !== undefined;
  });
  return line?.split('\t')[2] ?? '';
}

function readLog(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n');
  } catch {
    return [];
  }
}

/** What access logs say of TLS: Pillion's and Envoy's lines of the same client, certificates and server. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import type { ConnectionOptions } from 'node:tls';
import { startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { linesOf } from '../support/log_lines.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { ca, client, server, TLS_COMMANDS, TLS_DURATIONS, tlsResources, VERSIONS } from '../support/tls_log_cases.ts';
import { askOverTls, startTlsUpstream } from '../support/tls_peers.ts';

/** Commands whose answer differs on purpose, or by nature. An entry that no longer differs fails the test. */
const DEVIATIONS: Readonly<Record<string, string>> = {
  UPSTREAM_TLS_SESSION_ID: 'random, of TLS 1.2; OpenSSL makes up none for a session that came in a ticket',
  DOWNSTREAM_HANDSHAKE_DURATION: "Envoy counts from the request's beginning, to what came before it",
  DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID: 'what is empty prints as absent',
  DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID: 'what is empty prints as absent',
  UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID: 'what is empty prints as absent',
};

/** One group and suite each, so that both servers choose the same. */
const CLIENTS: readonly { readonly says: string; readonly group: string; readonly options: ConnectionOptions }[] = [
  {
    says: 'X25519',
    group: 'X25519',
    options: { ecdhCurve: 'X25519:P-256', ciphers: 'TLS_AES_256_GCM_SHA384:ECDHE-ECDSA-AES128-GCM-SHA256' },
  },
  {
    says: 'P-256 and no server name',
    group: 'P-256',
    options: { ecdhCurve: 'P-256', ciphers: 'TLS_AES_128_GCM_SHA256:ECDHE-ECDSA-AES256-GCM-SHA384', servername: '' },
  },
];

const scope = fileScope();
const skip = withoutEnvoy();
let ours: string[][];
let theirs: string[][];
const requests = CLIENTS.flatMap((asked) => VERSIONS.map((version) => ({ ...asked, version })));

before(async () => {
  if (skip !== false) return;
  const folder = mkdtempSync(join(tmpdir(), 'pillion-tls-log-'));
  scope.after(() => rmSync(folder, { recursive: true, force: true }));
  const upstream = await startTlsUpstream(scope, {
    cert: server.chain,
    key: server.key,
    ca: ca.pem,
    requestCert: true,
    ecdhCurve: 'P-256',
  });
  const files = { ours: join(folder, 'ours'), theirs: join(folder, 'theirs') };
  const envoy = await startEnvoy(scope, tlsResources(upstream.port, files.theirs));
  const proxy = await startTestProxy(scope, tlsResources(upstream.port, files.ours));
  for (const { options, version } of requests) {
    for (const port of [envoy.port('test'), proxy.port()]) {
      const answer = await askOverTls(
        port,
        {
          cert: client.chain,
          key: client.key,
          servername: 'front.shop',
          ALPNProtocols: ['http/1.1'],
          minVersion: version,
          maxVersion: version,
          ...options,
        },
        `GET /${version} HTTP/1.1\r\nhost: a.example\r\nx-forwarded-client-cert: By="a,\\"b";URI=spiffe://old\r\n\r\n`,
      );
      assert.match(answer.text, /^HTTP\/1\.1 200/, answer.error ?? '');
    }
  }
  const cells = async (path: string): Promise<string[][]> =>
    (await linesOf(path, requests.length)).map((line) =>
      line.split(/\t(?=\d+ )/).map((cell) => cell.slice(cell.indexOf(' ') + 1)),
    );
  ours = await cells(files.ours);
  theirs = await cells(files.theirs);
});

const usedDeviations = new Set<string>();

for (const [index, { says, version, group }] of requests.entries()) {
  test(`the access log says of ${version} with ${says} what Envoy's says`, { skip }, () => {
    const [our = [], their = []] = [ours[index], theirs[index]];
    const different = TLS_COMMANDS.flatMap((command, i) => {
      if (our[i] === their[i]) return [];
      usedDeviations.add(command);
      return command in DEVIATIONS ? [] : [`${command}: ours "${our[i]}", Envoy's "${their[i]}"`];
    });
    assert.deepEqual(different, []);
    const value = (command: string): string | undefined => our[TLS_COMMANDS.indexOf(command)];
    assert.equal(value('DOWNSTREAM_TLS_GROUP'), group);
    assert.equal(value('UPSTREAM_TLS_GROUP'), 'P-256');
    assert.equal(value('DOWNSTREAM_PEER_CHAIN_SERIALS'), '0abcde,01ab');
    assert.match(value('DOWNSTREAM_HANDSHAKE_DURATION') ?? '', /^\d{1,3}$/);
    for (const [i, command] of TLS_DURATIONS.entries()) {
      for (const cells of [our, their]) assert.match(cells[TLS_COMMANDS.length + i] ?? '', /^\d{1,6}$/, command);
    }
  });
}

test('every deviation from Envoy is one', { skip }, () => {
  assert.deepEqual(
    Object.keys(DEVIATIONS).filter((command) => !usedDeviations.has(command)),
    [],
  );
});

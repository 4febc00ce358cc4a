/** Private keys appear nowhere: in no dump, no statistic, no log line, no complaint. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkResource } from '../../config/build/check.ts';
import type { Json } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { downstreamTls, inlineCertificate, MeshCa, upstreamTls } from '../support/mesh_ca.ts';
import { PillionProcess } from '../support/pillion_process.ts';
import { resource } from '../support/static_source.ts';

const ca = new MeshCa();
const pair = ca.issue('spiffe://cluster.local/ns/shop/sa/web');
const other = ca.issue('spiffe://cluster.local/ns/shop/sa/other');
const TICKET_KEY = Buffer.alloc(80, 'ticket-secret');

/** What betrays a key: any line of its PEM, and the same as base64 of the PEM. */
const pieces = [pair, other].flatMap(({ key }) => [
  ...key.split('\n').filter((line) => line !== '' && !line.startsWith('-----')),
  Buffer.from(key).toString('base64').slice(60, 120),
]);

function assertNoKey(text: string, where: string): void {
  for (const piece of pieces) assert.ok(!text.includes(piece), `${where} holds a piece of a key`);
  assert.ok(!text.includes(TICKET_KEY.toString('base64').slice(0, 40)), `${where} holds a ticket key`);
  assert.ok(!text.includes('PRIVATE KEY'), `${where} holds the head of a key`);
}

const routes = routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]);

test('no answer of the admin interface and no log line holds a key', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pillion-keys-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const plain = httpListener({ routes });
  const [chain] = plain.json['filter_chains'] as Json[];
  const bytes = Buffer.from(other.key).toString('base64');
  const bootstrap = {
    static_resources: {
      listeners: [
        {
          ...plain.json,
          filter_chains: [
            {
              ...chain,
              transport_socket: downstreamTls({
                own: pair,
                roots: ca.pem,
                more: { session_ticket_keys: { keys: [{ inline_bytes: TICKET_KEY.toString('base64') }] } },
              }),
            },
          ],
        },
      ],
      clusters: [
        staticCluster('up', [1], { transport_socket: upstreamTls({ own: pair, roots: ca.pem }) }).json,
        staticCluster('named', [1], {
          transport_socket: upstreamTls({
            common: {
              tls_certificate_sds_secret_configs: [{ name: 'named' }],
              validation_context: { trusted_ca: { inline_string: ca.pem } },
            },
          }),
        }).json,
      ],
      secrets: [
        {
          name: 'named',
          tls_certificate: { certificate_chain: { inline_string: other.chain }, private_key: { inline_bytes: bytes } },
        },
        { name: 'generic', generic_secret: { secret: { inline_string: other.key } } },
      ],
    },
  };
  const path = join(folder, 'bootstrap.json');
  writeFileSync(path, JSON.stringify(bootstrap));
  const process = new PillionProcess(t, [
    ...['run', '-c', path, '--concurrency', '1', '-l', 'trace', '--admin', '127.0.0.1:0'],
    ...['--status', '127.0.0.1:0', '--metrics', '127.0.0.1:0'],
  ]);
  const [, port] = await process.until(/admin listens on 127\.0\.0\.1:(\d+)/);
  for (const query of [
    'config_dump?include_eds',
    'certs',
    'clusters?format=json',
    'listeners',
    'stats',
    'server_info',
  ]) {
    const answer = await fetch(`http://127.0.0.1:${port}/${query}`);
    const text = await answer.text();
    assert.equal(answer.status, 200, query);
    assertNoKey(text, query);
    if (query.startsWith('config_dump')) {
      assert.ok(text.includes(ca.pem.split('\n')[2] ?? '-'), 'certificates stay readable');
    }
  }
  assertNoKey(process.stdout + process.stderr, 'the log');
});

test('no complaint about a resource holds a key', () => {
  const context = (certificate: Json): Json => ({
    transport_socket: upstreamTls({ common: { tls_certificates: [certificate] } }),
  });
  const good = inlineCertificate(pair);
  const wrong: Readonly<Record<string, Json>> = {
    'another key': { ...good, private_key: { inline_string: other.key } },
    'a cut key': { ...good, private_key: { inline_string: pair.key.slice(0, 120) } },
    'a key where a message is wanted': { ...good, private_key: pair.key },
    'a key as a number': { ...good, private_key: { inline_string: 7, inline_bytes: [pair.key] } },
    'a key as a file name': { ...good, private_key: { filename: '', environment_variable: pair.key } },
    'a key as the chain': { certificate_chain: { inline_string: pair.key }, private_key: good['private_key'] },
    'a key as the password': { ...good, password: pair.key },
  };
  for (const [says, certificate] of Object.entries(wrong)) {
    const error = checkResource(staticCluster('up', [1], context(certificate)));
    assert.ok(error !== undefined, says);
    assertNoKey(`${error.message} ${error.stack}`, says);
    const secret = checkResource(resource('secret', { name: 'a', tls_certificate: certificate }));
    assert.ok(secret !== undefined, says);
    assertNoKey(`${secret.message} ${secret.stack}`, says);
  }
});

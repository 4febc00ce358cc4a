/** Certificates in files that change under traffic: the next connection has the new one, and no open one is lost. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import { test } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { FileSecrets } from '../../proxy/identity/file_secrets.ts';
import { httpListener, routeConfig } from '../support/envoy_resources.ts';
import { type KeyPair, MeshCa } from '../support/mesh_ca.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';

const ca = new MeshCa();
const SERVER = 'spiffe://cluster.local/ns/shop/sa/web';
const client = ca.issue('spiffe://cluster.local/ns/shop/sa/client');

async function startWithFiles(t: Scope, concurrency: number, named = false) {
  const folder = mkdtempSync(join(tmpdir(), 'pillion-rotation-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const at = (name: string): string => join(folder, name);
  const put = (name: string, text: string): void => {
    writeFileSync(at(`${name}.new`), text);
    renameSync(at(`${name}.new`), at(name));
  };
  const write = ({ chain, key }: KeyPair): void => {
    put('cert.pem', chain);
    put('key.pem', key);
  };
  const first = ca.issue(SERVER, { serial: Buffer.from([0x41, 1]) });
  write(first);
  put('ca.pem', ca.pem);
  const answer = [{ match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'hello' } } }];
  const plain = httpListener({ routes: routeConfig(answer) });
  const [chain] = plain.json['filter_chains'] as Json[];
  const certificate = { certificate_chain: { filename: at('cert.pem') }, private_key: { filename: at('key.pem') } };
  const socket: Json = {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
      common_tls_context: {
        ...(named ? { tls_certificate_sds_secret_configs: [{ name: 'own' }] } : { tls_certificates: [certificate] }),
        validation_context: { trusted_ca: { filename: at('ca.pem') } },
      },
      require_client_certificate: true,
    },
  };
  const listener = resource('listener', {
    ...plain.json,
    stat_prefix: 'test',
    filter_chains: [{ ...chain, transport_socket: socket }],
  });
  const lines: string[] = [];
  const files = new FileSecrets({ log: (_level, message) => lines.push(message), debounceMs: 20 });
  const secrets = named ? [resource('secret', { name: 'own', tls_certificate: certificate })] : [];
  const proxy = await startTestProxy(t, [...secrets, listener], { sources: [files], concurrency });
  return { proxy, write, put, lines };
}

async function open(t: Scope, port: number, shown = client): Promise<TLSSocket> {
  const socket = connect({ port, host: '127.0.0.1', rejectUnauthorized: false, cert: shown.chain, key: shown.key });
  t.after(() => socket.destroy());
  await once(socket, 'secureConnect');
  return socket;
}

async function ask(socket: TLSSocket): Promise<string> {
  socket.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
  let text = '';
  while (!text.endsWith('hello')) {
    const [bytes] = (await once(socket, 'data')) as [Buffer];
    text += bytes.toString('latin1');
  }
  return text.slice(0, 12);
}

const serialOf = (socket: TLSSocket): string => socket.getPeerX509Certificate()?.serialNumber ?? '';

/** New connections until one shows another certificate than `before`; bounded by the test's own time. */
async function nextCertificate(t: Scope, port: number, before: string): Promise<TLSSocket> {
  for (;;) {
    const socket = await open(t, port);
    if (serialOf(socket) !== before) return socket;
    socket.destroy();
  }
}

for (const named of [false, true])
  test(`a new certificate holds for new connections, and open ones go on (${named ? 'in a secret' : 'in the listener'})`, {
    timeout: 60_000,
  }, async (t) => {
    const { proxy, write } = await startWithFiles(t, 2, named);
    const port = proxy.port();
    const old = await Promise.all([1, 2, 3, 4].map(() => open(t, port)));
    for (const socket of old) assert.equal(await ask(socket), 'HTTP/1.1 200');
    write(ca.issue(SERVER, { serial: Buffer.from([0x41, 2]) }));
    const fresh = await nextCertificate(t, port, serialOf(old[0] as TLSSocket));
    assert.equal(serialOf(fresh), '4102');
    assert.equal(await ask(fresh), 'HTTP/1.1 200');
    for (const socket of old) assert.equal(await ask(socket), 'HTTP/1.1 200', 'a connection of before the change');
  });

test('a key that does not fit its certificate changes nothing', { timeout: 60_000 }, async (t) => {
  const { proxy, put, write } = await startWithFiles(t, 1);
  const port = proxy.port();
  const before = serialOf(await open(t, port));
  put('key.pem', ca.issue(SERVER).key);
  // Until the half of the change has arrived.
  while (!proxy.warnings.some((line) => line.includes('cannot be used'))) {
    const socket = await open(t, port);
    assert.equal(serialOf(socket), before);
    assert.equal(await ask(socket), 'HTTP/1.1 200');
    socket.destroy();
  }
  write(ca.issue(SERVER, { serial: Buffer.from([0x41, 3]) }));
  assert.equal(serialOf(await nextCertificate(t, port, before)), '4103');
});

test('roots that are replaced shut out the old CA, with both the migration loses nobody', {
  timeout: 60_000,
}, async (t) => {
  const { proxy, put } = await startWithFiles(t, 1);
  const next = new MeshCa('next');
  const newcomer = next.issue('spiffe://cluster.local/ns/shop/sa/new');
  const accepted = async (shown: KeyPair): Promise<boolean> => {
    const socket = await open(t, proxy.port(), shown);
    socket.on('error', () => {});
    // With an alert before, or without.
    const closed = new Promise<boolean>((resolve) => socket.once('close', () => resolve(false)));
    const answered = ask(socket).then(
      () => true,
      () => false,
    );
    const result = await Promise.race([answered, closed]);
    socket.destroy();
    return result;
  };
  assert.equal(await accepted(newcomer), false);
  put('ca.pem', `${ca.pem}${next.pem}`);
  while (!(await accepted(newcomer)));
  assert.equal(await accepted(client), true);
  put('ca.pem', next.pem);
  while (await accepted(client));
  assert.equal(await accepted(newcomer), true);
});

test('a file that is not there refuses, and is named', { timeout: 60_000 }, async (t) => {
  const { proxy, lines } = await startWithFiles(t, 1);
  const plain = httpListener({ routes: routeConfig([]) });
  const [chain] = plain.json['filter_chains'] as Json[];
  const files = { certificate_chain: { filename: '/nowhere/cert.pem' }, private_key: { filename: '/nowhere/key.pem' } };
  proxy.set([
    resource('listener', {
      ...plain.json,
      name: 'missing',
      filter_chains: [
        {
          ...chain,
          transport_socket: {
            name: 'envoy.transport_sockets.tls',
            typed_config: {
              '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
              common_tls_context: { tls_certificates: [files] },
            },
          },
        },
      ],
    }),
  ]);
  while (!proxy.running.addresses.has('missing')) await proxy.settled();
  const socket = connect({ port: proxy.port('missing'), host: '127.0.0.1', rejectUnauthorized: false });
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
  assert.equal(error.code, 'ECONNRESET');
  assert.ok(lines.some((line) => line.includes('/nowhere/cert.pem cannot be read')));
  await proxy.counted();
  assert.match(proxy.warnings.join('\n'), /was refused: file \/nowhere\/cert\.pem has not been read/);
});

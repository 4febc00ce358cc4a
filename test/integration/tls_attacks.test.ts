/** attacks.md part D, what the other TLS tests leave: rows 54 to 56 on real sockets. */
import assert from 'node:assert/strict';
import { connect as connectTcp } from 'node:net';
import { describe, test } from 'node:test';
import type { ConnectionOptions } from 'node:tls';
import type { Json } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { fetchText } from '../support/fetch_text.ts';
import { downstreamTls, type KeyPair, MeshCa, upstreamTls } from '../support/mesh_ca.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';
import { askOverTls, startTlsUpstream } from '../support/tls_peers.ts';

const ca = new MeshCa();
const own = ca.issue('spiffe://cluster.local/ns/shop/sa/backend');
const FRONTEND = 'spiffe://cluster.local/ns/shop/sa/frontend';
const client = ca.issue(FRONTEND);
const INSPECTOR = 'type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector';
const as = ({ chain, key }: KeyPair): ConnectionOptions => ({ cert: chain, key });
const answering = (body: string) =>
  routeConfig([{ match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: body } } }]);

/** One listener with a chain for each server name: its transport socket, and its name as the answer. */
async function chains(t: Scope, sockets: Readonly<Record<string, Json>>) {
  const filter_chains = Object.entries(sockets).map(([name, transport_socket]) => {
    const [chain] = httpListener({ routes: answering(name) }).json['filter_chains'] as Json[];
    return { ...chain, name, filter_chain_match: { server_names: [name] }, transport_socket };
  });
  const listener = httpListener({ routes: answering('') }).json;
  const json = {
    ...listener,
    stat_prefix: 'test',
    listener_filters: [{ name: 'envoy.filters.listener.tls_inspector', typed_config: { '@type': INSPECTOR } }],
    filter_chains,
  };
  const proxy = await startTestProxy(t, [resource('listener', json)]);
  return { proxy, port: proxy.port() };
}

describe('row 54: names that look like another', () => {
  test('a server name in other letters chooses the chain of that name', async (t) => {
    const { port } = await chains(t, {
      'shop.example': downstreamTls({ own }),
      'other.example': downstreamTls({ own }),
    });
    for (const servername of ['shop.example', 'SHOP.example', 'Shop.Example']) {
      assert.match((await askOverTls(port, { servername }, undefined, 'shop.example')).text, /shop\.example$/);
    }
    assert.equal((await askOverTls(port, { servername: 'shop\u3002example' })).text, '');
  });
});

describe('row 55: a session stays where it was made', () => {
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    test(`a session of a chain for many is none at a chain for one (${maxVersion})`, async (t) => {
      const { proxy, port } = await chains(t, {
        'open.example': downstreamTls({ own, roots: ca.pem, prefix: 'spiffe://cluster.local/' }),
        'strict.example': downstreamTls({ own, roots: ca.pem, prefix: 'spiffe://cluster.local/ns/bank/' }),
      });
      const shown = { ...as(client), maxVersion };
      const open = { ...shown, servername: 'open.example' };
      const first = await askOverTls(port, open, undefined, 'open.example');
      const session = first.session as Buffer;
      const again = await askOverTls(port, { ...open, session }, undefined, 'open.example');
      assert.equal(again.resumed, true);
      const strict = await askOverTls(port, { ...shown, servername: 'strict.example', session });
      assert.match(strict.error ?? '', /CERTIFICATE_UNKNOWN/);
      assert.equal(strict.text, '');
      await proxy.counted();
      assert.equal(proxy.value('listener.test.ssl.fail_verify_san'), 1);
    });

    test(`a session of one cluster helps no other that wants another name (${maxVersion})`, async (t) => {
      const server = await startTlsUpstream(t, { cert: own.chain, key: own.key, maxVersion });
      const cluster = (name: string, wanted: string) =>
        staticCluster(name, [server.port], {
          max_requests_per_connection: 1,
          transport_socket: upstreamTls({ own: client, roots: ca.pem, uris: [wanted] }),
        });
      const routes = routeConfig(
        ['right', 'wrong'].map((name) => ({ match: { prefix: `/${name}` }, route: { cluster: name } })),
      );
      const proxy = await startTestProxy(t, [
        httpListener({ routes }),
        cluster('right', 'spiffe://cluster.local/ns/shop/sa/backend'),
        cluster('wrong', 'spiffe://cluster.local/ns/bank/sa/vault'),
      ]);
      for (let i = 0; i < 3; i++) assert.equal((await fetchText(proxy.port(), '/right')).status, 200);
      assert.deepEqual(
        server.seen.map(({ resumed }) => resumed),
        [false, true, true],
      );
      assert.equal((await fetchText(proxy.port(), '/wrong')).status, 503);
      assert.equal((await fetchText(proxy.port(), '/right')).status, 200);
      assert.equal(server.seen.at(-1)?.resumed, true);
    });
  }
});

describe('row 56: hellos that are odd', () => {
  test('a client that knows TLS 1.3 only finds the chain of its name', async (t) => {
    const { port } = await chains(t, {
      'shop.example': downstreamTls({ own }),
      'other.example': downstreamTls({ own }),
    });
    const options: ConnectionOptions = { minVersion: 'TLSv1.3', servername: 'other.example' };
    assert.match((await askOverTls(port, options, undefined, 'other.example')).text, /other\.example$/);
  });

  test('a hello with an empty, a long or an odd name closes its own connection only', async (t) => {
    const { proxy, port } = await chains(t, { 'shop.example': downstreamTls({ own }) });
    for (const name of ['', 'a'.repeat(5000), 'shop.example\0', '\xff\xfe', 'constructor', '__proto__']) {
      const socket = connectTcp(port, '127.0.0.1');
      socket.on('error', () => {});
      socket.write(hello(Buffer.from(name, 'latin1')));
      socket.end();
      await new Promise((resolve) => socket.on('close', resolve).resume());
    }
    const { text } = await askOverTls(port, { servername: 'shop.example' }, undefined, 'shop.example');
    assert.match(text, /shop\.example$/);
    assert.deepEqual(proxy.errors, []);
  });
});

/** A ClientHello of TLS 1.2 with this server name and one cipher. RFC 5246 §7.4.1.2, RFC 6066 §3. */
function hello(name: Buffer): Buffer {
  const sized = (bytes: number, body: Buffer): Buffer => {
    const length = Buffer.alloc(bytes);
    length.writeUIntBE(body.length, 0, bytes);
    return Buffer.concat([length, body]);
  };
  const extension = Buffer.concat([
    Buffer.from([0, 0]),
    sized(2, sized(2, Buffer.concat([Buffer.from([0]), sized(2, name)]))),
  ]);
  const body = Buffer.concat([
    Buffer.from([3, 3]),
    Buffer.alloc(32),
    Buffer.from([0, 0, 2, 0xc0, 0x2b, 1, 0]),
    sized(2, extension),
  ]);
  return Buffer.concat([Buffer.from([22, 3, 1]), sized(2, Buffer.concat([Buffer.from([1]), sized(3, body)]))]);
}

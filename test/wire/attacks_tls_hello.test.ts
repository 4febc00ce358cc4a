/**
 * Row 56 of attacks.md: server names and protocol lists that no TLS library likes, mutated hellos, and clients of TLS 1.3
 * only, with and without a listener filter that looks first. Each costs its own connection, and the right chain answers.
 */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { before, describe, test } from 'node:test';
import type { Json, Resource } from '../../config/resources.ts';
import { type HelloOptions, helloMessage, records } from '../support/client_hello.ts';
import { httpListener, routeConfig } from '../support/envoy_resources.ts';
import { downstreamTls, MeshCa } from '../support/mesh_ca.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';
import { askOverTls } from '../support/tls_peers.ts';

const scope = fileScope();
const own = new MeshCa().issue('spiffe://cluster.local/ns/shop/sa/web');
const tls = downstreamTls({ own, alpn: ['h2', 'http/1.1'] });
const INSPECTOR: Json = {
  name: 'envoy.filters.listener.tls_inspector',
  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector' },
};
let proxy: TestProxy;

/** A chain for shop.example (201), one for everything else (202). */
function listener(inspected: boolean): Resource {
  const chain = (status: number, match: Json): Json => {
    const { json } = httpListener({ routes: routeConfig([{ match: { prefix: '/' }, direct_response: { status } }]) });
    const [only] = json['filter_chains'] as Json[];
    return { ...only, transport_socket: tls, filter_chain_match: match };
  };
  return resource('listener', {
    name: inspected ? 'inspected' : 'bare',
    stat_prefix: inspected ? 'inspected' : 'bare',
    address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
    ...(inspected && { listener_filters: [INSPECTOR] }),
    filter_chains: inspected ? [chain(201, { server_names: ['shop.example'] }), chain(202, {})] : [chain(202, {})],
  });
}

before(async () => {
  proxy = await startTestProxy(scope, [listener(true), listener(false)]);
});

/** What comes back until the proxy closes. */
async function send(port: number, bytes: Buffer): Promise<Buffer> {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => {});
  const parts: Buffer[] = [];
  socket.on('data', (part: Buffer) => parts.push(part));
  socket.end(bytes);
  await new Promise((resolve) => socket.once('close', resolve));
  return Buffer.concat(parts);
}

const extension = (type: number, body: readonly number[]): HelloOptions => ({
  extensions: [[type, Buffer.from(body)]],
});
const HELLOS: Readonly<Record<string, HelloOptions>> = {
  'an empty server name': { serverName: '' },
  'a server name of 65,000 bytes': { serverName: 'a'.repeat(65_000) },
  'a server name with a NUL': { serverName: 'shop.example\0.evil' },
  'a server name with a line end': { serverName: 'shop.example\r\nx: y' },
  'a server name that is no ASCII': { serverName: '\u00ff\u00fe.example' },
  'a server name that is an address': { serverName: '127.0.0.1' },
  'a server name of dots': { serverName: '....' },
  'a list of server names that lies about its length': extension(0, [0xff, 0xff, 0, 0, 1, 97]),
  'a server name of an unknown kind': extension(0, [0, 4, 9, 0, 1, 97]),
  'an empty list of protocols': extension(16, [0, 0]),
  'a protocol without a name': { applicationProtocols: [''] },
  'a protocol name of 255 bytes': { applicationProtocols: ['x'.repeat(255)] },
  'a protocol name of control characters': { applicationProtocols: ['\0\r\n\x1b[31m'] },
  'a list of protocols that lies about its length': extension(16, [0, 9, 2, 104, 50]),
  '2,000 protocols': { applicationProtocols: Array.from({ length: 2000 }, (_, index) => `p${index}`) },
  'no extensions at all': { noExtensions: true },
  'a version of the future': { version: 0x7f7f },
  'no cipher that anybody knows': { suites: [0x2a2a] },
};

async function servesOn(port: number, servername: string, status: number): Promise<void> {
  const { text } = await askOverTls(port, { servername, minVersion: 'TLSv1.3', ALPNProtocols: ['http/1.1'] });
  assert.match(text, new RegExp(`^HTTP/1.1 ${status} `));
}

for (const name of ['inspected', 'bare'] as const) {
  describe(name === 'bare' ? 'without a listener filter' : 'behind tls_inspector', () => {
    for (const [says, hello] of Object.entries(HELLOS)) {
      test(`${says} costs one connection`, async () => {
        const answer = await send(proxy.port(name), records(helloMessage(hello)));
        // A TLS alert or server hello, or nothing: never an answer in the clear.
        assert.ok(answer.length === 0 || answer[0] === 21 || answer[0] === 22, answer.toString('latin1'));
        assert.deepEqual(proxy.errors, []);
      });
    }

    test('a client that ends in the middle of its hello is let go at once', async () => {
      const hello = records(helloMessage({ serverName: 'shop.example' }));
      // The record says that more will come; the handshake may take 15 s.
      hello.writeUInt16BE(hello.readUInt16BE(3) + 20, 3);
      // Before the time for handshakes is over.
      await send(proxy.port(name), hello);
      await send(proxy.port(name), hello.subarray(0, 50));
      for (const timeout of ['pre_cx_timeout', 'cx_transport_socket_connect_timeout'])
        assert.equal(proxy.value(`listener.${name}.downstream_${timeout}`), 0);
    });

    test('300 mutated hellos cost a connection each', async () => {
      const good = records(helloMessage({ serverName: 'shop.example', applicationProtocols: ['h2', 'http/1.1'] }));
      let state = 56;
      const next = (below: number): number => {
        state = (Math.imul(state, 1103515245) + 12345) >>> 0;
        return (state >>> 8) % below;
      };
      for (let round = 0; round < 15; round++) {
        await Promise.all(
          Array.from({ length: 20 }, () => {
            const bytes = Buffer.from(good);
            for (let i = 0; i <= next(4); i++) bytes[next(bytes.length)] = next(256);
            return send(proxy.port(name), bytes.subarray(0, next(8) === 0 ? next(bytes.length) : undefined));
          }),
        );
      }
      assert.deepEqual(proxy.errors, []);
    });

    test('a client of TLS 1.3 only gets the right chain afterwards', async () => {
      await servesOn(proxy.port(name), 'shop.example', name === 'inspected' ? 201 : 202);
      await servesOn(proxy.port(name), 'SHOP.EXAMPLE', name === 'inspected' ? 201 : 202);
      await servesOn(proxy.port(name), 'other.example', 202);
      assert.deepEqual(proxy.errors, []);
    });
  });
}

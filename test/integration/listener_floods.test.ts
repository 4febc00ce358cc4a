/** What clients can do before a chain is chosen, many times over: nothing stays, and nobody else is kept waiting. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { before, test } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { MAX_PEEK_BYTES } from '../../proxy/listener/inspection.ts';
import { clientHello } from '../support/client_hello.ts';
import { staticCluster } from '../support/envoy_resources.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { ByteServer, byteClient, ending, listenerFilter, tcpListener } from '../support/tcp_resources.ts';

/** Of each attack. */
const REPEATS = 1500;
const AT_ONCE = 50;

const scope = fileScope();
let proxy: TestProxy;

before(async () => {
  const server = await ByteServer.start(scope, (socket) => {
    socket.resume();
    socket.on('end', () => socket.end());
  });
  const inspecting = (name: string, filters: readonly Json[]): ReturnType<typeof tcpListener> =>
    tcpListener('up', { name, stat_prefix: name, listener_filters: filters });
  proxy = await startTestProxy(scope, [
    inspecting('tls', [listenerFilter('tls_inspector')]),
    inspecting('http', [listenerFilter('http_inspector')]),
    inspecting('proxied', [listenerFilter('proxy_protocol'), listenerFilter('tls_inspector')]),
    tcpListener('up', {
      name: 'slow',
      stat_prefix: 'slow',
      listener_filters: [listenerFilter('tls_inspector')],
      listener_filters_timeout: '0.3s',
    }),
    staticCluster('up', [server.port]),
  ]);
});

/** Every connection sends these bytes and is reset by its client, unless the proxy was first. */
async function flood(listener: string, bytes: Buffer, how: 'reset' | 'end'): Promise<void> {
  let left = REPEATS;
  const one = async (): Promise<void> => {
    while (left-- > 0) {
      const socket = connect({ port: proxy.port(listener), host: '127.0.0.1' });
      socket.on('error', () => {});
      const closed = new Promise((resolve) => socket.once('close', resolve));
      socket.resume();
      if (
        await once(socket, 'connect').then(
          () => true,
          () => false,
        )
      ) {
        if (how === 'end') socket.end(bytes);
        else socket.write(bytes, () => socket.resetAndDestroy());
      }
      await closed;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, one));
}

/** Waits until nothing is left of it. */
async function settled(listener: string): Promise<void> {
  for (const name of ['downstream_pre_cx_active', 'downstream_cx_active']) {
    for (let attempt = 0; proxy.value(`listener.${listener}.${name}`) !== 0; attempt++) {
      assert.ok(attempt < 2000, `${name} is ${proxy.value(`listener.${listener}.${name}`)}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

const attacks: readonly (readonly [says: string, listener: string, bytes: Buffer, how: 'reset' | 'end'])[] = [
  ['half a hello and a reset', 'tls', clientHello({ serverName: 'a.b' }).subarray(0, 40), 'reset'],
  ['half a hello and the end', 'tls', clientHello({ serverName: 'a.b' }).subarray(0, 40), 'end'],
  ['a hello that is too long', 'tls', clientHello({ extensions: [[21, Buffer.alloc(16_400)]] }), 'end'],
  ['a hello in records of one byte', 'tls', clientHello({ serverName: 'a.b', recordBytes: 1 }), 'end'],
  ['a request line that does not end', 'http', Buffer.from(`GET /${'a'.repeat(4000)}`), 'reset'],
  ['an endless PROXY line', 'proxied', Buffer.from(`PROXY TCP4 ${'1'.repeat(5000)}`), 'end'],
  ['a PROXY header larger than any', 'proxied', Buffer.from('0d0a0d0a000d0a515549540a2111ffff', 'hex'), 'end'],
  [
    'a PROXY header and half a hello',
    'proxied',
    Buffer.concat([Buffer.from('PROXY UNKNOWN\r\n'), clientHello({}).subarray(0, 9)]),
    'reset',
  ],
];

for (const [says, listener, bytes, how] of attacks) {
  test(`${REPEATS} connections leave nothing behind when each sends ${says}`, async () => {
    await flood(listener, bytes, how);
    await settled(listener);
    assert.equal(proxy.value('cluster.up.upstream_cx_active'), 0);
    assert.deepEqual(proxy.errors, []);
  });
}

test('a client that never says enough is bounded by size, whatever it sends', async (t) => {
  const client = await byteClient(t, proxy.port('tls'));
  // One byte a record: a hello of 16 KiB would take six times as much.
  const record = Buffer.from([22, 3, 1, 0, 1, 1]);
  const rest = Buffer.from([22, 3, 1, 0, 1, 0x3f]);
  const hello = Buffer.concat([
    record,
    Buffer.from([22, 3, 1, 0, 1, 0]),
    rest,
    ...Array.from({ length: MAX_PEEK_BYTES / 6 }, () => rest),
  ]);
  const ended = ending(client);
  client.write(hello);
  assert.match(await ended, /ECONNRESET|end/);
  assert.equal(proxy.value('listener.tls.downstream_peek_overflow'), 1);
});

test('slow clients are closed when the time is over, and others are served meanwhile', async (t) => {
  const slow = await Promise.all(Array.from({ length: 200 }, () => byteClient(t, proxy.port('slow'))));
  for (const client of slow) client.write(Buffer.from([22]));
  const quick = await byteClient(t, proxy.port('slow'));
  quick.end('not TLS');
  assert.equal(await ending(quick), 'end');
  for (const client of slow) assert.match(await ending(client), /end|ECONNRESET/);
  assert.equal(proxy.value('listener.slow.downstream_pre_cx_timeout'), 200);
  await settled('slow');
});

test('a client whose PROXY header comes byte by byte is served', async (t) => {
  const client = await byteClient(t, proxy.port('proxied'));
  for (const byte of Buffer.from('PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nx')) {
    client.write(Buffer.from([byte]));
    await new Promise((resolve) => setImmediate(resolve));
  }
  client.end();
  assert.equal(await ending(client), 'end');
});

/** Bare TCP through the proxy: bytes, ends, resets, limits, timeouts. Real sockets on both sides. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { test } from 'node:test';
import type { Json, Resource } from '../../config/resources.ts';
import { staticCluster } from '../support/envoy_resources.ts';
import { LogFile, startTestProxy } from '../support/running_proxy.ts';
import { ByteServer, byteClient, ending, readBytes, tcpListener } from '../support/tcp_resources.ts';
import type { Scope } from '../support/scope.ts';
import { REFUSED_PORT } from '../support/free_port.ts';

const FORMAT =
  '%PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_HOST% %UPSTREAM_CLUSTER_RAW% "%UPSTREAM_TRANSPORT_FAILURE_REASON%"\n';

async function proxied(
  t: Scope,
  { proxy = {}, cluster = {}, more = [] }: { proxy?: Json; cluster?: Json; more?: readonly Resource[] } = {},
) {
  const server = await ByteServer.start(t);
  const log = new LogFile(t);
  const running = await startTestProxy(t, [
    tcpListener('up', { proxy: { access_log: [log.config(FORMAT)], ...proxy } }),
    staticCluster('up', [server.port], cluster),
    ...more,
  ]);
  return { server, log, proxy: running };
}

test('tcp_proxy carries bytes both ways and logs the connection when it is over', async (t) => {
  const { server, log, proxy } = await proxied(t);
  const client = await byteClient(t, proxy.port());
  client.write('question');
  const upstream = await server.next();
  assert.equal((await readBytes(upstream, 8)).toString(), 'question');
  upstream.write('the answer');
  assert.equal((await readBytes(client, 10)).toString(), 'the answer');
  assert.equal(proxy.value('cluster.up.upstream_cx_active'), 1);
  client.end();
  assert.equal(await ending(upstream), 'end');
  upstream.end();
  assert.equal(await ending(client), 'end');
  assert.deepEqual(await log.lines(1), [`- 0 - 8 10 127.0.0.1:${server.port} up "-"`]);
  assert.equal(proxy.value('tcp.test.downstream_cx_total'), 1);
  assert.equal(proxy.value('tcp.test.downstream_cx_rx_bytes_total'), 8);
  assert.equal(proxy.value('tcp.test.downstream_cx_tx_bytes_total'), 10);
  assert.equal(proxy.value('cluster.up.upstream_cx_total'), 1);
  assert.equal(proxy.value('cluster.up.upstream_cx_active'), 0);
  assert.equal(proxy.value('cluster.up.upstream_cx_tx_bytes_total'), 8);
  assert.equal(proxy.value('cluster.up.upstream_cx_rx_bytes_total'), 10);
});

test('tcp_proxy lets a server speak first', async (t) => {
  const { server, proxy } = await proxied(t);
  const client = await byteClient(t, proxy.port());
  (await server.next()).write('220 ready\r\n');
  assert.equal((await readBytes(client, 11)).toString(), '220 ready\r\n');
});

test('tcp_proxy keeps the other direction open when one side has ended', async (t) => {
  const { server, proxy } = await proxied(t);
  const client = await byteClient(t, proxy.port());
  client.end('all I have');
  const upstream = await server.next();
  assert.equal((await readBytes(upstream, 10)).toString(), 'all I have');
  assert.equal(await ending(upstream), 'end');
  upstream.end('and what I make of it');
  assert.equal((await readBytes(client, 21)).toString(), 'and what I make of it');
  assert.equal(await ending(client), 'end');
});

test('tcp_proxy hands on the end of a server that closes first', async (t) => {
  const { server, proxy } = await proxied(t);
  const client = await byteClient(t, proxy.port());
  const upstream = await server.next();
  upstream.end('bye');
  assert.equal((await readBytes(client, 3)).toString(), 'bye');
  assert.equal(await ending(client), 'end');
  client.end('later');
  assert.equal((await readBytes(upstream, 5)).toString(), 'later');
  assert.equal(await ending(upstream), 'end');
});

test('tcp_proxy tells a reset from an end when the client resets', async (t) => {
  const { server, log, proxy } = await proxied(t);
  const client = await byteClient(t, proxy.port());
  client.write('x');
  const upstream = await server.next();
  await readBytes(upstream, 1);
  const ended = ending(upstream);
  client.resetAndDestroy();
  assert.equal(await ended, 'ECONNRESET');
  assert.match((await log.lines(1))[0] as string, /^- 0 DR 1 0 /);
});

test('tcp_proxy tells a reset from an end when the server resets', async (t) => {
  const { server, log, proxy } = await proxied(t);
  const client = await byteClient(t, proxy.port());
  const upstream = await server.next();
  upstream.write('hi');
  await readBytes(client, 2);
  const ended = ending(client);
  upstream.resetAndDestroy();
  assert.equal(await ended, 'ECONNRESET');
  assert.match((await log.lines(1))[0] as string, /^- 0 UR 0 2 /);
});

test('tcp_proxy carries 20 MB each way unchanged when both readers are slow, and reads no faster than they do', async (t) => {
  const { server, proxy } = await proxied(t);
  const client = await byteClient(t, proxy.port());
  const upstream = await server.next();
  const size = 20_000_000;
  const send = async (socket: typeof client, seed: number): Promise<string> => {
    const hash = createHash('sha256');
    let left = size;
    while (left > 0) {
      const bytes = Buffer.alloc(Math.min(left, 99_991), seed++ & 255);
      hash.update(bytes);
      left -= bytes.length;
      if (!socket.write(bytes)) await once(socket, 'drain');
    }
    socket.end();
    return hash.digest('hex');
  };
  const receive = async (socket: typeof client): Promise<string> => {
    const hash = createHash('sha256');
    for await (const piece of socket as AsyncIterable<Buffer>) {
      hash.update(piece);
      await new Promise((resolve) => setImmediate(resolve));
    }
    return hash.digest('hex');
  };
  const [up, down, atServer, atClient] = await Promise.all([
    send(client, 1),
    send(upstream, 77),
    receive(upstream),
    receive(client),
  ]);
  assert.equal(atServer, up);
  assert.equal(atClient, down);
  assert.ok(proxy.value('tcp.test.downstream_flow_control_paused_reading_total') > 0);
});

test('tcp_proxy stops reading a client whose server takes nothing', async (t) => {
  const { server, proxy } = await proxied(t);
  const client = await byteClient(t, proxy.port());
  const upstream = await server.next();
  upstream.pause();
  const block = Buffer.alloc(1_000_000);
  while (client.write(block) || client.writableLength < 8_000_000) if (client.writableLength > 30_000_000) break;
  // Kernel buffers and two watermarks, not all of it.
  for (let last = -1; client.writableLength !== last; ) {
    last = client.writableLength;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.ok(client.writableLength > 5_000_000, `${client.writableLength} bytes wait at the client`);
});

for (const [says, resources, flags, counter] of [
  ['the cluster is unknown', () => [tcpListener('none')], 'NC', 'tcp.test.downstream_cx_no_route'],
  ['there is no host', () => [tcpListener('up'), staticCluster('up', [])], 'UH', 'cluster.up.upstream_cx_none_healthy'],
  [
    'nobody listens there',
    async () => [tcpListener('up'), staticCluster('up', [REFUSED_PORT])],
    'UF,URX',
    'cluster.up.upstream_cx_connect_attempts_exceeded',
  ],
  [
    'the cluster has as many connections as it may',
    async (t: Scope) => [
      tcpListener('up'),
      staticCluster('up', [(await ByteServer.start(t)).port], {
        circuit_breakers: { thresholds: [{ max_connections: 0 }] },
      }),
    ],
    'UO',
    'cluster.up.upstream_cx_overflow',
  ],
] as const) {
  test(`tcp_proxy closes the connection with ${flags} when ${says}`, async (t) => {
    const log = new LogFile(t);
    const [listener, ...rest] = await resources(t);
    const proxy = await startTestProxy(t, [
      tcpListener(flags === 'NC' ? 'none' : 'up', { proxy: { access_log: [log.config('%RESPONSE_FLAGS%\n')] } }),
      ...rest,
    ]);
    assert.ok(listener);
    const client = await byteClient(t, proxy.port());
    assert.equal(await ending(client), 'end');
    assert.deepEqual(await log.lines(1), [flags]);
    assert.equal(proxy.value(counter), 1);
  });
}

test('tcp_proxy tries again when a host refuses, as often as it may', async (t) => {
  const server = await ByteServer.start(t);
  const dead = REFUSED_PORT;
  const log = new LogFile(t);
  const proxy = await startTestProxy(t, [
    tcpListener('up', {
      proxy: { max_connect_attempts: 4, access_log: [log.config('%RESPONSE_FLAGS% %UPSTREAM_HOST%\n')] },
    }),
    staticCluster('up', [dead, server.port], { lb_policy: 'ROUND_ROBIN' }),
  ]);
  for (let i = 0; i < 2; i++) {
    const client = await byteClient(t, proxy.port());
    client.write('hello');
    const upstream = await server.next();
    assert.equal((await readBytes(upstream, 5)).toString(), 'hello');
    client.end();
    await ending(upstream);
    upstream.end();
    await ending(client);
  }
  for (const line of await log.lines(2)) assert.match(line, new RegExp(`127.0.0.1:${server.port}$`));
  assert.ok(proxy.value('cluster.up.upstream_cx_connect_fail') >= 1);
});

test('tcp_proxy waits before another attempt when it shall', async (t) => {
  const dead = REFUSED_PORT;
  const proxy = await startTestProxy(t, [
    tcpListener('up', {
      proxy: { max_connect_attempts: 3, backoff_options: { base_interval: '0.02s', max_interval: '0.04s' } },
    }),
    staticCluster('up', [dead]),
  ]);
  const client = await byteClient(t, proxy.port());
  assert.equal(await ending(client), 'end');
  assert.equal(proxy.value('cluster.up.upstream_cx_connect_fail'), 3);
});

test('tcp_proxy ends a connection that is silent for too long', async (t) => {
  const { server, proxy } = await proxied(t, { proxy: { idle_timeout: '0.1s' } });
  const client = await byteClient(t, proxy.port());
  const upstream = await server.next();
  assert.equal(await ending(client), 'end');
  assert.equal(await ending(upstream), 'end');
  assert.equal(proxy.value('tcp.test.idle_timeout'), 1);
});

test('tcp_proxy ends a connection that is too old, whatever it does', async (t) => {
  const { server, log, proxy } = await proxied(t, { proxy: { max_downstream_connection_duration: '0.15s' } });
  const client = await byteClient(t, proxy.port());
  const upstream = await server.next();
  const talk = setInterval(() => client.write('x'), 10);
  t.after(() => clearInterval(talk));
  upstream.resume();
  assert.match(await ending(client), /end|ECONNRESET/);
  clearInterval(talk);
  assert.match((await log.lines(1))[0] as string, /^- 0 DT /);
  assert.equal(proxy.value('tcp.test.max_downstream_connection_duration'), 1);
});

test('tcp_proxy splits connections by weight', async (t) => {
  const [light, heavy] = [await ByteServer.start(t), await ByteServer.start(t)];
  const proxy = await startTestProxy(t, [
    tcpListener('', {
      proxy: {
        cluster: undefined,
        weighted_clusters: {
          clusters: [
            { name: 'light', weight: 1 },
            { name: 'heavy', weight: 9 },
          ],
        },
      } as unknown as Json,
    }),
    staticCluster('light', [light.port]),
    staticCluster('heavy', [heavy.port]),
  ]);
  for (let i = 0; i < 100; i++) (await byteClient(t, proxy.port())).end();
  while (light.sockets.length + heavy.sockets.length < 100) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(
    heavy.sockets.length > 70 && light.sockets.length > 0,
    `${light.sockets.length} and ${heavy.sockets.length}`,
  );
});

test('tcp_proxy places a client always on the same host when it hashes its address', async (t) => {
  const servers = [await ByteServer.start(t), await ByteServer.start(t), await ByteServer.start(t)];
  const proxy = await startTestProxy(t, [
    tcpListener('up', { proxy: { hash_policy: [{ source_ip: {} }] } }),
    staticCluster(
      'up',
      servers.map(({ port }) => port),
      { lb_policy: 'RING_HASH' },
    ),
  ]);
  for (let i = 0; i < 12; i++) (await byteClient(t, proxy.port())).end();
  while (servers.reduce((sum, { sockets }) => sum + sockets.length, 0) < 12) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.deepEqual(servers.map(({ sockets }) => sockets.length).sort(), [0, 0, 12]);
});

test('tcp_proxy keeps what a client says before there is a connection, its end too', async (t) => {
  const server = await ByteServer.start(t);
  const proxy = await startTestProxy(t, [tcpListener('up'), staticCluster('up', [server.port])]);
  const client = await byteClient(t, proxy.port());
  client.end(Buffer.alloc(300_000, 7));
  const upstream = await server.next();
  assert.equal(
    (await readBytes(upstream, 300_000)).every((byte) => byte === 7),
    true,
  );
  assert.equal(await ending(upstream), 'end');
});

test('a TCP connection goes on when the cluster changes, and ends after the drain time when its chain has gone', async (t) => {
  const [server, other] = [await ByteServer.start(t), await ByteServer.start(t)];
  const proxy = await startTestProxy(t, [tcpListener('up'), staticCluster('up', [server.port])]);
  const client = await byteClient(t, proxy.port());
  const upstream = await server.next();
  proxy.set([tcpListener('up'), staticCluster('up', [other.port])]);
  await proxy.settled();
  (await byteClient(t, proxy.port())).write('new');
  assert.equal((await readBytes(await other.next(), 3)).toString(), 'new');
  client.write('still');
  assert.equal((await readBytes(upstream, 5)).toString(), 'still');
  proxy.set([tcpListener('other'), staticCluster('other', [other.port])]);
  // 1 s in tests.
  assert.equal(await ending(client), 'end');
});

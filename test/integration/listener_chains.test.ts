/** From accept to filter chain, with real sockets: inspection, hand-off, chain match, several network filters. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkResource } from '../../config/build/check.ts';
import type { Json } from '../../config/resources.ts';
import { clientHello } from '../support/client_hello.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { RawClient } from '../support/raw_peers.ts';
import { LogFile, startTestProxy } from '../support/running_proxy.ts';
import {
  ByteServer,
  byteClient,
  ending,
  listenerFilter,
  networkFilter,
  readBytes,
  tcpListener,
  tcpProxy,
} from '../support/tcp_resources.ts';

const chainTo = (cluster: string, filter_chain_match?: Json): Json => ({
  ...(filter_chain_match !== undefined && { filter_chain_match }),
  filters: [tcpProxy({ cluster })],
});

test('a connection goes by the server name of its ClientHello, without TLS being ended, in however many pieces it comes', async (t) => {
  const [named, wild, rest] = [await ByteServer.start(t), await ByteServer.start(t), await ByteServer.start(t)];
  const proxy = await startTestProxy(t, [
    tcpListener('', {
      filter_chains: [
        chainTo('named', { server_names: ['db.example.com'] }),
        chainTo('wild', { server_names: ['*.example.com'] }),
        chainTo('rest'),
      ],
    }),
    staticCluster('named', [named.port]),
    staticCluster('wild', [wild.port]),
    staticCluster('rest', [rest.port]),
  ]);
  for (const [serverName, server] of [
    ['DB.example.com', named],
    ['other.example.com', wild],
    ['example.org', rest],
    [undefined, rest],
  ] as const) {
    const hello = clientHello({ ...(serverName !== undefined && { serverName }), recordBytes: 50 });
    const client = await byteClient(t, proxy.port());
    for (const byte of hello) {
      client.write(Buffer.from([byte]));
      await new Promise((resolve) => setImmediate(resolve));
    }
    assert.deepEqual(await readBytes(await server.next(), hello.length), hello);
  }
  assert.equal(proxy.value('tls_inspector.tls_found'), 4);
});

test('HTTP and anything else share a port when the first bytes are looked at', async (t) => {
  const server = await ByteServer.start(t);
  const routes = routeConfig([
    { match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'http' } } },
  ]);
  const listener = httpListener({ routes });
  const [chain] = listener.json['filter_chains'] as Json[];
  const proxy = await startTestProxy(t, [
    {
      ...listener,
      json: {
        ...listener.json,
        listener_filters: [listenerFilter('tls_inspector'), listenerFilter('http_inspector')],
        filter_chains: [
          { ...chain, filter_chain_match: { application_protocols: ['http/1.1', 'h2c'] } },
          chainTo('up'),
        ],
      },
    },
    staticCluster('up', [server.port]),
  ]);
  const http = new RawClient(t, proxy.port());
  http.send('GET / HT');
  await new Promise((resolve) => setTimeout(resolve, 20));
  http.send('TP/1.1\r\nhost: a\r\n\r\n');
  assert.match(await http.until((text) => text.endsWith('http')), /^HTTP\/1\.1 200/);
  const other = await byteClient(t, proxy.port());
  other.write('*1\r\n$4\r\nPING\r\n');
  assert.equal((await readBytes(await server.next(), 14)).toString(), '*1\r\n$4\r\nPING\r\n');
  // Half a request and the end: it was no HTTP, and all of it is handed on.
  const half = await byteClient(t, proxy.port());
  half.end('GET / HT');
  const upstream = await server.next();
  assert.equal((await readBytes(upstream, 8)).toString(), 'GET / HT');
  assert.equal(await ending(upstream), 'end');
});

test('a listener filter that waits in vain closes the connection when the time is over, or lets it go on', async (t) => {
  const server = await ByteServer.start(t);
  const waiting: Json = { listener_filters: [listenerFilter('tls_inspector')], listener_filters_timeout: '0.1s' };
  const proxy = await startTestProxy(t, [
    tcpListener('up', { name: 'strict', ...waiting }),
    tcpListener('up', {
      name: 'lenient',
      continue_on_listener_filters_timeout: true,
      stat_prefix: 'lenient',
      ...waiting,
    }),
    staticCluster('up', [server.port]),
  ]);
  assert.match(await ending(await byteClient(t, proxy.port('strict'))), /end|ECONNRESET/);
  const client = await byteClient(t, proxy.port('lenient'));
  (await server.next()).write('220 server first\r\n');
  assert.equal((await readBytes(client, 18)).toString(), '220 server first\r\n');
  assert.equal(proxy.value('listener.lenient.downstream_pre_cx_timeout'), 1);
});

test('a listener filter is left out where its predicate says so', async (t) => {
  const server = await ByteServer.start(t);
  const proxy = await startTestProxy(t, [
    tcpListener('up', {
      listener_filters: [
        listenerFilter(
          'tls_inspector',
          {},
          { filter_disabled: { not_match: { destination_port_range: { start: 1, end: 2 } } } },
        ),
      ],
      listener_filters_timeout: '0s',
    }),
    staticCluster('up', [server.port]),
  ]);
  const client = await byteClient(t, proxy.port());
  (await server.next()).write('first');
  assert.equal((await readBytes(client, 5)).toString(), 'first');
});

test('a connection that no chain wants is reset, counted and logged with NR', async (t) => {
  const log = new LogFile(t);
  const proxy = await startTestProxy(t, [
    tcpListener('up', {
      stat_prefix: 'picky',
      access_log: [log.config('%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n')],
      filter_chains: [chainTo('up', { destination_port: 1 })],
    }),
  ]);
  assert.equal(await ending(await byteClient(t, proxy.port())), 'ECONNRESET');
  assert.deepEqual(await log.lines(1), ['NR filter_chain_not_found']);
  assert.equal(proxy.value('listener.picky.no_filter_chain_match'), 1);
});

test('the client that a PROXY header names is the one that is logged, and the header goes no further', async (t) => {
  const server = await ByteServer.start(t);
  const log = new LogFile(t);
  const proxy = await startTestProxy(t, [
    tcpListener('up', {
      listener_filters: [listenerFilter('proxy_protocol')],
      proxy: {
        access_log: [
          log.config(
            '%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_ADDRESS%\n',
          ),
        ],
      },
    }),
    staticCluster('up', [server.port]),
  ]);
  const client = await byteClient(t, proxy.port());
  client.end('PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\nhello');
  const upstream = await server.next();
  assert.equal((await readBytes(upstream, 5)).toString(), 'hello');
  upstream.end();
  await ending(client);
  assert.deepEqual(await log.lines(1), ['192.0.2.1:56324 127.0.0.1 198.51.100.1:443']);
});

test('a connection without the PROXY header that is asked for is reset before anybody reads it', async (t) => {
  const proxy = await startTestProxy(t, [
    tcpListener('up', { stat_prefix: 'proxied', listener_filters: [listenerFilter('proxy_protocol')] }),
  ]);
  const client = await byteClient(t, proxy.port());
  const ended = ending(client);
  client.write('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
  assert.equal(await ended, 'ECONNRESET');
  assert.equal(proxy.value('listener.proxied.downstream_listener_filter_error'), 1);
  assert.equal(proxy.value('listener.proxied.downstream_cx_total'), 0);
});

test('sni_cluster before tcp_proxy sends a connection to the cluster of its server name', async (t) => {
  const server = await ByteServer.start(t);
  const sni = networkFilter(
    'envoy.filters.network.sni_cluster',
    'envoy.extensions.filters.network.sni_cluster.v3.SniCluster',
  );
  const proxy = await startTestProxy(t, [
    tcpListener('', {
      listener_filters: [listenerFilter('tls_inspector')],
      filter_chains: [{ filters: [sni, tcpProxy({ cluster: 'nowhere' })] }],
    }),
    staticCluster('outbound_.80_._.a.b', [server.port]),
  ]);
  const hello = clientHello({ serverName: 'outbound_.80_._.a.b' });
  const client = await byteClient(t, proxy.port());
  client.write(hello);
  assert.deepEqual(await readBytes(await server.next(), hello.length), hello);
});

test('a chain whose transport socket is not executed is refused by name', () => {
  const transport_socket = {
    name: 'x',
    typed_config: { '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.alts.v3.Alts' },
  };
  const listener = tcpListener('up', { filter_chains: [{ ...chainTo('up'), transport_socket }] });
  assert.match(
    checkResource(listener)?.message ?? '',
    /filter_chains\[0\]\.transport_socket\.typed_config: .*alts\.v3\.Alts is not supported/,
  );
});

/** TCP between two Pillions: frames go between them, and neither application sees one. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect as connectTcp } from 'node:net';
import { connect } from 'node:tls';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Json, Resource } from '../../../config/resources.ts';
import { FrameStripper, ownFrame, readFrame } from '../../../proxy/telemetry/metadata_frame.ts';
import { staticCluster } from '../../support/envoy_resources.ts';
import { downstreamTls, MeshCa, upstreamTls } from '../../support/mesh_ca.ts';
import { RawUpstream } from '../../support/raw_peers.ts';
import { startTestProxy } from '../../support/running_proxy.ts';
import type { Scope } from '../../support/scope.ts';
import { resource } from '../../support/static_source.ts';

const TYPE = 'type.googleapis.com';
const EXCHANGE: Json = {
  name: 'istio.metadata_exchange',
  typed_config: {
    '@type': `${TYPE}/udpa.type.v1.TypedStruct`,
    type_url: `${TYPE}/envoy.tcp.metadataexchange.config.MetadataExchange`,
    value: { enable_discovery: true, protocol: 'istio-peer-exchange' },
  },
};
const ca = new MeshCa();
const SERVER = 'spiffe://cluster.local/ns/shop/sa/db';
const client = ca.issue('spiffe://cluster.local/ns/web/sa/frontend');
const node = (name: string): Json => ({
  NAME: `${name}-1`,
  NAMESPACE: 'shop',
  WORKLOAD_NAME: name,
  LABELS: { app: name },
});

function tcpListener(name: string, cluster: string, filters: readonly Json[], socket?: Json): Resource {
  return resource('listener', {
    name,
    stat_prefix: name,
    address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
    filter_chains: [
      {
        filters: [
          ...filters,
          {
            name: 'envoy.filters.network.tcp_proxy',
            typed_config: {
              '@type': `${TYPE}/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`,
              stat_prefix: cluster,
              cluster,
            },
          },
        ],
        ...(socket !== undefined && { transport_socket: socket }),
      },
    ],
  });
}

async function startPair(t: Scope, clientAlpn: readonly string[]) {
  const application = await RawUpstream.start(t, (received, socket) => {
    if (received.endsWith('\n')) socket.write(`you said ${received}`);
  });
  const mutual = downstreamTls({
    own: ca.issue(SERVER),
    roots: ca.pem,
    alpn: ['istio-peer-exchange', 'h2', 'http/1.1'],
  });
  const server = await startTestProxy(
    t,
    [tcpListener('inbound', 'app', [EXCHANGE], mutual), staticCluster('app', [application.port])],
    { node: node('db') },
  );
  const outbound = await startTestProxy(
    t,
    [
      tcpListener('outbound', 'db', []),
      staticCluster('db', [server.port('inbound')], {
        filters: [EXCHANGE],
        transport_socket: upstreamTls({ own: client, roots: ca.pem, uris: [SERVER], alpn: clientAlpn }),
      }),
    ],
    { node: node('frontend') },
  );
  return { application, server, outbound };
}

async function talk(port: number, text: string, until: string): Promise<string> {
  const socket = connectTcp(port, '127.0.0.1');
  await once(socket, 'connect');
  let received = '';
  socket.write(text);
  for await (const bytes of socket) {
    received += (bytes as Buffer).toString('latin1');
    if (received.includes(until)) break;
  }
  socket.destroy();
  return received;
}

for (const [says, alpn, found] of [
  ['with istio-peer-exchange', ['istio-peer-exchange', 'istio'], 1],
  ['without it', ['istio'], 0],
] as const) {
  test(`bytes pass as they are ${says}`, async (t) => {
    const { application, server, outbound } = await startPair(t, alpn);
    assert.equal(await talk(outbound.port('outbound'), 'hello\n', '\n'), 'you said hello\n');
    assert.equal(application.all, 'hello\n');
    await server.counted();
    assert.equal(server.value('metadata_exchange.alpn_protocol_found'), found);
    assert.equal(server.value('metadata_exchange.metadata_added'), found);
    assert.equal(server.value('metadata_exchange.alpn_protocol_not_found'), 1 - found);
  });
}

test('the frame is that of Istio, and a peer that sends none is served all the same', async (t) => {
  const { application, server } = await startPair(t, ['istio-peer-exchange']);
  const socket = connect({
    port: server.port('inbound'),
    host: '127.0.0.1',
    rejectUnauthorized: false,
    cert: client.chain,
    key: client.key,
    ALPNProtocols: ['istio-peer-exchange'],
  });
  t.after(() => socket.destroy());
  await once(socket, 'secureConnect');
  socket.write('no frame\n');
  let received = Buffer.alloc(0);
  for await (const bytes of socket) {
    received = Buffer.concat([received, bytes as Buffer]);
    if (received.includes('no frame\n')) break;
  }
  assert.equal(received.readUInt32BE(0), 0x3d230467);
  const end = 8 + received.readUInt32BE(4);
  assert.equal(received.subarray(end).toString(), 'you said no frame\n');
  // Any { type_url = 1; value = 2 }.
  const url = 'type.googleapis.com/google.protobuf.Struct';
  assert.equal(
    received.subarray(8, 10 + url.length).toString('latin1'),
    `\x0a${String.fromCharCode(url.length)}${url}`,
  );
  const frame = readFrame(received);
  assert.ok(typeof frame === 'object');
  assert.equal(frame.peer?.workload, 'db');
  assert.equal(application.all, 'no frame\n');
});

test('a frame is taken at any split, and application bytes are left', () => {
  const frame = ownFrame({ id: 'sidecar~1', cluster: '', metadata: node('web') });
  const all = Buffer.concat([frame, Buffer.from('application')]);
  for (let split = 0; split <= all.length; split++) {
    let workload: string | undefined;
    const stripper = new FrameStripper((peer) => {
      workload = peer?.workload;
    });
    const parts = [all.subarray(0, split), all.subarray(split)].filter(({ length }) => length > 0);
    // Borrowed: overwritten once it is taken.
    const out = parts
      .map((part) => {
        const lent = Buffer.from(part);
        const rest = stripper.take(lent)?.toString('latin1') ?? '';
        lent.fill(0xdd);
        return rest;
      })
      .join('');
    assert.equal(out, 'application', `split at ${split}`);
    assert.equal(workload, 'web');
  }
});

test('any bytes go through the stripper, or are a frame', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      const given = Buffer.from(bytes);
      const out = new FrameStripper(() => {}).take(Buffer.from(bytes));
      if (given[0] !== undefined && given[0] !== 0x3d) assert.deepEqual(out, given);
    }),
  );
  const huge = Buffer.from('3d230467ffffffff', 'hex');
  assert.deepEqual(new FrameStripper(() => {}).take(huge), huge);
});

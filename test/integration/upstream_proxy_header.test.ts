/** PROXY headers towards hosts: who is named, who shares connections, and what nginx and haproxy make of them. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { findProgram } from '../support/find_program.ts';
import { MeshCa, upstreamTls } from '../support/mesh_ca.ts';
import { answering, RawClient, RawUpstream } from '../support/raw_peers.ts';
import { LogFile, startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';
import { byteClient, ByteServer, listenerFilter, readBytes, tcpListener, tcpProxy } from '../support/tcp_resources.ts';
import { freePort } from '../support/free_port.ts';

const TYPE = 'type.googleapis.com/';
const RAW: Json = {
  name: 'raw',
  typed_config: { '@type': `${TYPE}envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer` },
};

const proxied = (config: Json, inner: Json = RAW): Json => ({
  transport_socket: {
    name: 'envoy.transport_sockets.upstream_proxy_protocol',
    typed_config: {
      '@type': `${TYPE}envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport`,
      config,
      transport_socket: inner,
    },
  },
});

const all = (cluster = 'up'): Json => routeConfig([{ match: { prefix: '/' }, route: { cluster } }]);
const GET = 'GET / HTTP/1.1\r\nhost: a\r\n\r\n';
const V2 = '0d0a0d0a000d0a515549540a';

/** A listener behind a load balancer that sends PROXY headers. */
const behindBalancer = (filter: Json, chain: readonly Json[]): Resource =>
  resource('listener', {
    name: 'test',
    address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
    listener_filters: [listenerFilter('proxy_protocol', filter)],
    filter_chains: [{ filters: chain }],
  });

describe('a PROXY header towards hosts', () => {
  for (const version of ['V1', 'V2'] as const) {
    it(`of version ${version.slice(1)} names the client of a TCP connection, before its bytes`, async (t) => {
      const server = await ByteServer.start(t);
      const proxy = await startTestProxy(t, [
        tcpListener('up'),
        staticCluster('up', [server.port], proxied({ version })),
      ]);
      const client = await byteClient(t, proxy.port());
      client.write('hello');
      const host = await server.next();
      const line = `PROXY TCP4 127.0.0.1 127.0.0.1 ${client.localPort} ${proxy.port()}\r\n`;
      const ports = [client.localPort ?? 0, proxy.port()].map((port) => port.toString(16).padStart(4, '0')).join('');
      const header = version === 'V1' ? Buffer.from(line) : Buffer.from(`${V2}2111000c7f0000017f000001${ports}`, 'hex');
      assert.deepEqual(await readBytes(host, header.length + 5), Buffer.concat([header, Buffer.from('hello')]));
    });
  }

  it('gives each client connections of its own, which it keeps', async (t) => {
    const upstream = await RawUpstream.start(t, answering());
    const proxy = await startTestProxy(t, [
      httpListener({ routes: all() }),
      staticCluster('up', [upstream.port], proxied({ version: 'V1' })),
    ]);
    const clients = [new RawClient(t, proxy.port()), new RawClient(t, proxy.port())];
    for (let round = 1; round <= 2; round++) {
      for (const client of clients) {
        await client.send(GET).until((received) => received.split('200 OK').length > round);
      }
    }
    assert.equal(upstream.received.length, 2);
    for (const [index, client] of clients.entries()) {
      const received = upstream.received[index] ?? '';
      assert.ok(
        received.startsWith(`PROXY TCP4 127.0.0.1 127.0.0.1 ${client.socket.localPort} ${proxy.port()}\r\n`),
        received,
      );
      assert.equal(received.split('PROXY').length, 2);
      assert.equal(received.split('GET / ').length, 3);
    }
  });

  it('names whom the load balancer in front named, and passes on the TLVs it may', async (t) => {
    const server = await ByteServer.start(t);
    const log = new LogFile(t);
    const proxy = await startTestProxy(t, [
      behindBalancer(
        {
          rules: [{ tlv_type: 2, on_tlv_present: { key: 'authority' } }],
          pass_through_tlvs: { match_type: 'INCLUDE', tlv_type: [2, 234] },
        },
        [
          tcpProxy({
            cluster: 'up',
            access_log: [log.config('%DYNAMIC_METADATA(envoy.filters.listener.proxy_protocol:authority)%\n')],
          }),
        ],
      ),
      staticCluster(
        'up',
        [server.port],
        proxied({ version: 'V2', pass_through_tlvs: { match_type: 'INCLUDE', tlv_type: [2] } }),
      ),
    ]);
    const client = await byteClient(t, proxy.port());
    const ends = 'c0000201c6336401dc0401bb';
    client.write(Buffer.from(`${V2}21110018${ends}020003616263ea000378797a`, 'hex'));
    client.end('hello');
    const host = await server.next();
    assert.equal(
      (await readBytes(host, 39)).toString('hex'),
      `${V2}21110012${ends}020003616263${Buffer.from('hello').toString('hex')}`,
    );
    host.end();
    assert.deepEqual(await log.lines(1), ['abc']);
  });

  it('goes before TLS', async (t) => {
    const ca = new MeshCa('proxied');
    const server = await ByteServer.start(t);
    const tls = upstreamTls({ own: ca.issue('spiffe://cluster.local/ns/a/sa/a'), roots: ca.pem });
    const proxy = await startTestProxy(t, [
      tcpListener('up'),
      staticCluster('up', [server.port], proxied({ version: 'V1' }, tls)),
    ]);
    const client = await byteClient(t, proxy.port());
    const host = await server.next();
    const line = `PROXY TCP4 127.0.0.1 127.0.0.1 ${client.localPort} ${proxy.port()}\r\n`;
    // And then the record of a ClientHello.
    const wanted = Buffer.concat([Buffer.from(line), Buffer.from([0x16, 0x03])]);
    let received = Buffer.alloc(0);
    host.on('data', (bytes: Buffer) => {
      received = Buffer.concat([received, bytes]);
    });
    await eventually('a record of TLS has come', () => received.length >= wanted.length);
    assert.deepEqual(received.subarray(0, wanted.length), wanted);
  });

  it('says LOCAL for a health check of the proxy itself', async (t) => {
    const server = await ByteServer.start(t);
    await startTestProxy(t, [
      tcpListener('up'),
      staticCluster('up', [server.port], {
        ...proxied({ version: 'V2' }),
        health_checks: [
          {
            timeout: '1s',
            interval: '1s',
            unhealthy_threshold: 1,
            healthy_threshold: 1,
            tcp_health_check: { send: { text: '70696e67' } },
          },
        ],
      }),
    ]);
    assert.equal((await readBytes(await server.next(), 16)).toString('hex'), `${V2}20000000`);
  });

  it('begins the connection of a CONNECT that ends here, where the route says so', async (t) => {
    const server = await ByteServer.start(t);
    const upgrade = { upgrade_type: 'CONNECT', connect_config: { proxy_protocol_config: { version: 'V1' } } };
    const routes = routeConfig([
      { match: { connect_matcher: {} }, route: { cluster: 'up', upgrade_configs: [upgrade] } },
    ]);
    const proxy = await startTestProxy(t, [httpListener({ routes }), staticCluster('up', [server.port])]);
    const client = new RawClient(t, proxy.port()).send('CONNECT db:1 HTTP/1.1\r\nhost: db:1\r\n\r\n');
    await client.until((received) => received.includes('200 OK'));
    const line = `PROXY TCP4 127.0.0.1 127.0.0.1 ${client.socket.localPort} ${proxy.port()}\r\n`;
    assert.equal((await readBytes(await server.next(), line.length)).toString(), line);
  });

  it('is refused where its inner socket is missing or another header', async (t) => {
    const bad = (inner: Json) => startTestProxy(t, [staticCluster('up', [1], proxied({}, inner))]);
    await assert.rejects(bad(proxied({})['transport_socket'] as Json), /transport_socket.*PROXY header inside another/);
  });
});

async function startProgram(t: Scope, program: string, parameters: readonly string[], port: number): Promise<void> {
  const child: ChildProcess = spawn(program, parameters, { stdio: 'ignore' });
  t.after(() => child.kill('SIGTERM'));
  await eventually(
    `${program} listens`,
    () =>
      new Promise<boolean>((resolve) => {
        const socket = connect(port, '127.0.0.1');
        socket.on('connect', () => resolve(true)).on('error', () => resolve(false));
        socket.on('connect', () => socket.destroy());
      }),
  );
}

function folder(t: Scope, name: string, text: string): { readonly folder: string; readonly file: string } {
  const made = mkdtempSync(join(tmpdir(), 'pillion-proxied-'));
  t.after(() => rmSync(made, { recursive: true, force: true }));
  const file = join(made, name);
  writeFileSync(file, text);
  return { folder: made, file };
}

describe('real servers that want a PROXY header', () => {
  const [nginx, haproxy] = [findProgram('nginx'), findProgram('haproxy')];

  for (const version of ['V1', 'V2'] as const) {
    it(`nginx learns the client and what it dialled from version ${version.slice(1)}`, {
      skip: nginx === undefined && 'nginx is not installed (apt-get install nginx-light)',
    }, async (t) => {
      const port = await freePort();
      const { folder: base, file } = folder(
        t,
        'nginx.conf',
        `daemon off; master_process off; pid nginx.pid; error_log stderr crit; events {}
http { access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
server { listen 127.0.0.1:${port} proxy_protocol;
location / { return 200 "$proxy_protocol_addr:$proxy_protocol_port $proxy_protocol_server_addr:$proxy_protocol_server_port"; } } }`,
      );
      await startProgram(t, nginx as string, ['-p', base, '-c', file], port);
      const proxy = await startTestProxy(t, [
        httpListener({ routes: all() }),
        staticCluster('up', [port], proxied({ version })),
      ]);
      const client = new RawClient(t, proxy.port());
      const answer = await client.send(GET).until((received) => received.endsWith(`:${proxy.port()}`));
      assert.match(
        answer,
        new RegExp(`\r\n\r\n127\\.0\\.0\\.1:${client.socket.localPort} 127\\.0\\.0\\.1:${proxy.port()}$`),
      );
    });
  }

  it('haproxy learns the client and the TLVs from version 2', {
    skip: haproxy === undefined && 'haproxy is not installed (apt-get install haproxy)',
  }, async (t) => {
    const port = await freePort();
    const { file } = folder(
      t,
      'haproxy.cfg',
      `defaults
  mode http
  timeout client 5s
frontend a
  bind 127.0.0.1:${port} accept-proxy
  http-request return status 200 content-type text/plain lf-string "%[src]:%[src_port] %[fc_pp_authority]"
`,
    );
    await startProgram(t, haproxy as string, ['-q', '-db', '-f', file], port);
    const added = { version: 'V2', added_tlvs: [{ type: 2, value: Buffer.from('shop.example').toString('base64') }] };
    const proxy = await startTestProxy(t, [
      httpListener({ routes: all() }),
      staticCluster('up', [port], proxied(added)),
    ]);
    const client = new RawClient(t, proxy.port());
    const answer = await client.send(GET).until((received) => received.endsWith('shop.example'));
    assert.match(answer, new RegExp(`\r\n\r\n127\\.0\\.0\\.1:${client.socket.localPort} shop\\.example$`));
  });
});

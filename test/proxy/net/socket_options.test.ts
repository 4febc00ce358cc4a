import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildSocketOptions } from '../../../config/build/socket_options.ts';
import { socketAddress } from '../../../proxy/net/connection_info.ts';
import { openConnection } from '../../../proxy/net/connector.ts';
import { hasLibc, intOption, SOL_IP, SOL_SOCKET, SOL_TCP } from '../../../proxy/net/libc.ts';
import type { SocketStream } from '../../../proxy/net/socket_stream.ts';
import { Fields } from '../../../proxy/resource_fields.ts';
import type { Scope } from '../../support/scope.ts';
import { ByteServer, readBytes } from '../../support/tcp_resources.ts';

const skip = hasLibc ? false : 'options of sockets are set by libc on Linux only';
const IP_BIND_ADDRESS_NO_PORT = 24;

async function connected(t: Scope, cluster: object): Promise<{ stream: SocketStream; server: ByteServer }> {
  const server = await ByteServer.start(t);
  const stream = await new Promise<SocketStream>((resolve, reject) =>
    openConnection({
      address: socketAddress('127.0.0.1', server.port),
      socket: buildSocketOptions(new Fields(cluster)),
      nowMs: () => performance.now(),
      onConnected: resolve,
      onFailed: (message) => reject(new Error(message)),
    }),
  );
  t.after(() => stream.close('reset'));
  return { stream, server };
}

test('a connection comes from the source of its family, its port chosen at connect, and carries bytes', {
  skip,
}, async (t) => {
  const { stream, server } = await connected(t, {
    upstream_bind_config: {
      source_address: { address: '::6', port_value: 0 },
      extra_source_addresses: [{ address: { address: '127.0.0.6' } }],
    },
  });
  const upstream = await server.next();
  assert.equal(upstream.remoteAddress, '127.0.0.6');
  assert.equal(stream.info.localAddress.ip, '127.0.0.6');
  assert.equal(intOption(stream.descriptor, SOL_IP, IP_BIND_ADDRESS_NO_PORT), 1);
  const answer = new Promise<string>((resolve) => {
    stream.onData = (bytes) => resolve(bytes.toString());
  });
  stream.write('ping');
  assert.equal((await readBytes(upstream, 4)).toString(), 'ping');
  upstream.write('pong');
  assert.equal(await answer, 'pong');
});

test('a source that this machine does not have ends the attempt with a reason', { skip }, async (t) => {
  await assert.rejects(
    connected(t, { upstream_bind_config: { source_address: { address: '192.0.2.9', port_value: 0 } } }),
    /Cannot assign requested address/,
  );
});

test('silence is probed as configured, and as the system has it where nothing is said', { skip }, async (t) => {
  const probed = await connected(t, {
    upstream_connection_options: {
      tcp_keepalive: { keepalive_time: 300, keepalive_interval: 20, keepalive_probes: 4 },
    },
  });
  const of = (level: number, option: number): number | undefined => intOption(probed.stream.descriptor, level, option);
  assert.deepEqual([of(SOL_SOCKET, 9), of(SOL_TCP, 4), of(SOL_TCP, 5), of(SOL_TCP, 6)], [1, 300, 20, 4]);
  const plain = await connected(t, { upstream_connection_options: { tcp_keepalive: {} } });
  assert.equal(intOption(plain.stream.descriptor, SOL_SOCKET, 9), 1);
  assert.notEqual(intOption(plain.stream.descriptor, SOL_TCP, 5), 1);
  const silent = await connected(t, {});
  assert.equal(intOption(silent.stream.descriptor, SOL_SOCKET, 9), 0);
});

for (const [says, cluster, path] of [
  [
    'a source is no address',
    { upstream_bind_config: { source_address: { address: 'x' } } },
    'upstream_bind_config.source_address.address',
  ],
  [
    'a source has a port',
    { upstream_bind_config: { source_address: { address: '127.0.0.6', port_value: 80 } } },
    'upstream_bind_config.source_address.port_value',
  ],
  [
    'options are given by number',
    { upstream_bind_config: { socket_options: [{}] } },
    'upstream_bind_config.socket_options',
  ],
  [
    'there are more probes than the kernel allows',
    { upstream_connection_options: { tcp_keepalive: { keepalive_probes: 128 } } },
    'upstream_connection_options.tcp_keepalive.keepalive_probes',
  ],
] as const) {
  test(`socket options of a cluster are refused with their field when ${says}`, () => {
    assert.throws(() => buildSocketOptions(new Fields(cluster)), { name: 'ConfigError', path });
  });
}

/** upstream_bind_config and upstream_connection_options of a cluster → SocketOptions. */
import { isIP } from 'node:net';
import type { HappyEyeballs, KeepAlive, SocketOptions } from '../../proxy/net/socket_options.ts';
import type { Fields } from '../../proxy/resource_fields.ts';
import { refuseUnexecuted } from '../../proxy/unexecuted_fields.ts';

/** @throws {ConfigError} */
export function buildSocketOptions(cluster: Fields): SocketOptions {
  const bind = cluster.message('upstream_bind_config');
  const options = cluster.message('upstream_connection_options');
  refuseUnexecuted(bind, 'BindConfig');
  refuseUnexecuted(options, 'UpstreamConnectionOptions');
  if (bind !== undefined && bind.list('socket_options').length > 0) {
    bind.fail('socket_options', 'options of sockets by number are not supported');
  }
  const extra = (bind?.messages('extra_source_addresses') ?? []).map((entry) => {
    refuseUnexecuted(entry, 'AdditionalAddress');
    return entry.requiredMessage('address');
  });
  const main = bind?.message('source_address');
  return {
    sourceIps: [...(main === undefined ? [] : [main]), ...extra].map(sourceIp),
    keepAlive: buildKeepAlive(options?.message('tcp_keepalive')),
    happyEyeballs: buildHappyEyeballs(options?.message('happy_eyeballs_config')),
  };
}

function sourceIp(address: Fields): string {
  refuseUnexecuted(address, 'SocketAddress');
  const ip = address.requiredString('address');
  if (isIP(ip) === 0) address.fail('address', `an IP address is wanted, got "${ip}"`);
  if ((address.integer('port_value', 0, 65535) ?? 0) !== 0) {
    address.fail('port_value', 'a fixed source port would allow one connection at a time: leave it out');
  }
  return ip;
}

function buildKeepAlive(fields: Fields | undefined): KeepAlive | undefined {
  if (fields === undefined) return undefined;
  return {
    probes: fields.integer('keepalive_probes', 1, 127),
    idleSeconds: fields.integer('keepalive_time', 1, 32767),
    intervalSeconds: fields.integer('keepalive_interval', 1, 32767),
  };
}

function buildHappyEyeballs(fields: Fields | undefined): HappyEyeballs | undefined {
  if (fields === undefined) return undefined;
  const family = fields.oneOf('first_address_family_version', ['DEFAULT', 'V4', 'V6'], 'DEFAULT');
  return {
    firstFamily: ({ DEFAULT: 'default', V4: 'v4', V6: 'v6' } as const)[family],
    firstCount: fields.integer('first_address_family_count', 1) ?? 1,
  };
}

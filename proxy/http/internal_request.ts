/** Whether a request is internal: only then do its own x-envoy-* headers count. Envoy: conn_manager_utility.cc, InternalAddressConfig. */
import ipaddr from 'ipaddr.js';
import type { ConnectionInfo } from '../net/connection_info.ts';
import { type Fields, show } from '../resource_fields.ts';
import type { ConnectionManagerConfig } from './connection_manager_config.ts';
import type { RequestHeaders } from './headers.ts';

export interface InternalAddresses {
  readonly unixSockets: boolean;
  contains(ip: string): boolean;
}

/** envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.InternalAddressConfig. */
export function parseInternalAddresses(fields: Fields | undefined): InternalAddresses | undefined {
  if (fields === undefined) return undefined;
  const ranges = fields.messages('cidr_ranges').map((range) => {
    const prefix = range.requiredString('address_prefix');
    if (!ipaddr.isValid(prefix)) range.fail('address_prefix', `an IP address is wanted, got ${show(prefix)}`);
    const address = ipaddr.parse(prefix);
    return [address, range.integer('prefix_len', 0, address.kind() === 'ipv4' ? 32 : 128) ?? 0] as const;
  });
  return {
    unixSockets: fields.boolean('unix_sockets') ?? false,
    contains(ip) {
      if (!ipaddr.isValid(ip)) return false;
      const address = ipaddr.process(ip);
      return ranges.some(([range, bits]) => address.kind() === range.kind() && address.match(range, bits));
    },
  };
}

/** One address stands for the client, and it is an internal one: a list of hops is never believed. */
export function isInternalRequest(
  headers: RequestHeaders,
  config: ConnectionManagerConfig,
  connection: ConnectionInfo,
): boolean {
  const { internalAddresses } = config;
  if (internalAddresses === undefined) return false;
  const forwardedFor = headers.joined('x-forwarded-for');
  const { ip, port } = connection.remoteAddress;
  if (config.useRemoteAddress) {
    if (forwardedFor !== undefined) return false;
    return port === 0 && !ipaddr.isValid(ip) ? internalAddresses.unixSockets : internalAddresses.contains(ip);
  }
  if (forwardedFor === undefined || config.xffTrustedHops > 0 || forwardedFor.includes(',')) return false;
  return internalAddresses.contains(forwardedFor.trim());
}

/** Addresses in format strings, with and without ports, and cut to a prefix. */
import ipaddr from 'ipaddr.js';
import { ConfigError } from '../config_error.ts';
import type { SocketAddress } from '../net/connection_info.ts';
import type { Command } from './format_commands.ts';
import type { StreamInfo, TriedHost } from './stream_info.ts';

/** Which of the host's addresses the connection is to, once it is there. */
export function reachedHost(info: StreamInfo): SocketAddress | undefined {
  if (info.upstreamLocalAddress === undefined) return undefined;
  return info.upstreamConnection?.remoteAddress ?? info.upstreamHost;
}

/** The socket's own ends, whatever PROXY headers and redirections say. */
export function directRemote({ connection }: StreamInfo): SocketAddress {
  return connection.directRemoteAddress ?? connection.remoteAddress;
}

export function directLocal({ connection }: StreamInfo): SocketAddress {
  return connection.directLocalAddress ?? connection.localAddress;
}

/** Every host that was tried, the last one last. */
export function tried(info: StreamInfo, show: (host: TriedHost) => string): string | undefined {
  if (info.upstreamHost === undefined) return undefined;
  const last = { address: info.upstreamHost, hostname: info.upstreamHostName };
  return [...(info.earlierHosts ?? []), last].map(show).join(',');
}

export function withoutPort(name: string): string {
  return name.replace(/:\d+$/, '');
}

/** `…_WITHOUT_PORT`, or with a prefix length the network: `10.1.0.0/16`. */
export function withoutPortCommand(
  source: (info: StreamInfo) => SocketAddress | undefined,
): (argument: string) => Command {
  return (argument) => {
    if (argument === '') return ({ info }) => source(info)?.ip;
    const bits = Number(argument);
    if (!Number.isInteger(bits) || bits < 0 || bits > 128) {
      throw new ConfigError('', `"${argument}": a prefix length between 0 and 32 (IPv4) or 128 (IPv6) is wanted`);
    }
    return ({ info }) => {
      const ip = source(info)?.ip;
      return ip === undefined ? undefined : network(ip, bits);
    };
  };
}

/** undefined: no IP address, or a longer prefix than it has. */
function network(ip: string, bits: number): string | undefined {
  if (!ipaddr.isValid(ip)) return undefined;
  const bytes = ipaddr.parse(ip).toByteArray();
  if (bits > bytes.length * 8) return undefined;
  const masked = bytes.map((byte, i) => byte & (0xff00 >> Math.min(8, Math.max(0, bits - i * 8))) & 0xff);
  return `${ipaddr.fromByteArray(masked).toString()}/${bits}`;
}

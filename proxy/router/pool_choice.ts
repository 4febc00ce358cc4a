/** Which pool carries a routed request: one of the cluster's, or for CONNECT that ends here a connection of its own. */
import { proxyHeader } from '../net/proxy_header.ts';
import type { TerminalContext } from '../http/terminal.ts';
import type { Cluster, TransportWish } from '../upstream/cluster.ts';
import { ConnectPool } from '../upstream/connect_pool.ts';
import type { Host } from '../upstream/host.ts';
import type { Pool } from '../upstream/pool.ts';
import type { ForwardAction } from './route.ts';

export function poolOf(
  cluster: Cluster,
  host: Host,
  { priority, terminatesConnect, connectHeader: header }: ForwardAction,
  stream: TerminalContext,
  wish: TransportWish,
): Pool {
  if (!terminatesConnect || stream.upgrade !== 'connect') {
    return cluster.pool(host, priority, stream.info.protocol, wish, stream.connection);
  }
  const { connection } = stream;
  const options = cluster.connectionOptions(host, priority, undefined, connection);
  if (header === undefined) return new ConnectPool(options);
  return new ConnectPool({ ...options, first: (own) => proxyHeader(header, connection, own) });
}

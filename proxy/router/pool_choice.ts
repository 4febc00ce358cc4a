/** Which pool carries a routed request: one of the cluster's, or for CONNECT that ends here a connection of its own. */
import type { TerminalContext } from '../http/terminal.ts';
import type { Cluster, TransportWish } from '../upstream/cluster.ts';
import { ConnectPool } from '../upstream/connect_pool.ts';
import type { Host } from '../upstream/host.ts';
import type { Pool } from '../upstream/pool.ts';
import type { ForwardAction } from './route.ts';

/** A string says why there can be none. */
export function poolOf(
  cluster: Cluster,
  host: Host,
  { priority, terminatesConnect }: ForwardAction,
  stream: TerminalContext,
  wish: TransportWish,
): Pool | string {
  if (!terminatesConnect || stream.upgrade !== 'connect') {
    return cluster.pool(host, priority, stream.info.protocol, wish);
  }
  const options = cluster.connectionOptions(host, priority);
  return typeof options === 'string' ? options : new ConnectPool(options);
}

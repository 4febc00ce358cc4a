/** What requests that the proxy itself makes of a cluster have in common: nothing to hash, one attempt, no priorities. */
import { failures } from '../failures.ts';
import type { Cluster, ClusterRequest } from '../upstream/cluster.ts';
import type { Pool, PoolRequest } from '../upstream/pool.ts';
import type { RequestHeaders } from './headers.ts';

export abstract class OwnRequest implements ClusterRequest {
  readonly requestHeaders: RequestHeaders;
  readonly hashHigh = 0;
  readonly hashLow = 0;
  readonly hasHash = false;
  readonly attempt = 0;
  readonly metadataMatch = undefined;
  readonly originalDestination = { ip: '', port: 0 };
  /** Where a connection was asked for. */
  protected pool: Pool | undefined = undefined;

  constructor(requestHeaders: RequestHeaders) {
    this.requestHeaders = requestHeaders;
  }

  /** It has ended: whatever comes late is passed over. */
  protected abstract get isOver(): boolean;

  /** Told, in a sentence, that there is no host. */
  protected abstract fail(reason: string): void;

  shouldSkip(): boolean {
    return false;
  }

  /** `protocol`: for clusters that speak the request's own. The pool answers, or `fail` does. */
  protected ask(this: OwnRequest & PoolRequest, cluster: Cluster, protocol: 'HTTP/1.1' | 'HTTP/2'): void {
    const resolving = cluster.resolve?.(this);
    if (resolving === undefined) return this.choose(cluster, protocol);
    void resolving.then((failure) => {
      if (this.isOver) return;
      if (failure === undefined) this.choose(cluster, protocol);
      else this.fail(failure.body);
    });
  }

  protected choose(this: OwnRequest & PoolRequest, cluster: Cluster, protocol: 'HTTP/1.1' | 'HTTP/2'): void {
    const host = cluster.chooseHost(this);
    if (host === undefined) return this.fail(failures.noHealthyUpstream.body);
    this.pool = (cluster.ownerOf?.(host) ?? cluster).pool(host, 'default', protocol);
    this.pool.request(this);
  }
}

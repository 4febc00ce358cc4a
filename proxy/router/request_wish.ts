/** What a routed request wants of the host and of the connection that are chosen for it. */
import type { RequestHeaders } from '../http/headers.ts';
import type { TerminalContext } from '../http/terminal.ts';
import type { OverrideHost } from '../load_balancers/load_balancer.ts';
import type { AlpnOverride, ClusterRequest, TransportWish } from '../upstream/cluster.ts';
import type { Host } from '../upstream/host.ts';
import type { RetryState } from './retry_state.ts';
import type { ForwardAction, HashOutput, HashPolicy } from './route.ts';

export class RequestWish implements ClusterRequest, TransportWish {
  protected readonly stream: TerminalContext;
  requestHeaders!: RequestHeaders; // Set by headers(), the first call of every request.
  protected forward!: ForwardAction; // Set with the route, before anything is sent.
  /** Made when something failed. */
  protected retry: RetryState | undefined = undefined;
  protected hash: HashOutput | undefined = undefined;
  hasHash = false;
  readonly attempt = 0;

  constructor(stream: TerminalContext) {
    this.stream = stream;
  }

  protected hashBy(policy: HashPolicy | undefined): void {
    if (policy === undefined) return;
    this.hash = { high: 0, low: 0, setCookies: undefined };
    this.hasHash = policy.hash(this.requestHeaders, this.stream.info, this.hash);
  }

  get hashHigh(): number {
    return this.hash?.high ?? 0;
  }

  get hashLow(): number {
    return this.hash?.low ?? 0;
  }

  get metadataMatch() {
    return this.forward.metadataMatch;
  }

  get upstreamAlpn(): AlpnOverride | undefined {
    return this.stream.info.upstreamAlpn;
  }

  get authority(): string {
    return this.requestHeaders.authority;
  }

  get overrideHost(): OverrideHost | undefined {
    return this.stream.info.hostOfSession();
  }

  get originalDestination(): { readonly ip: string; readonly port: number } {
    return this.stream.connection.localAddress;
  }

  shouldSkip(host: Host): boolean {
    return this.retry?.shouldSkip(host) ?? false;
  }

  get triedPriorities(): ReadonlySet<number> | undefined {
    return this.retry?.triedPriorities;
  }

  get triedHosts(): readonly Host[] | undefined {
    return this.retry?.triedHosts;
  }
}

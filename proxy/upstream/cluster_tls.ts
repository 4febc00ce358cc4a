/** Which TLS a cluster's connections have: endpoint by endpoint, and as a request wishes. */
import { type LogLimit, limitedLog } from '../telemetry/log_limit.ts';
import { ownFrame } from '../telemetry/metadata_frame.ts';
import type { ProxyHeaderConfig } from '../net/proxy_header.ts';
import { TlsStatistics } from '../net/tls/tls_statistics.ts';
import { type TransportOptions, UpstreamTls } from '../net/tls/upstream_tls.ts';
import type { ThreadServices } from '../thread_services.ts';
import type { TransportWish } from './cluster.ts';
import type { ClusterConfig, TransportSocket } from './cluster_config.ts';
import type { Host } from './host.ts';

export class ClusterTls {
  readonly #config: ClusterConfig;
  readonly #services: ThreadServices;
  readonly #made = new Map<TransportSocket, UpstreamTls>();
  readonly #alpnKeys = new WeakMap<readonly string[], string>();
  /** Requests may replace the ALPN list. */
  readonly #takesAlpn: boolean;
  #frame: Buffer | undefined = undefined;
  #statistics: TlsStatistics | undefined = undefined;
  #log: LogLimit | undefined = undefined;

  constructor(config: ClusterConfig, services: ThreadServices) {
    this.#config = config;
    this.#services = services;
    this.#takesAlpn = config.metadata?.['istio']?.['alpn_override'] !== 'false';
  }

  /** undefined: raw. */
  of(host: Host): UpstreamTls | undefined {
    const socket = this.#socketFor(host);
    if (socket?.tls === undefined) return undefined;
    let made = this.#made.get(socket);
    if (made === undefined) {
      const { statistics, secrets, log } = this.#services;
      const { name, altStatName, origin } = this.#config;
      this.#statistics ??= new TlsStatistics(statistics, `cluster.${altStatName}`, 'client');
      this.#log ??= limitedLog(log, 'tls');
      const limited = this.#log;
      made = new UpstreamTls(socket.tls, secrets, this.#statistics, (message) =>
        limited('warning', `Cluster "${name}" (${origin}) at ${message}`),
      );
      this.#made.set(socket, made);
    }
    return made;
  }

  /** undefined: connections begin with what is sent over them. */
  proxyHeader(host: Host): ProxyHeaderConfig | undefined {
    return this.#socketFor(host)?.proxyHeader;
  }

  /** Which connections a request with this wish may share: those of the same key. '': those without a wish. */
  key(wish: TransportWish, protocol: string): string {
    const { autoSni, autoSanValidation } = this.#config.http;
    const alpn = this.#alpn(wish, protocol);
    let key = '';
    if (alpn !== undefined) {
      key = this.#alpnKeys.get(alpn) ?? alpn.join();
      this.#alpnKeys.set(alpn, key);
    }
    return autoSni || autoSanValidation ? `${key} ${hostOf(wish.authority)}` : key;
  }

  options(host: Host, wish: TransportWish | undefined, protocol: string): TransportOptions {
    const { autoSni, autoSanValidation } = this.#config.http;
    const name = wish === undefined ? undefined : hostOf(wish.authority);
    return {
      address: host.address.text,
      hostname: host.hostname,
      frame: this.#ownFrame(),
      alpn: wish === undefined ? undefined : this.#alpn(wish, protocol),
      serverName: autoSni ? name : undefined,
      verifyName: autoSanValidation ? name : undefined,
    };
  }

  #ownFrame(): Buffer | undefined {
    if (!this.#config.exchangesMetadata) return undefined;
    this.#frame ??= ownFrame(this.#services.node);
    return this.#frame;
  }

  #alpn({ upstreamAlpn }: TransportWish, protocol: string): readonly string[] | undefined {
    if (upstreamAlpn === undefined || !this.#takesAlpn) return undefined;
    return protocol === 'http2' ? upstreamAlpn.http2 : protocol === 'http1' ? upstreamAlpn.http1 : undefined;
  }

  #socketFor(host: Host): TransportSocket | undefined {
    const { transportSocketMatches, transportSocket } = this.#config;
    if (transportSocketMatches.length === 0) return transportSocket;
    const labels = host.metadata?.['envoy.transport_socket_match'] ?? {};
    const fits = transportSocketMatches.find(({ match }) =>
      Object.entries(match).every(([key, value]) => labels[key] === value),
    );
    return fits === undefined ? transportSocket : fits.socket;
  }
}

/** Without the port, lower-case. */
function hostOf(authority: string): string {
  const colon = authority.lastIndexOf(':');
  const host = colon > authority.lastIndexOf(']') ? authority.slice(0, colon) : authority;
  return (host.startsWith('[') ? host.slice(1, -1) : host).toLowerCase();
}

/** A cluster on one data thread: hosts, pools and counters, made when traffic first asks for it. */
import { isIP } from 'node:net';
import type { Failure } from '../failures.ts';
import type { Metadata } from '../http/stream_info.ts';
import { type ProxiedConnection, type ProxyHeaderConfig, proxiedKey, proxyHeader } from '../net/proxy_header.ts';
import { originalSource } from '../net/original_source.ts';
import type { UpstreamTls, UpstreamTransport } from '../net/tls/upstream_tls.ts';
import type { ThreadServices } from '../thread_services.ts';
import { AggregateHosts, type AggregateLevel, type AggregatePart } from './aggregate_hosts.ts';
import type { Breaker, Priority } from './circuit_breakers.ts';
import type { Cluster, ClusterRequest, TransportWish } from './cluster.ts';
import type { ClusterConfig, Discovery } from './cluster_config.ts';
import { ClusterHost, ClusterHosts } from './cluster_hosts.ts';
import { ClusterStatistics } from './cluster_statistics.ts';
import { ClusterTls } from './cluster_tls.ts';
import { ConnectionPool } from './connection_pool.ts';
import { ForwardProxyHosts } from './forward_proxy_hosts.ts';
import type { Host } from './host.ts';
import { Http1Connection } from './http1_connection.ts';
import { Http2Connection } from './http2_connection.ts';
import { type LoadAssignment, plainEndpoint } from './load_assignment.ts';
import { OutlierReporter } from './outlier_reporter.ts';
import type { Pool, PoolOptions } from './pool.ts';
import type { LoadKind } from './priority_loads.ts';

/** By priority and what they speak. */
interface HostPools {
  default: ProtocolPools;
  high: ProtocolPools;
  /** Of the host when they were made: another one may ask for another transport. */
  metadata: Metadata | undefined;
  readonly tls: UpstreamTls | undefined;
  readonly header: ProxyHeaderConfig | undefined;
  /** TLS with a request's own wishes, PROXY headers: by priority, protocol, ALPN list, server name, and client. */
  special: Map<string, Pool> | undefined;
}
interface ProtocolPools {
  http1: Pool | undefined;
  http2: Pool | undefined;
  auto: Pool | undefined;
}

/** Pools of a host for different server names and ALPN lists; the oldest goes. Names come from clients. */
const MAX_SPECIAL_POOLS = 64;
/** Pools of a host for different clients, in PROXY headers or by source address: each has connections of its own. */
const MAX_PROXIED_POOLS = 1024;
/** Original-destination hosts kept at a time; the oldest goes. */
const MAX_ORIGINAL_HOSTS = 1024;

export class ClusterRuntime implements Cluster {
  readonly name: string;
  readonly altStatName: string;
  readonly metadata: Metadata | undefined;
  readonly statistics: ClusterStatistics;
  readonly config: ClusterConfig;
  readonly maxStreamDurationMs: number;
  readonly #services: ThreadServices;
  readonly #hosts: ClusterHosts;
  readonly outlier: OutlierReporter | undefined;
  readonly #pools = new Map<Host, HostPools>();
  readonly #breakers: { readonly default: Breaker; readonly high: Breaker };
  readonly #forward: ForwardProxyHosts | undefined;
  readonly #aggregate: AggregateHosts | undefined;
  /** Changes with the hosts and their health. */
  membershipVersion = 0;
  readonly #originalHosts = new Map<string, ClusterHost>();
  #closed = false;
  readonly #tls: ClusterTls;
  readonly #tcpTransports = new WeakMap<Host, { readonly tls: UpstreamTls; readonly transport: UpstreamTransport }>();

  constructor(config: ClusterConfig, services: ThreadServices) {
    this.name = config.name;
    this.altStatName = config.altStatName;
    this.metadata = config.metadata;
    this.config = config;
    this.maxStreamDurationMs = config.http.maxStreamDurationMs;
    this.#services = services;
    this.statistics = new ClusterStatistics(services.statistics, config.altStatName);
    const { random, nowMs } = services;
    this.#hosts = new ClusterHosts(
      {
        loadBalancer: config.loadBalancer,
        panicThresholdPercent: config.panicThresholdPercent,
        failOnPanic: config.failOnPanic,
        localityWeighted: config.localityWeighted,
        sessionHealth: config.sessionHealth,
        slowStart: config.slowStart === undefined ? undefined : { ...config.slowStart, nowMs, random },
        subsets: config.subsets,
        subsetStatistics: config.subsets === undefined ? undefined : this.statistics.subsets(),
        tables: services.hashTables,
        random,
        nowMs,
        onPanic: () => this.statistics.lbHealthyPanic.inc(),
      },
      services.hostVerdicts.of(config.name),
    );
    this.outlier =
      config.outlier === undefined
        ? undefined
        : new OutlierReporter(config.name, config.outlier, services.hostReports, services.outlierFound);
    this.#breakers = {
      default: services.breakers.open(config.name, 'default', config.breakers.default),
      high: services.breakers.open(config.name, 'high', config.breakers.high),
    };
    this.#tls = new ClusterTls(config, services);
    this.#forward =
      config.discovery.kind === 'dynamic_forward_proxy'
        ? new ForwardProxyHosts(config, services.dns.of(config.dns.resolver), services.guard, services.nowMs, (host) =>
            this.#dropPools(host),
          )
        : undefined;
    this.#aggregate =
      config.discovery.kind === 'aggregate'
        ? new AggregateHosts({ ...config, members: config.discovery.members, clusters: services.clusters, random })
        : undefined;
    if (config.inlineAssignment !== undefined && config.discovery.kind === 'static') {
      this.updateEndpoints(config.inlineAssignment);
    }
  }

  get hosts(): readonly Host[] {
    return (
      this.#forward?.hosts ?? (this.#originalHosts.size > 0 ? [...this.#originalHosts.values()] : this.#hosts.hosts)
    );
  }

  /** New membership; connections to hosts that are gone end with their responses. */
  updateEndpoints(assignment: LoadAssignment): void {
    const { added, removed } = this.#hosts.update(assignment);
    this.membershipVersion++;
    for (const host of removed) {
      this.#dropPools(host);
      this.outlier?.forget(host);
    }
    const { membershipTotal, membershipHealthy, membershipChange } = this.statistics;
    const { hosts } = this.#hosts;
    membershipTotal.set(hosts.length);
    membershipHealthy.set(this.#hosts.healthyCount);
    this.statistics.membershipDegraded.set(hosts.filter(({ health }) => health === 'degraded').length);
    this.statistics.maxHostWeight.set(hosts.reduce((most, { weight }) => Math.max(most, weight), 0));
    if (added.length + removed.length > 0) membershipChange.inc();
  }

  /** The control thread has judged these hosts anew. */
  verdictsChanged(addresses: readonly string[]): void {
    for (const address of addresses) this.#hosts.verdictChanged(address);
    this.membershipVersion++;
    this.statistics.membershipHealthy.set(this.#hosts.healthyCount);
  }

  /** The next version of this cluster takes over: nothing is cut. */
  close(): void {
    this.#closed = true;
    for (const host of [...this.#pools.keys()]) this.#dropPools(host);
    this.outlier?.close();
    this.#services.breakers.close(this.name, 'default');
    this.#services.breakers.close(this.name, 'high');
    this.statistics.membershipTotal.set(0);
    this.statistics.membershipHealthy.set(0);
    this.statistics.membershipDegraded.set(0);
    this.statistics.maxHostWeight.set(0);
  }

  chooseHost(request: ClusterRequest): Host | undefined {
    const { discovery } = this.config;
    switch (discovery.kind) {
      case 'dynamic_forward_proxy':
        return this.#forward?.get(request.requestHeaders);
      case 'original_dst':
        return this.#originalHost(request, discovery);
      case 'aggregate':
        return this.#aggregate?.choose(request);
      default:
        return this.#hosts.choose(request);
    }
  }

  /** For an aggregate cluster that has chosen one of the priorities. */
  chooseAt(priority: number, kind: LoadKind, request: ClusterRequest): Host | undefined {
    return this.#hosts.chooseAt(priority, kind, request);
  }

  /** Those of its priorities that have hosts. */
  addLevels(into: AggregateLevel[], madeOf: AggregatePart[]): void {
    if (this.#aggregate !== undefined) return this.#aggregate.addLevels(into, madeOf);
    this.#hosts.priorities.forEach(({ total, healthy, degraded, overprovisioningPercent }, priority) => {
      if (total > 0) into.push({ total, healthy, degraded, overprovisioningPercent, priority, member: this });
    });
  }

  ownerOf(host: Host): Cluster {
    return this.#aggregate?.ownerOf(host) ?? this;
  }

  resolve(request: ClusterRequest): Promise<Failure | undefined> | undefined {
    if (this.#forward !== undefined) return this.#forward.resolve(request.requestHeaders);
    if (this.#aggregate !== undefined) return this.#aggregate.resolve(request);
    return this.#hosts.ready(request)?.then(() => undefined);
  }

  breaker(priority: Priority): Breaker {
    return this.#breakers[priority];
  }

  pool(
    host: Host,
    priority: Priority,
    downstreamProtocol: string,
    wish?: TransportWish,
    proxied?: ProxiedConnection,
  ): Pool {
    let pools = this.#pools.get(host);
    if (pools !== undefined && pools.metadata !== host.metadata) {
      pools.metadata = host.metadata;
      if (pools.tls !== this.#tls.of(host) || pools.header !== this.#tls.proxyHeader(host)) {
        this.#dropPools(host);
        pools = undefined;
      }
    }
    if (pools === undefined) {
      pools = {
        default: { http1: undefined, http2: undefined, auto: undefined },
        high: { http1: undefined, http2: undefined, auto: undefined },
        metadata: host.metadata,
        tls: this.#tls.of(host),
        header: this.#tls.proxyHeader(host),
        special: undefined,
      };
      this.#pools.set(host, pools);
    }
    const configured = this.config.http.protocol;
    const protocol = configured === 'downstream' ? (downstreamProtocol === 'HTTP/2' ? 'http2' : 'http1') : configured;
    let key = pools.tls !== undefined && wish !== undefined ? this.#tls.key(wish, protocol) : '';
    if (pools.header !== undefined && proxied !== undefined) key += ` ${proxiedKey(proxied)}`;
    const from = originalSource(proxied?.filterState);
    if (from !== undefined) key += ` from ${from.ip}`;
    if (key !== '') return this.#specialPool(host, pools, priority, protocol, wish, proxied, key);
    const byProtocol = pools[priority];
    let pool = byProtocol[protocol];
    if (pool === undefined) {
      pool = this.#makePool(
        host,
        priority,
        protocol,
        pools.tls?.transport(this.#tls.options(host, undefined, protocol)),
        proxied,
      );
      byProtocol[protocol] = pool;
    }
    return pool;
  }

  connectionOptions(host: Host, priority: Priority, wish?: TransportWish, proxied?: ProxiedConnection): PoolOptions {
    const tls = this.#tls.of(host);
    if (tls === undefined) return this.#options(host, priority, 'tcp', undefined, proxied);
    let known = wish === undefined ? this.#tcpTransports.get(host) : undefined;
    if (known?.tls !== tls) {
      // Kept with the host: its sessions are resumed.
      known = { tls, transport: tls.transport(this.#tls.options(host, wish, 'tcp')) };
      if (wish === undefined) this.#tcpTransports.set(host, known);
    }
    return this.#options(host, priority, 'tcp', known.transport, proxied);
  }

  #specialPool(
    host: Host,
    pools: HostPools,
    priority: Priority,
    protocol: PoolOptions['protocol'],
    wish: TransportWish | undefined,
    proxied: ProxiedConnection | undefined,
    wishKey: string,
  ): Pool {
    pools.special ??= new Map();
    const key = `${priority} ${protocol} ${wishKey}`;
    let pool = pools.special.get(key);
    if (pool !== undefined) return pool;
    const transport = pools.tls?.transport(this.#tls.options(host, wish, protocol));
    pool = this.#makePool(host, priority, protocol, transport, proxied);
    pools.special.set(key, pool);
    const perClient = pools.header !== undefined || originalSource(proxied?.filterState) !== undefined;
    if (pools.special.size > (perClient ? MAX_PROXIED_POOLS : MAX_SPECIAL_POOLS)) {
      const [oldest] = pools.special;
      if (oldest !== undefined) {
        pools.special.delete(oldest[0]);
        oldest[1].drain();
      }
    }
    return pool;
  }

  #makePool(
    host: Host,
    priority: Priority,
    protocol: PoolOptions['protocol'],
    transport: UpstreamTransport | undefined,
    proxied: ProxiedConnection | undefined,
  ): Pool {
    const options = this.#options(host, priority, protocol, transport, proxied);
    const speaksHttp2 = (alpn: string | undefined): boolean =>
      protocol === 'http2' || (protocol === 'auto' && alpn === 'h2');
    const pool = new ConnectionPool(options, (holder, stream) =>
      speaksHttp2(stream.info.alpn) ? new Http2Connection(holder, stream) : new Http1Connection(holder, stream),
    );
    // For a request that began with this cluster and is sent again: its connection ends with it, nobody else will come.
    if (this.#closed) pool.drain();
    return pool;
  }

  #options(
    host: Host,
    priority: Priority,
    protocol: PoolOptions['protocol'],
    transport: UpstreamTransport | undefined,
    proxied: ProxiedConnection | undefined,
  ): PoolOptions {
    const { config } = this;
    const header = this.#tls.proxyHeader(host);
    const { deadlines, nowMs, overload } = this.#services;
    return {
      sheds: () => overload.shedsAt('connection_pool_new_connection'),
      protocol,
      host,
      breaker: this.#breakers[priority],
      statistics: this.statistics,
      connectTimeout: deadlines.list(config.connectTimeoutMs),
      connectTimeoutMs: config.connectTimeoutMs,
      idleTimeout: config.http.idleTimeoutMs > 0 ? deadlines.list(config.http.idleTimeoutMs) : undefined,
      maxRequestsPerConnection: config.http.maxRequestsPerConnection,
      maxHeadersCount: config.http.maxHeadersCount,
      maxConnectionDuration:
        config.http.maxConnectionDurationMs > 0 ? deadlines.list(config.http.maxConnectionDurationMs) : undefined,
      http2: config.http.http2,
      socket: config.socket,
      transport,
      first: header === undefined ? undefined : (own) => proxyHeader(header, proxied, own),
      from: originalSource(proxied?.filterState),
      deadlines,
      nowMs,
    };
  }

  #originalHost(request: ClusterRequest, discovery: Extract<Discovery, { kind: 'original_dst' }>): Host | undefined {
    const named = discovery.header === undefined ? undefined : request.requestHeaders.get(discovery.header);
    const destination = named === undefined ? request.originalDestination : parseDestination(named);
    if (destination === undefined) return undefined;
    const { ip } = destination;
    const port = discovery.port ?? destination.port;
    const key = `${ip} ${port}`;
    const known = this.#originalHosts.get(key);
    if (known !== undefined) return known;
    if (this.#services.guard.isOwnAddress(ip, port)) return undefined;
    const host = new ClusterHost(plainEndpoint(ip, port));
    this.#originalHosts.set(key, host);
    if (this.#originalHosts.size > MAX_ORIGINAL_HOSTS) {
      const [oldest] = this.#originalHosts;
      if (oldest !== undefined) {
        this.#originalHosts.delete(oldest[0]);
        this.#dropPools(oldest[1]);
      }
    }
    return host;
  }

  #dropPools(host: Host): void {
    const pools = this.#pools.get(host);
    if (pools === undefined) return;
    this.#pools.delete(host);
    for (const { http1, http2, auto } of [pools.default, pools.high]) {
      http1?.drain();
      http2?.drain();
      auto?.drain();
    }
    for (const pool of pools.special?.values() ?? []) pool.drain();
  }
}

/** `10.1.2.3:80`, `[2001:db8::1]:80`; names are not resolved (Envoy too wants an address). */
function parseDestination(text: string): { readonly ip: string; readonly port: number } | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const ip = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  return ip === undefined || isIP(ip) === 0 || port < 1 || port > 65535 ? undefined : { ip, port };
}

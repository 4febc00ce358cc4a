/** What all connections of one TCP proxy share: its configuration, counters, loggers and timeouts. */
import type { DeadlineList } from '../net/deadlines.ts';
import type { AccessLog } from '../telemetry/access_log.ts';
import type { ThreadServices } from '../thread_services.ts';
import type { TcpDestination, TcpProxyConfig } from './tcp_proxy_config.ts';
import { TcpProxyStatistics } from './tcp_proxy_statistics.ts';

export class TcpProxyRuntime {
  readonly config: TcpProxyConfig;
  readonly services: ThreadServices;
  readonly statistics: TcpProxyStatistics;
  readonly accessLogs: readonly AccessLog[];
  /** undefined: connections may be silent for ever. */
  readonly idle: DeadlineList | undefined;

  constructor(config: TcpProxyConfig, services: ThreadServices) {
    this.config = config;
    this.services = services;
    this.statistics = new TcpProxyStatistics(services.statistics, config.statPrefix);
    this.accessLogs = config.accessLogs.map((log) => services.accessLogs.create(log));
    this.idle = config.idleTimeoutMs > 0 ? services.deadlines.list(config.idleTimeoutMs) : undefined;
  }

  /** How long the next connection may live; 0: without end. */
  get maxDurationMs(): number {
    const { maxConnectionDurationMs: ms, maxDurationJitterPercent: jitter } = this.config;
    return jitter === 0 ? ms : Math.round(ms * (1 + (this.services.random() * jitter) / 100));
  }

  /** The next connection's cluster, by weight. */
  choose(): TcpDestination {
    const { clusters, totalWeight } = this.config;
    if (clusters.length > 1) {
      let point = this.services.random() * totalWeight;
      for (const destination of clusters) {
        point -= destination.weight;
        if (point < 0) return destination;
      }
    }
    // parse saw to it that there is one; rounding may leave a hair beyond the last.
    return clusters.at(-1) as TcpDestination;
  }
}

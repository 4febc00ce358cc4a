/** A data thread: owns its connections from accept to close. Composition root. */
import { networkInterfaces } from 'node:os';
import { parentPort, workerData } from 'node:worker_threads';
import { httpFilters, listenerFilters, networkFilters } from '../filters/index.ts';
import { OnDemand } from './on_demand.ts';
import { MISSING_FILTER_CONFIG } from './build_context.ts';
import { Cells } from './cells.ts';
import { missingListenerFilter, missingNetworkFilter } from './listener/missing_filter_config.ts';
import { missingFilterConfig } from './http/missing_filter_config.ts';
import { type DrainOrder, type DrainScope, inScope, ThreadDrain } from './drain.ts';
import type { FilterMaker, ListenerRuntime } from './listener.ts';
import { startConnectionIdsAt } from './net/acceptor.ts';
import { asOneEvent, eventNowMs, poisonReadBuffers } from './net/socket_stream.ts';
import { Deadlines } from './net/deadlines.ts';
import { DownstreamTls } from './net/tls/downstream_tls.ts';
import { TlsStatistics } from './net/tls/tls_statistics.ts';
import { limitedLog } from './telemetry/log_limit.ts';
import { EXPIRY_SWEEP_MS, SlabStatistics } from './telemetry/slab.ts';
import { parseStatsConfig } from './telemetry/stats_config.ts';
import { ThreadAccessLogs } from './telemetry/thread_access_logs.ts';
import { ThreadRecords } from './telemetry/thread_records.ts';
import type { OtelLogConfig, OtelLogRecord } from './telemetry/otel_logs/otel_log_config.ts';
import type { SpanRecord } from './telemetry/tracing/span.ts';
import type { TracerConfig } from './telemetry/tracing/tracing_config.ts';
import { controlCall } from './http/control_call.ts';
import { GrpcAccessLogs } from './telemetry/grpc_logs/grpc_access_log.ts';
import { LOG_LEVELS, type Logger, type LogLevel } from './telemetry/log.ts';
import { setRuntimeValues } from './runtime_values.ts';
import { describeClusters, describeThread } from './thread_description.ts';
import type { FromThread, ThreadStart, ToThread } from './thread_messages.ts';
import type { ThreadServices } from './thread_services.ts';
import { DnsResolvers } from './upstream/dns_resolvers.ts';
import { TokenBuckets } from './http/token_buckets.ts';
import type { HeldMemory } from './overload/heavy_streams.ts';
import { LimitedHandshakes } from './overload/handshake_limit.ts';
import { CONNECTIONS_OF_ALL, ThreadOverload } from './overload/overload_state.ts';
import { probeHost } from './upstream/health_probe.ts';
import { HostReports } from './upstream/host_reports.ts';
import { HostVerdicts } from './upstream/host_verdicts.ts';
import { SharedHashTables } from './upstream/shared_hash_tables.ts';
import { SharedBreakers } from './upstream/shared_breakers.ts';
import { startBeating } from './watchdog.ts';

/** Access-log bytes on their way to the writer; beyond, lines are dropped and counted. */
/** Connections of all listeners are counted as those of a cluster without a name. */
const UNLIMITED = { maxConnections: 2 ** 31, maxPendingRequests: 0, maxRequests: 0, maxRetries: 0 };
const MAX_UNWRITTEN_BYTES = 8 * 1024 * 1024;

const port = parentPort;
if (port === null) throw new Error('worker.ts is a data thread: it is started by main.ts');
const start = workerData as ThreadStart;
const send = (message: FromThread): void => port.postMessage(message);

poisonReadBuffers(start.poisonReadBuffers);
setRuntimeValues(start.runtime);
startConnectionIdsAt(start.threadIndex * 2 ** 40 + 1);
let logLevel = start.logLevel;
let unwritten = 0;
const ownPorts = new Set<number>();
/** Of this machine, as of the last configuration. */
let ownIps = machineIps();
const cells = new Cells();
const statistics = new SlabStatistics(
  (message) => send({ kind: 'statistics', message }),
  start.statsConfig === undefined ? undefined : parseStatsConfig(start.statsConfig),
);
setInterval(() => statistics.expire(performance.now()), EXPIRY_SWEEP_MS).unref();
const logRecords = new ThreadRecords<OtelLogConfig, OtelLogRecord>(
  (config, records) => send({ kind: 'log-records', config, records }),
  {
    sent: statistics.counter('access_logs.open_telemetry_access_log.logs_made'),
    dropped: statistics.counter('access_logs.open_telemetry_access_log.logs_dropped'),
  },
);
const isLogged = (level: LogLevel): boolean => LOG_LEVELS.indexOf(level) >= LOG_LEVELS.indexOf(logLevel);
const log: Logger = {
  enabled: isLogged,
  log(level, component, message) {
    if (isLogged(level)) send({ kind: 'log', level, component, message });
  },
};
const grpcLogs = new GrpcAccessLogs({
  clusters: cells,
  node: start.node,
  written: statistics.counter('access_logs.grpc_access_log.logs_written'),
  dropped: statistics.counter('access_logs.grpc_access_log.logs_dropped'),
  complain: limitedLog(log, 'access_log'),
});
const accessLogs = new ThreadAccessLogs(
  {
    send(path, bytes) {
      if (unwritten > MAX_UNWRITTEN_BYTES) return false;
      unwritten += bytes.length;
      port.postMessage({ kind: 'lines', path, bytes } satisfies FromThread, [bytes.buffer as ArrayBuffer]);
      return true;
    },
  },
  {
    written: statistics.counter('access_log_file.write_total'),
    dropped: statistics.counter('access_log_file.write_dropped'),
    flushedByTimer: statistics.counter('filesystem.flushed_by_timer'),
  },
  start.accessLogFlushMs,
  logRecords,
  grpcLogs,
);
const spans = new ThreadRecords<TracerConfig, SpanRecord>(
  (tracer, list) => send({ kind: 'spans', tracer, spans: list }),
  {
    sent: statistics.counter('tracing.spans_finished'),
    dropped: statistics.counter('tracing.spans_dropped'),
  },
);
const nowMs = eventNowMs;
const breakers = new SharedBreakers(start.breakers, start.breakerRow);
const overload = new ThreadOverload(
  start.overload,
  start.threadIndex,
  breakers.open(CONNECTIONS_OF_ALL, 'default', UNLIMITED),
  Math.random,
  (name) => statistics.counter(name),
);
overload.watchLag();
startBeating(start.heartbeat);
const hashTables = new SharedHashTables({
  wanted: (id, spec) => send({ kind: 'hash-table-wanted', id, spec }),
  letGo: (id) => send({ kind: 'hash-table-let-go', id }),
});
const onDemand = new OnDemand({
  send: (demand) => send({ kind: 'demand', demand }),
  setTimer: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs).unref();
    return () => clearTimeout(timer);
  },
});
const services: ThreadServices = {
  threadIndex: start.threadIndex,
  statistics,
  clusters: cells,
  routes: cells.routes,
  scopes: cells.scopes,
  secrets: cells.secrets,
  ticketSecret: { bytes: start.ticketSecret },
  onDemand,
  breakers,
  overload,
  hashTables,
  tokenBuckets: new TokenBuckets(start.buckets, start.bucketRow),
  hostVerdicts: new HostVerdicts(),
  hostReports: new HostReports(start.reports, start.reportRow),
  outlierFound: (cluster, address, _slot, cause) => send({ kind: 'outlier', cluster, address, cause }),
  accessLogs,
  spans,
  deadlines: new Deadlines(nowMs),
  drain: new ThreadDrain(nowMs, Math.random),
  dns: new DnsResolvers(),
  guard: { isOwnAddress: (ip, portNumber) => ownPorts.has(portNumber) && isLocal(ip) },
  log,
  node: start.node,
  drainTimeMs: start.drainTimeMs,
  random: Math.random,
  nowMs,
};
const maker: FilterMaker = {
  network(typeUrl, config, deps) {
    if (typeUrl === MISSING_FILTER_CONFIG) {
      return missingNetworkFilter(statistics.counter(`${deps.statPrefix}.network_extension_config_missing`));
    }
    const factory = networkFilters.get(typeUrl);
    if (factory === undefined) throw new Error(`no network filter answers to ${typeUrl}`);
    return factory.create(config, deps);
  },
  listener(typeUrl, config, deps) {
    if (typeUrl === MISSING_FILTER_CONFIG) {
      return missingListenerFilter(deps.counter(`${deps.statPrefix}.extension_config_missing`));
    }
    const factory = listenerFilters.get(typeUrl);
    if (factory === undefined) throw new Error(`no listener filter answers to ${typeUrl}`);
    return factory.create(config, deps);
  },
  transport({ tls }, { secrets, ticketSecret, log }, { listener, chain, statPrefix }) {
    const limited = limitedLog(log, 'tls');
    const where = `Listener "${listener.name}"${chain === '' ? '' : `, chain "${chain}"`} (${listener.origin})`;
    const accepted = new DownstreamTls(tls, {
      secrets,
      ticketSecret: ticketSecret.bytes,
      statistics: new TlsStatistics(statistics, statPrefix, 'server'),
      complain: (message) => limited('warning', `${where}: ${message}`),
    });
    return new LimitedHandshakes(accepted, overload, statistics.counter(`${statPrefix}.ssl.handshake_overflow`));
  },
  http(parsed, deps) {
    // An optional filter that is not known: parsed to nothing, does nothing.
    if (parsed.typeUrl === '') return {};
    if (parsed.typeUrl === MISSING_FILTER_CONFIG) return missingFilterConfig;
    const factory = httpFilters.get(parsed.typeUrl);
    if (factory === undefined) throw new Error(`no HTTP filter answers to ${parsed.typeUrl}`);
    return factory.create(parsed.config, deps);
  },
};
cells.bind(services, maker);
scaleTimeouts();

port.on('message', (message: ToThread) => asOneEvent(() => receive(message)));
send({ kind: 'ready' });

function receive(message: ToThread): void {
  switch (message.kind) {
    case 'update': {
      const { epoch } = message.update;
      const applied = (failure: string | undefined): void => send({ kind: 'applied', epoch, failure });
      try {
        const applying = cells.apply(message.update, message.listen);
        for (const { type, name } of message.update.upserts) onDemand.changed(type, name);
        applying.then(
          () => applied(undefined),
          (error: Error) => applied(error.message),
        );
      } catch (error) {
        applied((error as Error).stack);
      }
      break;
    }
    case 'own-ports':
      ownPorts.clear();
      for (const own of message.ports) ownPorts.add(own);
      ownIps = machineIps();
      break;
    case 'host-verdicts':
      services.hostVerdicts.apply(message);
      cells.built(message.cluster)?.verdictsChanged(message.hosts.map(([address]) => address));
      break;
    case 'runtime':
      setRuntimeValues(message.values);
      break;
    case 'demand-absent':
      onDemand.absent(message.demand);
      break;
    case 'log-level':
      logLevel = message.level;
      break;
    case 'spans-taken':
      spans.taken(message.count);
      break;
    case 'log-records-taken':
      logRecords.taken(message.count);
      break;
    case 'call': {
      const { id, cluster, call } = message;
      controlCall(services, cluster, call).then(
        (body) => send({ kind: 'called', id, body, failure: undefined }),
        (error: Error) => send({ kind: 'called', id, body: new Uint8Array(), failure: error.message }),
      );
      break;
    }
    case 'probe': {
      const { id, cluster, address, check, timeoutMs } = message;
      cells.get(cluster); // Builds it, where no traffic has asked for it yet.
      const runtime = cells.built(cluster);
      const probing = runtime === undefined ? Promise.resolve('') : probeHost(runtime, address, check, timeoutMs);
      void probing.then((answer) => send({ kind: 'probed', id, answer }));
      break;
    }
    case 'lines-written':
      unwritten -= message.bytes;
      break;
    case 'drain':
      beginDrain(message.order, message.elapsedMs);
      break;
    case 'hash-table':
      hashTables.arrived(message.id, message.memory);
      break;
    case 'reset-streams': {
      const held: HeldMemory[] = [];
      for (const listener of cells.listeners.values()) listener.addHeldMemory(held);
      overload.shedHeavy(held);
      break;
    }
    case 'overload':
      for (const listener of cells.listeners.values()) listener.pauseAccepting();
      scaleTimeouts();
      break;
    case 'stop-accepting':
      for (const listener of listenersIn(message.scope)) listener.stopAccepting();
      break;
    case 'health':
      services.drain.healthFailed = message.failed;
      break;
    case 'end':
      // Of a worker: the thread's.
      return process.exit(1);
    case 'flush':
      accessLogs.flush();
      spans.flush();
      logRecords.flush();
      void grpcLogs.end().then(() => send({ kind: 'flushed', id: message.id }));
      break;
    case 'describe':
      send({ kind: 'description', id: message.id, description: describeThread(cells) });
      break;
    case 'describe-clusters':
      send({ kind: 'clusters', id: message.id, part: describeClusters(cells, message.from) });
      break;
    default:
      message satisfies never;
  }
}

/** Kept-alive connections are told too: at once, or when the drain time is over. */
function beginDrain(order: DrainOrder, elapsedMs: number): void {
  services.drain.begin(order, elapsedMs);
  const tell = (): void => {
    for (const listener of listenersIn(order.scope)) if (listener.config.drainType === 'default') listener.drain();
  };
  if (order.strategy === 'immediate') tell();
  else setTimeout(tell, Math.max(0, order.timeMs - elapsedMs)).unref();
}

function scaleTimeouts(): void {
  services.deadlines.rescale((timer, configuredMs) => overload.timeoutMs(timer, configuredMs));
}

function listenersIn(scope: DrainScope): ListenerRuntime[] {
  return [...cells.listeners.values()].filter(({ config }) => inScope(scope, config.direction));
}

function isLocal(ip: string): boolean {
  return ip.startsWith('127.') || ip === '::1' || ip === '0.0.0.0' || ip === '::' || ownIps.has(ip);
}

function machineIps(): ReadonlySet<string> {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return new Set(all.map(({ address }) => address));
}

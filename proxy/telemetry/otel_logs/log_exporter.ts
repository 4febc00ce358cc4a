/** The control thread's end of OTLP access logs. */
import { ProtobufLogsSerializer } from '@opentelemetry/otlp-transformer';
import type { ClusterCaller } from '../../cluster_caller.ts';
import type { NodeIdentity } from '../../proxy_options.ts';
import { ExportQueue } from '../export_queue.ts';
import type { Logger } from '../log.ts';
import { resourceOf, serviceNameOf, hrTime } from '../otlp_resource.ts';
import type { Statistics } from '../statistics.ts';
import type { OtelLogConfig, OtelLogRecord } from './otel_log_config.ts';

const PATH = '/opentelemetry.proto.collector.logs.v1.LogsService/Export';
const SCOPE = { name: 'pillion' };

type Serializable = Parameters<typeof ProtobufLogsSerializer.serializeRequest>[0];

export interface LogExportersOptions {
  readonly caller: ClusterCaller;
  readonly log: Logger;
  readonly node: NodeIdentity;
  readonly statistics: Statistics;
}

/** One queue a logger's configuration. */
export class LogExporters {
  readonly #options: LogExportersOptions;
  readonly #queues = new Map<string, ExportQueue<OtelLogRecord>>();

  constructor(options: LogExportersOptions) {
    this.#options = options;
  }

  add(config: OtelLogConfig, records: readonly OtelLogRecord[]): void {
    const key = JSON.stringify(config);
    let queue = this.#queues.get(key);
    if (queue === undefined) {
      queue = this.#queueFor(config);
      this.#queues.set(key, queue);
    }
    queue.add(records);
  }

  async flush(): Promise<void> {
    await Promise.all([...this.#queues.values()].map((queue) => queue.flush()));
  }

  #queueFor(config: OtelLogConfig): ExportQueue<OtelLogRecord> {
    const { log, statistics, caller, node } = this.#options;
    const prefix = 'access_logs.open_telemetry_access_log';
    return new ExportQueue({
      what: 'log records',
      place: `cluster "${config.cluster}"`,
      component: 'access_log',
      log,
      sent: statistics.counter(`${prefix}.logs_written`),
      dropped: statistics.counter(`${prefix}.logs_dropped`),
      send: async (records) => {
        if (!caller.has(config.cluster)) throw new Error(`there is no cluster "${config.cluster}"`);
        const { authority, headers, timeoutMs } = config;
        const body = encode(records, config, node);
        await caller.call(config.cluster, { authority, path: PATH, headers, body, timeoutMs, grpc: true });
      },
    });
  }
}

/** opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest */
function encode(records: readonly OtelLogRecord[], config: OtelLogConfig, node: NodeIdentity): Buffer {
  const base = resourceOf(serviceNameOf(node), node);
  const resource = {
    ...base,
    attributes: {
      ...base.attributes,
      ...(config.builtinLabels && {
        log_name: config.logName,
        zone_name: node.zone ?? '',
        cluster_name: node.cluster,
        node_name: node.id,
      }),
      ...Object.fromEntries(config.resourceAttributes),
    },
  };
  const readable = records.map((record) => ({
    hrTime: hrTime(record.timeMs),
    hrTimeObserved: hrTime(record.timeMs),
    ...(record.body !== undefined && { body: record.body }),
    ...(record.traceId !== '' && { spanContext: { traceId: record.traceId, spanId: record.spanId, traceFlags: 1 } }),
    resource,
    instrumentationScope: SCOPE,
    attributes: pairs(record.attributes),
    droppedAttributesCount: 0,
  }));
  const bytes = ProtobufLogsSerializer.serializeRequest(readable as unknown as Serializable);
  if (bytes === undefined) throw new Error('OpenTelemetry could not encode the records');
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function pairs(flat: readonly string[]): Record<string, string> {
  const out: Record<string, string> = {};
  for (let i = 0; i < flat.length; i += 2) out[String(flat[i])] = String(flat[i + 1]);
  return out;
}

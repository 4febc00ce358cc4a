/** A collector of OTLP spans over gRPC and HTTP: keeps what it is sent. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import type { Scope } from './scope.ts';

export interface CollectedSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId: string;
  readonly traceState: string;
  readonly name: string;
  /** 2: server, 3: client (opentelemetry.proto.trace.v1.Span.SpanKind). */
  readonly kind: number;
  readonly startNano: bigint;
  readonly endNano: bigint;
  /** 2: error. */
  readonly status: number;
  readonly attributes: ReadonlyMap<string, string | boolean | bigint>;
  readonly serviceName: string;
}

export interface CollectedLog {
  readonly timeNano: bigint;
  readonly body: string;
  readonly attributes: ReadonlyMap<string, string | boolean | bigint>;
  readonly resource: ReadonlyMap<string, string | boolean | bigint>;
  readonly traceId: string;
}

export interface Collector {
  readonly grpcPort: number;
  readonly httpPort: number;
  readonly spans: CollectedSpan[];
  readonly logs: CollectedLog[];
  /** What it was asked over HTTP: path and content type. */
  readonly requests: string[];
  waitFor(count: number, kind?: 'spans' | 'logs'): Promise<readonly CollectedSpan[]>;
}

/** Starts both servers, and stops them with `t`. */
export async function startCollector(t: Scope): Promise<Collector> {
  const spans: CollectedSpan[] = [];
  const logs: CollectedLog[] = [];
  const requests: string[] = [];
  let wake = (): void => {};
  const take = (bytes: Buffer): void => {
    spans.push(...decode(bytes));
    wake();
  };
  const grpc = new Server();
  grpc.addService(service('trace.v1.TraceService'), { Export: answering(take) });
  grpc.addService(service('logs.v1.LogsService'), {
    Export: answering((bytes) => {
      logs.push(...decodeLogs(bytes));
      wake();
    }),
  });
  const grpcPort = await new Promise<number>((resolve, reject) =>
    grpc.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
      error ? reject(error) : resolve(port),
    ),
  );
  t.after(() => grpc.forceShutdown());
  const http = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      requests.push(`${request.url} ${request.headers['content-type']}`);
      const body = Buffer.concat(chunks);
      if (request.headers['content-type'] === 'application/x-protobuf') take(body);
      else {
        spans.push(...zipkin(body));
        wake();
      }
      response.end();
    });
  });
  await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
  t.after(() => void http.close());
  t.after(() => http.closeAllConnections());
  return {
    grpcPort,
    httpPort: (http.address() as AddressInfo).port,
    spans,
    logs,
    requests,
    async waitFor(count, kind = 'spans') {
      while ((kind === 'spans' ? spans : logs).length < count) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
      return spans;
    },
  };
}

const identity = (value: Buffer): Buffer => value;

/** A collector service with its bytes as they are. */
function service(name: string) {
  return {
    Export: {
      path: `/opentelemetry.proto.collector.${name}/Export`,
      requestStream: false,
      responseStream: false,
      requestSerialize: identity,
      requestDeserialize: identity,
      responseSerialize: identity,
      responseDeserialize: identity,
    },
  } as const;
}

function answering(take: (bytes: Buffer) => void) {
  return ({ request }: { request: Buffer }, callback: (error: null, answer: Buffer) => void): void => {
    take(request);
    callback(null, Buffer.alloc(0));
  };
}

type Field = readonly [number, bigint | Uint8Array];

/** The fields of a message: varints and fixed64 as bigint, length-delimited ones as bytes. */
function fieldsOf(bytes: Uint8Array): Field[] {
  const reader = new BinaryReader(bytes);
  const out: Field[] = [];
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    if (type === WireType.Varint) out.push([number, BigInt(reader.uint64())]);
    else if (type === WireType.Bit64) out.push([number, BigInt(reader.fixed64())]);
    else if (type === WireType.LengthDelimited) out.push([number, reader.bytes()]);
    else reader.skip(type, number);
  }
  return out;
}

const messages = (bytes: Uint8Array, number: number): Uint8Array[] =>
  fieldsOf(bytes).flatMap(([field, value]) => (field === number && value instanceof Uint8Array ? [value] : []));
const text = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString();
const hex = (bytes: Uint8Array | undefined): string => Buffer.from(bytes ?? []).toString('hex');
const integer = (bytes: Uint8Array, number: number): bigint =>
  (fieldsOf(bytes).find(([field, value]) => field === number && typeof value === 'bigint')?.[1] as
    | bigint
    | undefined) ?? 0n;

function attributes(list: readonly Uint8Array[]): Map<string, string | boolean | bigint> {
  return new Map(
    list.map((item) => {
      const value = messages(item, 2)[0] ?? new Uint8Array();
      const [number, content] = fieldsOf(value)[0] ?? [1, new Uint8Array()];
      const read = content instanceof Uint8Array ? text(content) : number === 2 ? content === 1n : content;
      return [text(messages(item, 1)[0]), read] as const;
    }),
  );
}

/** opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest */
function decode(request: Uint8Array): CollectedSpan[] {
  return messages(request, 1).flatMap((resourceSpans) => {
    const resource = messages(resourceSpans, 1)[0] ?? new Uint8Array();
    const serviceName = String(attributes(messages(resource, 1)).get('service.name'));
    return messages(resourceSpans, 2).flatMap((scope) =>
      messages(scope, 2).map((span) => ({
        traceId: hex(messages(span, 1)[0]),
        spanId: hex(messages(span, 2)[0]),
        traceState: text(messages(span, 3)[0]),
        parentSpanId: hex(messages(span, 4)[0]),
        name: text(messages(span, 5)[0]),
        kind: Number(integer(span, 6)),
        startNano: integer(span, 7),
        endNano: integer(span, 8),
        attributes: attributes(messages(span, 9)),
        status: Number(integer(messages(span, 15)[0] ?? new Uint8Array(), 3)),
        serviceName,
      })),
    );
  });
}

/** opentelemetry.proto.collector.logs.v1.ExportLogsServiceRequest */
function decodeLogs(request: Uint8Array): CollectedLog[] {
  return messages(request, 1).flatMap((resourceLogs) => {
    const resource = attributes(messages(messages(resourceLogs, 1)[0] ?? new Uint8Array(), 1));
    return messages(resourceLogs, 2).flatMap((scope) =>
      messages(scope, 2).map((record) => ({
        timeNano: integer(record, 1),
        body: text(messages(messages(record, 5)[0] ?? new Uint8Array(), 1)[0]),
        attributes: attributes(messages(record, 6)),
        resource,
        traceId: hex(messages(record, 9)[0]),
      })),
    );
  });
}

interface ZipkinSpan {
  readonly traceId: string;
  readonly id: string;
  readonly parentId?: string;
  readonly name: string;
  readonly kind: string;
  readonly timestamp: number;
  readonly duration: number;
  readonly localEndpoint: { readonly serviceName: string };
  readonly tags: Readonly<Record<string, string>>;
}

function zipkin(body: Buffer): CollectedSpan[] {
  return (JSON.parse(body.toString()) as readonly ZipkinSpan[]).map((span) => ({
    traceId: span.traceId,
    spanId: span.id,
    parentSpanId: span.parentId ?? '',
    traceState: '',
    name: span.name,
    kind: span.kind === 'SERVER' ? 2 : 3,
    startNano: BigInt(span.timestamp) * 1000n,
    endNano: BigInt(span.timestamp + span.duration) * 1000n,
    status: span.tags['error'] === undefined ? 0 : 2,
    attributes: new Map(Object.entries(span.tags)),
    serviceName: span.localEndpoint.serviceName,
  }));
}

/** Envoy's access log service for tests: keeps what it is sent, decoded with Envoy's own descriptors. */
import { fromBinary, toJson } from '@bufbuild/protobuf';
import { Server, ServerCredentials, type ServerReadableStream } from '@grpc/grpc-js';
import { descriptors } from '../../config/envoy/descriptors.ts';
import type { Json } from '../../config/resources.ts';
import { eventually } from './eventually.ts';
import type { Scope } from './scope.ts';

const MESSAGE = 'envoy.service.accesslog.v3.StreamAccessLogsMessage';
type Answer = (error: { readonly code: number; readonly details: string } | null, value?: Buffer) => void;
const identity = (value: Buffer): Buffer => value;

export class AccessLogService {
  port: number;
  /** A message each, in protobuf JSON form. */
  readonly messages: Json[] = [];
  readonly metadata: Readonly<Record<string, unknown>>[] = [];
  readonly #answers = new Set<Answer>();

  constructor(port: number) {
    this.port = port;
  }

  /** @param port 0: a free one */
  static async start(t: Scope, port = 0): Promise<AccessLogService> {
    const server = new Server();
    const service = new AccessLogService(0);
    server.addService(
      {
        StreamAccessLogs: {
          path: '/envoy.service.accesslog.v3.AccessLogService/StreamAccessLogs',
          requestStream: true,
          responseStream: false,
          requestSerialize: identity,
          requestDeserialize: identity,
          responseSerialize: identity,
          responseDeserialize: identity,
        },
      },
      {
        StreamAccessLogs: (call: ServerReadableStream<Buffer, Buffer>, answer: Answer): void =>
          service.#serve(call, answer),
      },
    );
    service.port = await new Promise<number>((resolve, reject) =>
      server.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      ),
    );
    t.after(() => server.forceShutdown());
    return service;
  }

  get streamCount(): number {
    return this.metadata.length;
  }

  /** All of a kind, in order. */
  entries(kind: 'http_logs' | 'tcp_logs' = 'http_logs'): Json[] {
    return this.messages.flatMap((message) => ((message[kind] as Json | undefined)?.['log_entry'] as Json[]) ?? []);
  }

  async waitFor(count: number, kind: 'http_logs' | 'tcp_logs' = 'http_logs'): Promise<Json[]> {
    await eventually(`${count} entries are here`, () => this.entries(kind).length >= count);
    return this.entries(kind);
  }

  /** Ends every stream with an error. */
  failStreams(): void {
    for (const answer of this.#answers) answer({ code: 14, details: 'going away' });
    this.#answers.clear();
  }

  #serve(call: ServerReadableStream<Buffer, Buffer>, answer: Answer): void {
    this.metadata.push(call.metadata.getMap());
    this.#answers.add(answer);
    call.on('data', (bytes: Buffer) => {
      const registry = descriptors();
      const type = registry.getMessage(MESSAGE);
      if (type === undefined) throw new Error(`no descriptor of ${MESSAGE}`);
      this.messages.push(toJson(type, fromBinary(type, bytes), { registry, useProtoFieldName: true }) as Json);
    });
    call.on('end', () => answer(null, Buffer.alloc(0)));
  }
}

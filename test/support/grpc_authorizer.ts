/** An external authorizer over gRPC that decodes what it is asked with Envoy's own descriptors. */
import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData, status } from '@grpc/grpc-js';
import { fromBinary, fromJson, toBinary, toJson, type DescMessage, type JsonValue } from '@bufbuild/protobuf';
import { descriptors } from '../../config/envoy/descriptors.ts';
import type { Json } from '../../config/resources.ts';
import type { Scope } from './scope.ts';

export interface GrpcAuthorizer {
  readonly port: number;
  /** CheckRequests in JSON, in the order of their coming. */
  readonly asked: Json[];
}

/** `answer`: a CheckResponse in JSON; undefined: the call fails with UNAVAILABLE; a Buffer goes as it is. */
export async function startGrpcAuthorizer(
  scope: Scope,
  answer: (request: Json) => Json | Buffer | undefined,
): Promise<GrpcAuthorizer> {
  const registry = descriptors();
  const typed = (name: string): DescMessage => {
    const found = registry.getMessage(`envoy.service.auth.v3.${name}`);
    if (found === undefined) throw new Error(`no descriptor of ${name}`);
    return found;
  };
  const asked: Json[] = [];
  const identity = (bytes: Buffer): Buffer => bytes;
  const server = new Server();
  server.addService(
    {
      Check: {
        path: '/envoy.service.auth.v3.Authorization/Check',
        requestStream: false,
        responseStream: false,
        requestSerialize: identity,
        requestDeserialize: identity,
        responseSerialize: identity,
        responseDeserialize: identity,
      },
    },
    {
      Check(call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) {
        const message = fromBinary(typed('CheckRequest'), call.request);
        const request = toJson(typed('CheckRequest'), message, { useProtoFieldName: true, registry }) as Json;
        asked.push(request);
        const reply = answer(request);
        if (reply === undefined) return done({ code: status.UNAVAILABLE, details: 'not now' });
        if (Buffer.isBuffer(reply)) return done(null, reply);
        const response = fromJson(typed('CheckResponse'), reply as JsonValue, { registry });
        done(null, Buffer.from(toBinary(typed('CheckResponse'), response)));
      },
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
  scope.after(() => server.forceShutdown());
  return { port, asked };
}

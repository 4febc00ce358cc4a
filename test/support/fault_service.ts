/** The gRPC service of fault_child.ts: a request is its id, the answer is `ok`. Again may be sent again, Once may not. */
import type grpc from '@grpc/grpc-js';

function unary(name: string): grpc.MethodDefinition<Buffer, Buffer> {
  const same = (value: Buffer): Buffer => value;
  return {
    path: `/test.Fault/${name}`,
    requestStream: false,
    responseStream: false,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  };
}

export const FAULT_SERVICE = { Again: unary('Again'), Once: unary('Once') } satisfies grpc.ServiceDefinition;

/** An SDS server on a unix socket, as SPIRE's agent and Istio's are. */
import { Server, ServerCredentials, type ServerDuplexStream } from '@grpc/grpc-js';
import { encodeMessage } from '../../config/xds/discovery_messages.ts';
import type { Json } from '../../config/resources.ts';
import { readFields } from '../../proxy/telemetry/protobuf_reader.ts';
import type { KeyPair } from './mesh_ca.ts';
import { inlineCertificate } from './mesh_ca.ts';
import type { Scope } from './scope.ts';

const SECRET = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret';

export class FakeSds {
  #secrets: Readonly<Record<string, Json>> = {};
  #version = 0;
  readonly #streams = new Map<ServerDuplexStream<Buffer, Buffer>, readonly string[]>();

  static async start(t: Scope, socket: string): Promise<FakeSds> {
    const fake = new FakeSds();
    const grpc = new Server();
    const asIs = (bytes: Buffer): Buffer => bytes;
    const stream = {
      requestStream: true,
      responseStream: true,
      requestSerialize: asIs,
      requestDeserialize: asIs,
      responseSerialize: asIs,
      responseDeserialize: asIs,
    };
    grpc.addService(
      { StreamSecrets: { path: '/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets', ...stream } },
      { StreamSecrets: (call: ServerDuplexStream<Buffer, Buffer>) => fake.#accept(call) },
    );
    await new Promise<void>((resolve, reject) => {
      grpc.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) =>
        error === null ? resolve() : reject(error),
      );
    });
    t.after(() => grpc.forceShutdown());
    return fake;
  }

  set(pair: KeyPair, roots: string): void {
    this.#secrets = {
      default: { name: 'default', tls_certificate: inlineCertificate(pair) },
      ROOTCA: { name: 'ROOTCA', validation_context: { trusted_ca: { inline_string: roots } } },
    };
    this.#version++;
    for (const [call, names] of this.#streams) this.#push(call, names);
  }

  #accept(call: ServerDuplexStream<Buffer, Buffer>): void {
    call.on('error', () => {});
    call.on('end', () => {
      this.#streams.delete(call);
      call.end();
    });
    call.on('data', (request: Buffer) => {
      const fields = readFields(request) ?? [];
      const names = fields.filter(({ number }) => number === 3).map(({ body }) => body.toString());
      const nonce = fields.find(({ number }) => number === 5)?.body.toString() ?? '';
      const known = this.#streams.get(call);
      this.#streams.set(call, names);
      // An acknowledgement asks for nothing new.
      if (nonce === '' || known?.join() !== names.join()) this.#push(call, names);
    });
  }

  #push(call: ServerDuplexStream<Buffer, Buffer>, names: readonly string[]): void {
    const resources = names.flatMap((name) => {
      const secret = this.#secrets[name];
      return secret === undefined ? [] : [{ '@type': SECRET, ...secret }];
    });
    if (resources.length === 0) return;
    call.write(
      encodeMessage('envoy.service.discovery.v3.DiscoveryResponse', {
        version_info: String(this.#version),
        nonce: `n${this.#version}`,
        type_url: SECRET,
        resources,
      }),
    );
  }
}

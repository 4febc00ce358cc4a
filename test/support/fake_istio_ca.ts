/** Istio's CA as a workload sees it: signs what is asked for, for whoever shows the token. */
import { createPublicKey, verify } from 'node:crypto';
import { Server, ServerCredentials, status, type sendUnaryData, type ServerUnaryCall } from '@grpc/grpc-js';
import { issueCertificate } from '../../proxy/identity/certificates.ts';
import { derChildren, derOid, readDer } from '../../proxy/net/tls/der.ts';
import { sequence } from '../../proxy/identity/der_writer.ts';
import { readFields } from '../../proxy/telemetry/protobuf_reader.ts';
import { message } from '../../proxy/telemetry/protobuf_writer.ts';
import { type KeyPair, MeshCa } from './mesh_ca.ts';
import type { Scope } from './scope.ts';

export interface CaCall {
  readonly token: string;
  readonly clusterId: string;
  readonly spiffeId: string;
  readonly subjectLength: number;
  readonly sanCritical: boolean;
  readonly lifetimeS: number;
  readonly keyType: string;
}

export class FakeIstioCa {
  readonly ca = new MeshCa('istio');
  readonly calls: CaCall[] = [];
  /** Whoever shows another one is refused. */
  token = 'token-1';
  /** Of what is issued; default: as asked. */
  lifetimeMs: number | undefined = undefined;
  /** The next calls are refused as if the CA were away. */
  failures = 0;
  port = 0;
  #woken: () => void = () => {};

  /** With TLS when `server` is given. */
  static async start(t: Scope, server?: KeyPair): Promise<FakeIstioCa> {
    const fake = new FakeIstioCa();
    const grpc = new Server();
    const asIs = (bytes: Buffer): Buffer => bytes;
    grpc.addService(
      {
        CreateCertificate: {
          path: '/istio.v1.auth.IstioCertificateService/CreateCertificate',
          requestStream: false,
          responseStream: false,
          requestSerialize: asIs,
          requestDeserialize: asIs,
          responseSerialize: asIs,
          responseDeserialize: asIs,
        },
      },
      {
        CreateCertificate: (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) =>
          fake.#answer(call, done),
      },
    );
    const credentials =
      server === undefined
        ? ServerCredentials.createInsecure()
        : ServerCredentials.createSsl(null, [
            { cert_chain: Buffer.from(server.chain), private_key: Buffer.from(server.key) },
          ]);
    fake.port = await new Promise<number>((resolve, reject) => {
      grpc.bindAsync('127.0.0.1:0', credentials, (error, port) => (error === null ? resolve(port) : reject(error)));
    });
    t.after(() => grpc.forceShutdown());
    return fake;
  }

  /** Waits until it was called so many times. */
  async called(times: number): Promise<void> {
    while (this.calls.length < times) {
      await new Promise<void>((resolve) => {
        this.#woken = resolve;
      });
    }
  }

  #answer(call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>): void {
    const token = String(call.metadata.get('authorization')[0] ?? '').replace('Bearer ', '');
    const fields = readFields(call.request) ?? [];
    const csr = fields.find(({ number }) => number === 1)?.body.toString('latin1') ?? '';
    const lifetime = fields.find(({ number }) => number === 3)?.body ?? Buffer.alloc(0);
    let lifetimeS = 0;
    for (const [index, byte] of lifetime.entries()) lifetimeS += (byte & 0x7f) * 128 ** index;
    const request = readRequest(csr);
    this.calls.push({
      token,
      clusterId: String(call.metadata.get('clusterid')[0] ?? ''),
      spiffeId: request.uri,
      subjectLength: request.subjectLength,
      sanCritical: request.critical,
      lifetimeS,
      keyType: createPublicKey({ key: request.publicKey, format: 'der', type: 'spki' }).asymmetricKeyType ?? '',
    });
    this.#woken();
    if (this.failures > 0) {
      this.failures--;
      done({ code: status.UNAVAILABLE, details: 'the CA is away' });
      return;
    }
    if (token !== this.token) {
      done({ code: status.UNAUTHENTICATED, details: 'request authenticate failure' });
      return;
    }
    const chain = issueCertificate(
      { publicKey: request.publicKey, uris: [request.uri], lifetimeMs: this.lifetimeMs ?? lifetimeS * 1000 },
      this.ca.issuer,
    );
    done(null, Buffer.concat([message(1, Buffer.from(chain)), message(1, Buffer.from(this.ca.pem))]));
  }
}

/** RFC 2986. @throws when it is not signed with its own key. */
function readRequest(pem: string): { publicKey: Buffer; uri: string; critical: boolean; subjectLength: number } {
  const bytes = Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64');
  const [info, , signature] = derChildren(readDer(bytes)?.body ?? bytes);
  if (info === undefined || signature === undefined) throw new Error('no signing request');
  const [, subject, key, attributes] = derChildren(info.body);
  const publicKey = sequence(key?.body ?? Buffer.alloc(0));
  const good = verify(
    'sha256',
    sequence(info.body),
    { key: publicKey, format: 'der', type: 'spki' },
    signature.body.subarray(1),
  );
  if (!good) throw new Error('the signing request is not signed with its own key');
  const [attribute] = derChildren(attributes?.body ?? Buffer.alloc(0));
  const [, values] = derChildren(attribute?.body ?? Buffer.alloc(0));
  const extensions = readDer(values?.body ?? Buffer.alloc(0));
  const san = derChildren(extensions?.body ?? Buffer.alloc(0)).find(
    (extension) => derOid(derChildren(extension.body)[0]?.body ?? Buffer.alloc(0)) === '2.5.29.17',
  );
  const parts = derChildren(san?.body ?? Buffer.alloc(0));
  const names = derChildren(readDer(parts.at(-1)?.body ?? Buffer.alloc(0))?.body ?? Buffer.alloc(0));
  return {
    publicKey,
    uri: names[0]?.body.toString('latin1') ?? '',
    critical: parts.length === 3,
    subjectLength: subject?.body.length ?? -1,
  };
}

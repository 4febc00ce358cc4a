/** Steady loads that tell exactly what became of each request: whether its answer had begun, and what it was. */
import grpc from '@grpc/grpc-js';
import { Agent as Http1Agent, type ClientRequest, request as requestHttp1 } from 'node:http';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { Agent as HttpsAgent, request as requestHttps } from 'node:https';
import { FAULT_SERVICE } from './fault_service.ts';

/** Of a client that proves who it is. PEM. */
export interface ClientTls {
  readonly cert: string;
  readonly key: string;
  readonly ca: string;
}

/** again: may be sent again by the route, and is idempotent. once: neither. */
export type AskKind = 'again' | 'once';

/** begun: the head had come, so that nobody may ask again. */
export type Outcome = 'ok' | `begun ${string}` | `failed ${string}`;

export interface Asker {
  ask(kind: AskKind, id: string): Promise<Outcome>;
  close(): void;
}

const METHODS = ['GET', 'PUT', 'DELETE'] as const;
let turn = 0;

function methodOf(kind: AskKind): string {
  return kind === 'once' ? 'POST' : (METHODS[turn++ % METHODS.length] as string);
}

export function http1Asker(port: number, tls: ClientTls | undefined): Asker {
  const agent =
    tls === undefined
      ? new Http1Agent({ keepAlive: true })
      : new HttpsAgent({ keepAlive: true, ...tls, checkServerIdentity: () => undefined });
  return {
    ask: (kind, id) =>
      new Promise((resolve) => {
        const method = methodOf(kind);
        const body = method === 'GET' ? '' : `body of ${id}`;
        const options = {
          ...{ agent, host: '127.0.0.1', port, method, path: `/${kind}` },
          headers: { 'x-id': id, ...(body !== '' && { 'content-length': body.length }) },
        };
        const send = tls === undefined ? requestHttp1 : requestHttps;
        const sent: ClientRequest = send(options, (response) => {
          let text = '';
          response.setEncoding('latin1').on('data', (piece: string) => {
            text += piece;
          });
          response.on('end', () => resolve(outcomeOf(response.statusCode ?? 0, text)));
          response.on('error', (error) => resolve(`begun ${error.message}`));
        });
        sent.on('error', (error) => resolve(`failed ${error.message}`));
        sent.end(body);
      }),
    close: () => agent.destroy(),
  };
}

function outcomeOf(status: number, text: string): Outcome {
  return status === 200 && text === 'ok' ? 'ok' : `failed ${status} ${text}`;
}

export function http2Asker(port: number, tls: ClientTls | undefined): Asker {
  let session: ClientHttp2Session | undefined;
  const open = (): ClientHttp2Session => {
    if (session === undefined || session.closed || session.destroyed) {
      session = connectHttp2(`${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`, {
        ...tls,
        checkServerIdentity: () => undefined,
      });
      session.on('error', () => {});
    }
    return session;
  };
  return {
    ask: (kind, id) =>
      new Promise((resolve) => {
        const method = methodOf(kind);
        const stream = open().request(
          { ':method': method, ':path': `/${kind}`, 'x-id': id },
          { endStream: method === 'GET' },
        );
        let status = 0;
        let text = '';
        stream.on('response', (head) => {
          status = Number(head[':status']);
        });
        stream.setEncoding('latin1').on('data', (piece: string) => {
          text += piece;
        });
        stream.on('error', (error) => resolve(status === 0 ? `failed ${error.message}` : `begun ${error.message}`));
        stream.on('end', () => resolve(outcomeOf(status, text)));
        stream.on('close', () => resolve(status === 0 ? 'failed closed' : `begun ${stream.rstCode}`));
        if (method !== 'GET') stream.end(`body of ${id}`);
      }),
    close: () => session?.destroy(),
  };
}

export function grpcAsker(port: number, tls: ClientTls | undefined): Asker {
  const credentials =
    tls === undefined
      ? grpc.credentials.createInsecure()
      : grpc.credentials.createSsl(Buffer.from(tls.ca), Buffer.from(tls.key), Buffer.from(tls.cert), {
          checkServerIdentity: () => undefined,
        });
  // What the proxy does is asked for, not what the client would make of it.
  const client = new grpc.Client(`127.0.0.1:${port}`, credentials, {
    'grpc.enable_retries': 0,
    // A server name is no address.
    ...(tls !== undefined && { 'grpc.ssl_target_name_override': 'proxy.example' }),
  });
  return {
    ask: (kind, id) =>
      new Promise((resolve) => {
        let begun = false;
        const { path, requestSerialize, responseDeserialize } = FAULT_SERVICE[kind === 'again' ? 'Again' : 'Once'];
        const call = client.makeUnaryRequest(
          path,
          requestSerialize,
          responseDeserialize,
          Buffer.from(id),
          (error: grpc.ServiceError | null, value?: Buffer) => {
            if (error === null) resolve(value?.toString() === 'ok' ? 'ok' : `failed ${value?.toString()}`);
            else resolve(begun ? `begun ${error.message}` : `failed ${error.message}`);
          },
        );
        call.on('metadata', () => {
          begun = true;
        });
      }),
    close: () => client.close(),
  };
}

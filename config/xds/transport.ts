/** One gRPC stream to a config server. grpc-js is loaded at the first. */
import { readFileSync } from 'node:fs';
import type { ChannelCredentials, ChannelOptions, Client, ClientDuplexStream, connectivityState } from '@grpc/grpc-js';
import { X509Certificate } from 'node:crypto';

export interface ServerAddress {
  /** For people and statistics: the cluster's name, or the target. */
  readonly name: string;
  /** As grpc-js wants it: `unix:/path`, `dns:///host:port`, `ipv4:1.2.3.4:80`. */
  readonly target: string;
  readonly tls: ServerTls | undefined;
  /** Sent with each stream. Read anew each time: tokens rotate. */
  readonly metadata: () => readonly (readonly [name: string, value: string])[];
  /** 0: none. */
  readonly keepaliveMs: number;
}

/** Read anew for each stream: roots and keys rotate. */
export interface ServerTls {
  readonly roots: () => Buffer | undefined;
  readonly key: () => Buffer | undefined;
  readonly chain: () => Buffer | undefined;
  /** '' : the target's. */
  readonly serverName: string;
  /** Empty: the name itself must match. */
  readonly allowedNames: readonly string[];
}

export interface Stream {
  send(message: Buffer): void;
  close(): void;
}

export interface StreamEvents {
  /** The next message waits until the promise settles: a flood of pushes piles up with the server. */
  onMessage(bytes: Buffer): Promise<void>;
  /** Once. */
  onEnd(reason: string): void;
}

/** A push above this ends the stream. */
export const MAX_PUSH_BYTES = 256 * 1024 * 1024;
/** An ADS server that does not answer a connection attempt within this is given up for the moment. */
const CONNECT_TIMEOUT_MS = 10_000;

/** Connects and opens `method`. Never throws: see `onEnd`. */
export async function openStream(server: ServerAddress, method: string, events: StreamEvents): Promise<Stream> {
  const grpc = await import('@grpc/grpc-js');
  let ended = false;
  const end = (reason: string): void => {
    if (ended) return;
    ended = true;
    call?.cancel();
    client?.close();
    events.onEnd(reason);
  };
  let client: InstanceType<typeof grpc.Client> | undefined;
  let call: ClientDuplexStream<Buffer, Buffer> | undefined;
  try {
    client = new grpc.Client(server.target, await credentials(server), channelOptions(server));
    const metadata = new grpc.Metadata();
    for (const [name, value] of server.metadata()) metadata.add(name, value);
    const asIs = (bytes: Buffer): Buffer => bytes;
    const isReady = await settled(client.getChannel(), grpc.connectivityState);
    call = client.makeBidiStreamRequest(method, asIs, asIs, metadata);
    call.on('error', (error) => end(error.message));
    // A call over a channel that has failed says why.
    if (!isReady) await new Promise((resolve) => call?.once('error', resolve));
    call.on('end', () => end('the server ended the stream'));
    void readAll(call, events, end);
  } catch (error) {
    // Told when the caller has its stream.
    queueMicrotask(() => end((error as Error).message));
  }
  return {
    send(message) {
      if (!ended) call?.write(message);
    },
    close: () => end('closed'),
  };
}

/** Message by message: what is not read is not taken from the server either. */
async function readAll(
  call: ClientDuplexStream<Buffer, Buffer>,
  events: StreamEvents,
  end: (reason: string) => void,
): Promise<void> {
  try {
    for await (const message of call as AsyncIterable<Buffer>) await events.onMessage(message);
    end('the server ended the stream');
  } catch (error) {
    end((error as Error).message);
  }
}

/** @returns whether it is connected; false: its attempt has failed. @throws when it takes too long. */
async function settled(channel: ReturnType<Client['getChannel']>, states: typeof connectivityState): Promise<boolean> {
  const deadline = Date.now() + CONNECT_TIMEOUT_MS;
  for (;;) {
    const state = channel.getConnectivityState(true);
    if (state === states.READY) return true;
    if (state === states.TRANSIENT_FAILURE) return false;
    await new Promise<void>((resolve, reject) => {
      channel.watchConnectivityState(state, deadline, (error) =>
        error === undefined ? resolve() : reject(new Error(`no connection within ${CONNECT_TIMEOUT_MS / 1000} s`)),
      );
    });
  }
}

async function credentials({ tls }: ServerAddress): Promise<ChannelCredentials> {
  const grpc = await import('@grpc/grpc-js');
  if (tls === undefined) return grpc.credentials.createInsecure();
  const { allowedNames } = tls;
  return grpc.credentials.createSsl(tls.roots() ?? null, tls.key() ?? null, tls.chain() ?? null, {
    ...(allowedNames.length > 0 && {
      checkServerIdentity: (_host: string, certificate: { raw: Buffer }) => {
        const names = new X509Certificate(certificate.raw).subjectAltName ?? '';
        const has = allowedNames.some((name) => names.split(', ').some((entry) => entry.endsWith(`:${name}`)));
        return has
          ? undefined
          : new Error(`the server's certificate is for ${names}, wanted ${allowedNames.join(', ')}`);
      },
    }),
  });
}

function channelOptions({ tls, keepaliveMs }: ServerAddress): ChannelOptions {
  return {
    'grpc.max_receive_message_length': MAX_PUSH_BYTES,
    'grpc.max_send_message_length': -1,
    // A channel serves one stream: whoever opens it waits between attempts.
    'grpc.use_local_subchannel_pool': 1,
    ...(tls !== undefined &&
      tls.serverName !== '' && {
        'grpc.ssl_target_name_override': tls.serverName,
        'grpc.default_authority': tls.serverName,
      }),
    ...(keepaliveMs > 0 && { 'grpc.keepalive_time_ms': keepaliveMs }),
  };
}

/** For TLS material that stands in a file. */
export function fileReader(path: string): () => Buffer {
  return () => readFileSync(path);
}

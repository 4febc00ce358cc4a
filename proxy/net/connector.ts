/** Opens connections to hosts, as SocketStreams. */
import { connect, type Socket, type TcpNetConnectOpts } from 'node:net';
import { SocketInfo } from './acceptor.ts';
import { type ConnectionInfo, socketAddress, type SocketAddress } from './connection_info.ts';
import { applyKeepAlive, boundSocket, type SocketOptions, sourceFor } from './socket_options.ts';
import { asOneEvent, descriptorOf, ReadTarget, SocketStream } from './socket_stream.ts';
import { type OriginalSource, socketFrom } from './original_source.ts';
import type { UpstreamTransport } from './tls/upstream_tls.ts';

export interface ConnectOptions {
  readonly address: SocketAddress;
  readonly socket: SocketOptions;
  /** Laid over the socket before anybody else sees it; undefined: the bytes as they are. */
  readonly transport?: UpstreamTransport | undefined;
  /** What is sent before anything else, before TLS too. */
  readonly first?: ((own: ConnectionInfo) => Buffer) | undefined;
  /** Whose address the connection comes from, where its family is the host's; undefined: as `socket` says. */
  readonly from?: OriginalSource | undefined;
  nowMs(): number;
  onConnected(stream: SocketStream): void;
  /** The message says why in Envoy's words (`delayed connect error: Connection refused`). Never after onConnected. */
  onFailed(message: string): void;
}

export interface ConnectAttempt {
  /** Neither callback comes after it. */
  abort(): void;
}

/** Starts connecting; one of the callbacks comes later, unless aborted. */
export function openConnection(options: ConnectOptions): ConnectAttempt {
  const { address, transport } = options;
  const target = transport === undefined ? new ReadTarget() : undefined;
  const onread = target && { buffer: target.buffer as () => Uint8Array, callback: target.callback };
  const common = { allowHalfOpen: true, noDelay: true, ...(onread !== undefined && { onread }) };
  let done = false;
  let handshake: ConnectAttempt | undefined;
  const opened = openSocket(options, common);
  if (typeof opened === 'string') return failLater(options, opened);
  const socket = opened;
  socket.once('connect', () => {
    if (done) return;
    socket.removeListener('error', failed);
    const local = socketAddress(socket.localAddress ?? '', socket.localPort ?? 0);
    const info = new SocketInfo(local, address, options.nowMs());
    if (options.socket.keepAlive !== undefined) applyKeepAlive(socket, descriptorOf(socket), options.socket.keepAlive);
    if (options.first !== undefined) socket.write(options.first(info));
    if (transport === undefined) {
      done = true;
      options.onConnected(new SocketStream(socket, info, target));
      return;
    }
    handshake = transport.open(socket, info, {
      ready: (stream) => {
        done = true;
        asOneEvent(() => options.onConnected(stream));
      },
      failed: (message) => {
        done = true;
        options.onFailed(message);
      },
    });
  });
  const failed = (error: NodeJS.ErrnoException): void => {
    if (done) return;
    done = true;
    options.onFailed(`delayed connect error: ${reasonOf(error)}`);
  };
  socket.on('error', failed);
  return {
    abort() {
      if (done) return;
      done = true;
      handshake?.abort();
      socket.on('error', () => {});
      socket.destroy();
    },
  };
}

type CommonOptions = Pick<TcpNetConnectOpts, 'allowHalfOpen' | 'noDelay' | 'onread'>;

/** Nothing was begun; the callback comes later all the same. */
function failLater({ onFailed }: ConnectOptions, reason: string): ConnectAttempt {
  const later = setImmediate(() => onFailed(`immediate connect error: ${reason}`));
  return { abort: () => clearImmediate(later) };
}

/** A string says why there is none. */
function openSocket({ address, socket, from }: ConnectOptions, common: CommonOptions): Socket | string {
  const { ip, port } = address;
  if (port === 0 && ip.startsWith('/')) return connect({ ...common, path: ip });
  if (from !== undefined && from.ip.includes(':') === ip.includes(':')) {
    const made = socketFrom(from, common);
    return typeof made === 'string' ? made : made.connect({ host: ip, port });
  }
  const source = sourceFor(ip, socket);
  if (source === undefined) return connect({ ...common, host: ip, port });
  const bound = boundSocket(source, common);
  return bound === undefined
    ? connect({ ...common, host: ip, port, localAddress: source })
    : bound.connect({ host: ip, port });
}

/** strerror's texts, as Envoy prints them. */
const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'Connection refused',
  ECONNRESET: 'Connection reset by peer',
  EHOSTUNREACH: 'No route to host',
  ENETUNREACH: 'Network is unreachable',
  ETIMEDOUT: 'Connection timed out',
  EACCES: 'Permission denied',
  ENOENT: 'No such file or directory',
  EADDRNOTAVAIL: 'Cannot assign requested address',
  EMFILE: 'Too many open files',
};

function reasonOf(error: NodeJS.ErrnoException): string {
  return REASONS[error.code ?? ''] ?? error.message;
}

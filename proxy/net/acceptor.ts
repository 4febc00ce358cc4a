/** Accepts connections on a descriptor that the control thread keeps, as SocketStreams. */
import { createServer, Socket, type Server } from 'node:net';
import { libc } from './libc.ts';
import { type ConnectionInfo, socketAddress, type SocketAddress, type TlsInfo } from './connection_info.ts';
import type { Peer } from '../telemetry/peer.ts';
import type { Metadata } from '../http/stream_info.ts';
import type { HelloFingerprints } from './hello_fingerprints.ts';
import { ReadTarget, SocketStream } from './socket_stream.ts';

/** What node:net hands to `onconnection`; not documented, so used only where it has what we need. */
interface RawServerHandle {
  onconnection: (error: number, handle: RawHandle | undefined) => void;
}
interface RawHandle {
  setNoDelay?(on: boolean): number;
  close(): void;
}

let nextConnectionId = 1;

/** Numbers are unique among all threads: each thread counts in its own range. */
export function startConnectionIdsAt(first: number): void {
  nextConnectionId = first;
}

/** Facts of one socket connection. */
export class SocketInfo implements ConnectionInfo {
  readonly id: number;
  readonly startMs: number;
  localAddress: SocketAddress;
  remoteAddress: SocketAddress;
  directRemoteAddress: SocketAddress;
  localAddressRestored = false;
  requestedServerName: string | undefined = undefined;
  alpn: string | undefined = undefined;
  tls: TlsInfo | undefined = undefined;
  peer: Peer | undefined = undefined;
  transportFailureReason: string | undefined = undefined;
  terminationDetails: string | undefined = undefined;
  filterState: Map<string, unknown> | undefined = undefined;
  carrier: ConnectionInfo['carrier'] = undefined;
  listenerMetadata: Metadata | undefined = undefined;
  filterChainMetadata: Metadata | undefined = undefined;
  // Of some connections only.
  declare fingerprints?: HelloFingerprints;
  declare handshakeStartMs?: number;
  declare handshakeEndMs?: number;
  declare endMs?: number;
  declare closeType?: NonNullable<ConnectionInfo['closeType']>;
  declare localCloseReason?: string;

  constructor(local: SocketAddress, remote: SocketAddress, startMs: number) {
    this.id = nextConnectionId++;
    this.localAddress = local;
    this.remoteAddress = remote;
    this.directRemoteAddress = remote;
    this.startMs = startMs;
  }
}

export interface AcceptorOptions {
  /** A listening descriptor, or an address where descriptors cannot be shared (not Linux). */
  readonly listen:
    | { readonly fd: number }
    | { readonly host: string; readonly port: number }
    | { readonly path: string };
  /** For unix sockets, whose peers have no address. */
  readonly address: SocketAddress;
  nowMs(): number;
  onConnection(stream: SocketStream): void;
  onError(error: Error): void;
}

export class Acceptor {
  #server: Server;
  readonly #options: AcceptorOptions;
  /** Keeps the kernel's queue open while nobody accepts from it. */
  #kept: number | undefined = undefined;

  constructor(options: AcceptorOptions) {
    this.#options = options;
    this.#server = this.#listen(options.listen);
  }

  #listen(where: AcceptorOptions['listen']): Server {
    const server = createServer({ allowHalfOpen: true, noDelay: true });
    server.on('error', this.#options.onError);
    server.on('connection', (socket: Socket) => this.#accept(socket, undefined));
    server.on('listening', () => this.#acceptHandles(server));
    return server.listen({ ...where, backlog: 4096 });
  }

  /** The address it listens at; for tests and where the port was 0. */
  get port(): number {
    const address = this.#server.address();
    return address !== null && typeof address === 'object' ? address.port : 0;
  }

  whenListening(): Promise<void> {
    if (this.#server.listening) return Promise.resolve();
    return new Promise((resolve) => this.#server.once('listening', () => resolve()));
  }

  /**
   * Accepts nothing until `resume`: what comes waits in the kernel's queue.
   * @returns false where the queue would go with the server (no shared descriptor): it goes on accepting.
   */
  pause(): boolean {
    if (this.#kept !== undefined) return true;
    const { fd } = (this.#server as Server & { _handle?: { readonly fd?: number } | null })._handle ?? {};
    if (!('fd' in this.#options.listen) || fd === undefined || fd < 0) return false;
    this.#kept = libc().dup(fd);
    this.#server.close();
    return true;
  }

  resume(): void {
    if (this.#kept === undefined) return;
    this.#server = this.#listen({ fd: this.#kept });
    this.#kept = undefined;
  }

  /** Stops accepting; connections go on. */
  close(): void {
    if (this.#kept === undefined) this.#server.close();
    else libc().close(this.#kept);
    this.#kept = undefined;
  }

  /** Takes accepted handles before node:net makes sockets of them, so that they can read into the shared buffer. */
  #acceptHandles(server: Server): void {
    const handle = (server as Server & { _handle?: RawServerHandle | null })._handle;
    if (handle === null || handle === undefined || typeof handle.onconnection !== 'function') return;
    handle.onconnection = (error, raw) => {
      if (error !== 0 || raw === undefined) {
        this.#options.onError(new Error(`accept failed with error ${error}`));
        return;
      }
      raw.setNoDelay?.(true);
      const target = new ReadTarget();
      const options = {
        handle: raw,
        allowHalfOpen: true,
        onread: { buffer: target.buffer, callback: target.callback },
      };
      this.#accept(new Socket(options as ConstructorParameters<typeof Socket>[0]), target);
    };
  }

  #accept(socket: Socket, target: ReadTarget | undefined): void {
    const { address, nowMs, onConnection } = this.#options;
    const local =
      socket.localAddress === undefined ? address : socketAddress(socket.localAddress, socket.localPort ?? 0);
    const remote =
      socket.remoteAddress === undefined ? address : socketAddress(socket.remoteAddress, socket.remotePort ?? 0);
    onConnection(new SocketStream(socket, new SocketInfo(local, remote, nowMs()), target));
  }
}

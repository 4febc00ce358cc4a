/** TCP listeners for tests, short to write; and clients and servers of bare bytes. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import type { Json, Resource } from '../../config/resources.ts';
import type { Scope } from './scope.ts';
import { resource } from './static_source.ts';

const TYPE = 'type.googleapis.com/';

export const tcpProxy = (config: Json): Json => ({
  name: 'envoy.filters.network.tcp_proxy',
  typed_config: {
    '@type': `${TYPE}envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy`,
    stat_prefix: 'test',
    ...config,
  },
});

export const networkFilter = (name: string, type: string, config: Json = {}): Json => ({
  name,
  typed_config: { '@type': `${TYPE}${type}`, ...config },
});

export const listenerFilter = (name: string, config: Json = {}, more: Json = {}): Json => {
  const label = name
    .split('_')
    .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
    .join('');
  return {
    name: `envoy.filters.listener.${name}`,
    typed_config: { '@type': `${TYPE}envoy.extensions.filters.listener.${name}.v3.${label}`, ...config },
    ...more,
  };
};

/** A listener on 127.0.0.1 with one chain to `cluster`, unless `more` says otherwise. */
export function tcpListener(
  cluster: string,
  { name = 'test', proxy = {}, ...more }: Json & { name?: string; proxy?: Json } = {},
): Resource {
  return resource('listener', {
    name,
    address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
    filter_chains: [{ filters: [tcpProxy({ cluster, ...proxy })] }],
    ...more,
  });
}

/** A server of bare bytes on a free port; half-open, so that it sees ends and resets as they come. */
export class ByteServer {
  readonly server: Server;
  readonly sockets: Socket[] = [];
  #waiting: ((socket: Socket) => void)[] = [];
  #taken = 0;

  private constructor(server: Server) {
    this.server = server;
  }

  static async start(t: Scope, onConnection: (socket: Socket) => void = () => {}): Promise<ByteServer> {
    const made = new ByteServer(createServer({ allowHalfOpen: true, noDelay: true }));
    made.server.on('connection', (socket) => {
      socket.on('error', () => {});
      made.sockets.push(socket);
      onConnection(socket);
      made.#waiting.shift()?.(socket);
    });
    made.server.listen(0, '127.0.0.1');
    await once(made.server, 'listening');
    t.after(() => {
      for (const socket of made.sockets) socket.destroy();
      made.server.close();
    });
    return made;
  }

  get port(): number {
    return (this.server.address() as { port: number }).port;
  }

  /** The next connection that nobody has asked for. */
  next(): Promise<Socket> {
    const there = this.sockets[this.#taken++];
    return there === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(there);
  }
}

/** A half-open client; errors are for `closed` to tell. */
export async function byteClient(t: Scope, port: number, host = '127.0.0.1'): Promise<Socket> {
  const socket = connect({ port, host, allowHalfOpen: true, noDelay: true });
  socket.on('error', () => {});
  t.after(() => socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** Waits until this many bytes have come; more than that is a fault. @throws when it closes before, or after 30 s. */
export async function readBytes(socket: Socket, count: number): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let size = 0;
  while (size < count) {
    const piece = socket.read() as Buffer | null;
    if (piece === null) {
      if (!(await isReadable(socket))) throw new Error(`${size} of ${count} bytes came`);
      continue;
    }
    pieces.push(piece);
    size += piece.length;
  }
  if (size > count) throw new Error(`${size} bytes came, ${count} are wanted`);
  return Buffer.concat(pieces);
}

/** false: it has ended, or nothing came in 30 s. */
function isReadable(socket: Socket): Promise<boolean> {
  return new Promise((resolve) => {
    const settle = (readable: boolean): void => {
      clearTimeout(deadline);
      socket.removeListener('readable', onReadable);
      socket.removeListener('close', onOver);
      socket.removeListener('end', onOver);
      resolve(readable);
    };
    const onReadable = (): void => settle(true);
    const onOver = (): void => settle(false);
    const deadline = setTimeout(onOver, 30_000);
    socket.on('readable', onReadable);
    socket.on('close', onOver);
    socket.on('end', onOver);
  });
}

/** How a connection ends: by `end` (FIN) or with an error's code. Unread data is thrown away. */
export function ending(socket: Socket): Promise<string> {
  socket.resume();
  if (socket.readableEnded) return Promise.resolve('end');
  // Over before anybody asked: no event would come.
  const over = socket.errored as NodeJS.ErrnoException | null;
  if (socket.destroyed) return Promise.resolve(over === null ? 'close' : (over.code ?? over.message));
  return new Promise((resolve) => {
    socket.once('end', () => resolve('end'));
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.once('close', () => resolve('close'));
  });
}

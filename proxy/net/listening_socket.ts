/**
 * Listening sockets, owned by the control thread: one SO_REUSEPORT descriptor per data thread, never accepted on here.
 * They outlive configurations and data threads; a restarted thread gets the same queue.
 */
import { createServer } from 'node:net';
import { socketAddress } from './connection_info.ts';
import {
  bindAddress,
  hasLibc,
  libc,
  makeTransparent,
  setIntOption,
  SOL_IPV6,
  SOL_SOCKET,
  streamSocket,
} from './libc.ts';

/** An address that cannot be listened on. The command line names the flag that changes it. */
export class BindError extends Error {
  readonly code: string;
  readonly ip: string;
  readonly port: number;

  constructor(ip: string, port: number, cause: NodeJS.ErrnoException) {
    const { text } = socketAddress(ip, port);
    const reason =
      cause.code === 'EADDRINUSE'
        ? 'another process listens there'
        : cause.code === 'EACCES'
          ? 'permission denied'
          : cause.code === 'EADDRNOTAVAIL'
            ? 'this machine has no such address'
            : cause.message;
    super(`Cannot listen on ${text}: ${reason}`, { cause });
    this.name = 'BindError';
    this.code = cause.code ?? 'EIO';
    this.ip = ip;
    this.port = port;
  }
}

const SO_REUSEADDR = 2;
const SO_REUSEPORT = 15;
const IPV6_V6ONLY = 26;
const DEFAULT_BACKLOG = 4096;

export interface ListeningOptions {
  /** Connections that wait to be accepted; default 4,096. */
  readonly backlog?: number;
  /** An IPv6 address takes IPv4 connections too. Default false. */
  readonly ipv4Compat?: boolean | undefined;
  /** Takes connections to any address that the kernel leads there (TPROXY). Default false. */
  readonly transparent?: boolean | undefined;
}

/** Whether descriptors can be shared: elsewhere one thread opens the address itself. */
export const canShareDescriptors = hasLibc;

export class ListeningSocket {
  readonly ip: string;
  /** The real one, where 0 was asked for. */
  readonly port: number;
  readonly #descriptors: readonly number[];

  private constructor(ip: string, port: number, descriptors: readonly number[]) {
    this.ip = ip;
    this.port = port;
    this.#descriptors = descriptors;
  }

  /** One descriptor a thread, each with a queue of its own. @throws {BindError} */
  static async open(
    ip: string,
    port: number,
    threads: number,
    options: ListeningOptions = {},
  ): Promise<ListeningSocket> {
    // An exclusive bind first: a process of the same user with SO_REUSEPORT would share the port without a word.
    const real = await probe(ip, port, options.ipv4Compat ?? false);
    if (options.transparent === true && (ip.startsWith('/') || !canShareDescriptors)) {
      throw new BindError(
        ip,
        port,
        Object.assign(new Error('transparent listeners are for IP on Linux'), { code: 'EOPNOTSUPP' }),
      );
    }
    if (ip.startsWith('/') || !canShareDescriptors) return new ListeningSocket(ip, real, []);
    const descriptors = Array.from({ length: threads }, () => openDescriptor(ip, real, options));
    return new ListeningSocket(ip, real, descriptors);
  }

  /** Whether it could be opened now; it is not. @throws {BindError} */
  static async probe(ip: string, port: number, { ipv4Compat = false }: ListeningOptions): Promise<void> {
    await probe(ip, port, ipv4Compat);
  }

  /** A duplicate for a thread to listen on; it closes it itself. undefined: the thread opens the address. */
  duplicate(thread: number): number | undefined {
    const descriptor = this.#descriptors[thread];
    return descriptor === undefined ? undefined : libc().dup(descriptor);
  }

  /** The address goes: connections waiting in the queues are reset. */
  close(): void {
    for (const descriptor of this.#descriptors) libc().close(descriptor);
  }
}

function probe(ip: string, port: number, ipv4Compat: boolean): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', (error: NodeJS.ErrnoException) => reject(new BindError(ip, port, error)));
    const done = (): void => {
      const address = server.address();
      server.close(() => resolve(address !== null && typeof address === 'object' ? address.port : 0));
    };
    if (ip.startsWith('/')) server.listen({ path: ip, exclusive: true }, done);
    else server.listen({ host: ip, port, exclusive: true, ipv6Only: !ipv4Compat }, done);
  });
}

function openDescriptor(
  ip: string,
  port: number,
  { backlog = DEFAULT_BACKLOG, ipv4Compat = false, transparent = false }: ListeningOptions,
): number {
  const v6 = ip.includes(':');
  const descriptor = streamSocket(v6);
  const one = Buffer.from([1, 0, 0, 0]);
  libc().setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, one, 4);
  libc().setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, one, 4);
  if (v6) setIntOption(descriptor, SOL_IPV6, IPV6_V6ONLY, ipv4Compat ? 0 : 1);
  if (transparent && !makeTransparent(descriptor, v6)) {
    libc().close(descriptor);
    const error = new Error('a transparent listener wants the capability NET_ADMIN');
    throw new BindError(ip, port, Object.assign(error, { code: 'EPERM' }));
  }
  if (!bindAddress(descriptor, ip, port) || libc().listen(descriptor, backlog) !== 0) {
    libc().close(descriptor);
    // The probe had it a moment ago: somebody was faster.
    throw new BindError(ip, port, Object.assign(new Error('bind failed'), { code: 'EADDRINUSE' }));
  }
  return descriptor;
}

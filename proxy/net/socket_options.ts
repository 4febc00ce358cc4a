/** What connections to hosts ask of the kernel: where they come from, and whether silence is probed. */
import { Socket, type SocketConstructorOpts } from 'node:net';
import {
  bindAddress,
  choosePortAtConnect,
  hasLibc,
  libc,
  setIntOption,
  SOL_SOCKET,
  SOL_TCP,
  streamSocket,
} from './libc.ts';

export interface SocketOptions {
  /** Addresses to come from, one a family at most; empty: the kernel chooses. */
  readonly sourceIps: readonly string[];
  readonly keepAlive: KeepAlive | undefined;
  /** undefined: families take turns, that of the first address first. */
  readonly happyEyeballs?: HappyEyeballs | undefined;
}

/** Which of an endpoint's addresses come first. Envoy: UpstreamConnectionOptions.HappyEyeballsConfig. */
export interface HappyEyeballs {
  /** default: the first address's. */
  readonly firstFamily: 'default' | 'v4' | 'v6';
  /** So many of the first family before each of the other; ≥ 1. */
  readonly firstCount: number;
}

/** Envoy: envoy.config.core.v3.TcpKeepalive. undefined: as the system has it. */
export interface KeepAlive {
  /** Silence before the first probe. */
  readonly idleSeconds: number | undefined;
  readonly intervalSeconds: number | undefined;
  /** So many without an answer end the connection. */
  readonly probes: number | undefined;
}

const SO_KEEPALIVE = 9;
const SO_LINGER = 13;
const TCP_KEEPIDLE = 4;
const TCP_KEEPINTVL = 5;
const TCP_KEEPCNT = 6;

/** The source for a destination, of its family. */
export function sourceFor(ip: string, { sourceIps }: SocketOptions): string | undefined {
  return sourceIps.find((source) => source.includes(':') === ip.includes(':'));
}

/**
 * An unconnected socket with a source address and no port yet: the kernel chooses one at connect, when it knows the
 * destination, so that a fixed source has 28,000 ports for each destination instead of for all of them together.
 * undefined: the system cannot (not Linux, no such address); node:net's `localAddress` then says what is wrong.
 */
export function boundSocket(sourceIp: string, options: SocketConstructorOpts): Socket | undefined {
  if (!hasLibc) return undefined;
  const fd = streamSocket(sourceIp.includes(':'));
  if (fd < 0) return undefined;
  choosePortAtConnect(fd);
  if (!bindAddress(fd, sourceIp, 0)) {
    libc().close(fd);
    return undefined;
  }
  return new Socket({ ...options, fd });
}

/**
 * RST and nothing before it: node:net's resetAndDestroy sends FIN first, and a peer that reads in between takes the reset
 * for an end.
 */
export function resetSocket(socket: Socket, fd: number): void {
  if (!hasLibc || fd < 0 || socket.connecting) {
    socket.resetAndDestroy();
    return;
  }
  // struct linger { on, seconds }.
  libc().setsockopt(fd, SOL_SOCKET, SO_LINGER, Buffer.from([1, 0, 0, 0, 0, 0, 0, 0]), 8);
  socket.destroy();
}

/** On a connected socket. node:net's own setKeepAlive also sets a probe a second, ten times. */
export function applyKeepAlive(socket: Socket, fd: number, { idleSeconds, intervalSeconds, probes }: KeepAlive): void {
  if (!hasLibc || fd < 0) {
    socket.setKeepAlive(true, (idleSeconds ?? 0) * 1000);
    return;
  }
  setIntOption(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  if (idleSeconds !== undefined) setIntOption(fd, SOL_TCP, TCP_KEEPIDLE, idleSeconds);
  if (intervalSeconds !== undefined) setIntOption(fd, SOL_TCP, TCP_KEEPINTVL, intervalSeconds);
  if (probes !== undefined) setIntOption(fd, SOL_TCP, TCP_KEEPCNT, probes);
}

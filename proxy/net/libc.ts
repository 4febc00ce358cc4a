/** libc's socket calls, for what node:net does not offer. Linux only: elsewhere nobody may ask for it. */
import { dlopen } from 'node:ffi';

export type Libc = Record<
  'socket' | 'bind' | 'listen' | 'setsockopt' | 'getsockopt' | 'dup' | 'close' | 'getrlimit' | 'setpriority',
  (...args: unknown[]) => number
>;

const AF_INET = 2;
export const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
export const SOL_IP = 0;
export const SOL_SOCKET = 1;
export const SOL_TCP = 6;
export const SOL_IPV6 = 41;

export const hasLibc = process.platform === 'linux';

let functions: Libc | undefined;

/** Opened when first asked for: the warning about an experiment comes then, once a thread. */
export function libc(): Libc {
  functions ??= dlopen(null, {
    socket: { arguments: ['i32', 'i32', 'i32'], return: 'i32' },
    bind: { arguments: ['i32', 'pointer', 'u32'], return: 'i32' },
    listen: { arguments: ['i32', 'i32'], return: 'i32' },
    setsockopt: { arguments: ['i32', 'i32', 'i32', 'pointer', 'u32'], return: 'i32' },
    getsockopt: { arguments: ['i32', 'i32', 'i32', 'pointer', 'pointer'], return: 'i32' },
    dup: { arguments: ['i32'], return: 'i32' },
    close: { arguments: ['i32'], return: 'i32' },
    getrlimit: { arguments: ['i32', 'pointer'], return: 'i32' },
    setpriority: { arguments: ['i32', 'u32', 'i32'], return: 'i32' },
  }).functions as unknown as Libc;
  return functions;
}

/** @returns whether the kernel took it. */
export function setIntOption(fd: number, level: number, option: number, value: number): boolean {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return libc().setsockopt(fd, level, option, bytes, 4) === 0;
}

/** A descriptor of a TCP socket that blocks nobody and that no child inherits; < 0: there are none left. */
export function streamSocket(isV6: boolean): number {
  return libc().socket(isV6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/** `ip` is a literal. @returns whether the kernel took it. */
export function bindAddress(fd: number, ip: string, port: number): boolean {
  const address = socketAddressBytes(ip, port);
  return libc().bind(fd, address, address.length) === 0;
}

const IP_BIND_ADDRESS_NO_PORT = 24;

/** The port is chosen at connect, when the destination is known. Of both families: level SOL_IP. */
export function choosePortAtConnect(fd: number): void {
  setIntOption(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
}

const IP_TRANSPARENT = 19;
const IPV6_TRANSPARENT = 75;

/** Addresses that are not the machine's may be bound, and connections to them accepted. @returns false without CAP_NET_ADMIN. */
export function makeTransparent(fd: number, isV6: boolean): boolean {
  return isV6 ? setIntOption(fd, SOL_IPV6, IPV6_TRANSPARENT, 1) : setIntOption(fd, SOL_IP, IP_TRANSPARENT, 1);
}

/** undefined: the kernel does not know the option. */
export function intOption(fd: number, level: number, option: number): number | undefined {
  const value = Buffer.alloc(4);
  const length = Buffer.from([4, 0, 0, 0]);
  return libc().getsockopt(fd, level, option, value, length) === 0 ? value.readInt32LE() : undefined;
}

/** struct sockaddr_in or sockaddr_in6. `ip` is a literal. */
export function socketAddressBytes(ip: string, port: number): Buffer {
  return ip.includes(':') ? sockaddrIn6(ip, port) : sockaddrIn(ip, port);
}

function sockaddrIn(ip: string, port: number): Buffer {
  const address = Buffer.alloc(16);
  address.writeUInt16LE(AF_INET, 0);
  address.writeUInt16BE(port, 2);
  address.set(ip.split('.').map(Number), 4);
  return address;
}

function sockaddrIn6(ip: string, port: number): Buffer {
  const address = Buffer.alloc(28);
  address.writeUInt16LE(AF_INET6, 0);
  address.writeUInt16BE(port, 2);
  const [head = '', tail] = ip.split('::');
  const words = (text: string): number[] =>
    text === '' ? [] : text.split(':').map((word) => Number.parseInt(word, 16));
  const left = words(head);
  const right = tail === undefined ? [] : words(tail);
  const all = tail === undefined ? left : [...left, ...new Array(8 - left.length - right.length).fill(0), ...right];
  all.forEach((word, index) => {
    address.writeUInt16BE(word as number, 8 + index * 2);
  });
  return address;
}

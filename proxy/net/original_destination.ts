/** Where a redirected connection was going: SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, by libc's getsockopt (Linux). */
import { type SocketAddress, socketAddress } from './connection_info.ts';
import { AF_INET6, hasLibc, libc, SOL_IP, SOL_IPV6 } from './libc.ts';

const SO_ORIGINAL_DST = 80;
const SOCKADDR_BYTES = 28;

const address = Buffer.alloc(SOCKADDR_BYTES);
const length = Buffer.alloc(4);

/**
 * Read it at accept. 1 to 4 µs.
 * @returns undefined where netfilter knows nothing of the connection; its own address where it was not redirected.
 */
export function originalDestination(fd: number, isV6: boolean): SocketAddress | undefined {
  if (!hasLibc || fd < 0) return undefined;
  length.writeInt32LE(SOCKADDR_BYTES);
  // The level follows the client's family: a v4 client of a dual-stack socket is known to the v4 table.
  if (libc().getsockopt(fd, isV6 ? SOL_IPV6 : SOL_IP, SO_ORIGINAL_DST, address, length) !== 0) return undefined;
  const port = address.readUInt16BE(2);
  if (address.readUInt16LE(0) !== AF_INET6) return v4Address(port);
  const words: string[] = [];
  for (let offset = 8; offset < 24; offset += 2) words.push(address.readUInt16BE(offset).toString(16));
  return socketAddress(shortened(words), port);
}

/** A workload dials the same few services again and again: their addresses are written once. */
const known = new Map<number, SocketAddress>();
const MAX_KNOWN = 1024;

function v4Address(port: number): SocketAddress {
  // 48 bits, exact in a double.
  const key = address.readUInt32BE(4) * 65_536 + port;
  let found = known.get(key);
  if (found === undefined) {
    const ip = `${address.readUInt8(4)}.${address.readUInt8(5)}.${address.readUInt8(6)}.${address.readUInt8(7)}`;
    found = socketAddress(ip, port);
    if (known.size >= MAX_KNOWN) known.clear();
    known.set(key, found);
  }
  return found;
}

/** RFC 5952: the longest run of zeros is `::`. */
function shortened(words: readonly string[]): string {
  const zeros = /(?:^|:)0(?::0)+(?=:|$)/g;
  const text = words.join(':');
  let longest = '';
  for (const [run] of text.matchAll(zeros)) if (run.length > longest.length) longest = run;
  if (longest === '') return text;
  const at = text.indexOf(longest);
  return `${text.slice(0, at)}::${text.slice(at + longest.length).replace(/^:/, '')}`;
}

/** How many connections the system's limit of descriptors leaves room for (attacks.md row 28). */
import { hasLibc, libc } from './libc.ts';

const RLIMIT_NOFILE = 7;
/** For the admin interface, health, listening sockets, logs, control planes. */
const RESERVED_DESCRIPTORS = 512;
/** A connection and the one to its host. */
const DESCRIPTORS_PER_CONNECTION = 2;
const LEAST = 16;

/** Of this process; undefined: nobody knows, or any number. */
export function connectionsByDescriptors(): number | undefined {
  if (!hasLibc) return undefined;
  const limit = Buffer.alloc(16);
  if (libc().getrlimit(RLIMIT_NOFILE, limit) !== 0) return undefined;
  const room = (Number(limit.readBigUInt64LE(0)) - RESERVED_DESCRIPTORS) / DESCRIPTORS_PER_CONNECTION;
  return room > 2 ** 31 ? undefined : Math.max(LEAST, Math.floor(room));
}

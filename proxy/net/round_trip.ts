/** The kernel's measure of a connection's round trip: TCP_INFO by libc's getsockopt (Linux). */
import { hasLibc, libc, SOL_TCP } from './libc.ts';

const TCP_INFO = 11;
/** struct tcp_info as far as tcpi_rtt, microseconds. */
const RTT_OFFSET = 68;
const INFO_BYTES = RTT_OFFSET + 4;

const answer = Buffer.alloc(INFO_BYTES);
const length = Buffer.alloc(4);

/** Milliseconds, smoothed. One system call. undefined: no TCP, or nobody knows. */
export function roundTripMs(fd: number): number | undefined {
  if (!hasLibc || fd < 0) return undefined;
  length.writeInt32LE(INFO_BYTES);
  if (libc().getsockopt(fd, SOL_TCP, TCP_INFO, answer, length) !== 0 || length.readInt32LE() < INFO_BYTES)
    return undefined;
  return answer.readUInt32LE(RTT_OFFSET) / 1000;
}

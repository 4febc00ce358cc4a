/** Descriptors for logs that never block whoever writes: not on a pipe that nobody reads, not on a FIFO that nobody has opened. */
import { closeSync, constants, openSync } from 'node:fs';

const FLAGS = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK;
const STREAMS: Readonly<Record<string, number>> = { '/dev/stdout': 1, '/dev/stderr': 2 };

export interface LogDescriptor {
  readonly fd: number;
  /** It was opened here, and is opened anew when logs rotate. */
  readonly isFile: boolean;
  close(): void;
}

/** `/dev/stdout`, `/dev/stderr` or a path. @throws {Error} of the file system. */
export function openLogDescriptor(path: string): LogDescriptor {
  const stream = STREAMS[path];
  if (stream === undefined) {
    const fd = openSync(path, FLAGS, 0o644);
    return { fd, isFile: true, close: () => closeSync(fd) };
  }
  const own = anotherDescription(stream);
  return { fd: own ?? stream, isFile: false, close: () => own !== undefined && closeSync(own) };
}

/**
 * The same pipe or file, with flags of our own: O_NONBLOCK on the descriptor that we were given would hold for everybody
 * who shares it. undefined where there is no /proc, or behind it a socket: then it is used as it is.
 */
function anotherDescription(fd: number): number | undefined {
  try {
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_APPEND | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
}

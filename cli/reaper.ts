/**
 * As process 1 of a container we inherit every orphan, and each would stay a zombie: Node waits only for processes it
 * started itself. Linux only, through libc.
 */
import { dlopen } from 'node:ffi';

const P_ALL = 0;
const WNOHANG = 1;
const WEXITED = 4;
const WNOWAIT = 0x0100_0000;
/** siginfo_t on 64-bit Linux. */
const SIGINFO_BYTES = 128;
const SI_PID_OFFSET = 16;
/** Our own child is still there: Node has not had the signal yet. */
const AGAIN_MS = 50;

type Libc = {
  readonly waitid: (idType: number, id: number, info: Buffer, options: number) => number;
  readonly waitpid: (pid: number, status: Buffer, options: number) => number;
};

/** @param isOwn whether Node itself waits for this process. */
export function reapOrphans(isOwn: (pid: number) => boolean): void {
  if (process.platform !== 'linux') return;
  const { functions } = dlopen(null, {
    waitid: { arguments: ['i32', 'i32', 'pointer', 'i32'], return: 'i32' },
    waitpid: { arguments: ['i32', 'pointer', 'i32'], return: 'i32' },
  });
  const libc = functions as unknown as Libc;
  const info = Buffer.alloc(SIGINFO_BYTES);
  const status = Buffer.alloc(4);
  const reap = (): void => {
    for (;;) {
      info.fill(0);
      // Looks without taking: the status of Node's own children is Node's.
      if (libc.waitid(P_ALL, 0, info, WEXITED | WNOHANG | WNOWAIT) !== 0) return;
      const pid = info.readInt32LE(SI_PID_OFFSET);
      if (pid === 0) return;
      if (isOwn(pid)) {
        setTimeout(reap, AGAIN_MS).unref();
        return;
      }
      libc.waitpid(pid, status, WNOHANG);
    }
  };
  process.on('SIGCHLD', reap);
  reap();
}

/** SIGUSR1 for the application: the launcher has it blocked (`--disable-sigusr1`), lest Node open its debugger. */
import { dlopen } from 'node:ffi';
import { constants } from 'node:os';

const SIG_UNBLOCK = 1;
/** sigset_t of glibc and musl, at most. */
const SIGNAL_SET_BYTES = 128;

/** Once somebody listens: from then on Node's own handler is replaced. Linux only; elsewhere it stays blocked. */
export function unblockUserSignal(): void {
  if (process.platform !== 'linux') return;
  const set = Buffer.alloc(SIGNAL_SET_BYTES);
  const bit = constants.signals.SIGUSR1 - 1;
  set[bit >> 3] = 1 << (bit & 7);
  const { pthread_sigmask: setMask } = dlopen(null, {
    pthread_sigmask: { arguments: ['i32', 'pointer', 'pointer'], return: 'i32' },
  }).functions as unknown as { pthread_sigmask(how: number, set: Buffer, before: null): number };
  setMask(SIG_UNBLOCK, set, null);
}

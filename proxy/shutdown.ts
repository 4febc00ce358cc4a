/**
 * A graceful end, on the control thread:
 *
 *   draining (new work is accepted, answers say `Connection: close`) ─ nothing open ─► accepting no more ─ nothing open ─► end
 *        └──────────────── deadline: what is open is cut and named ────────────────────────────────┘
 */
import { setTimeout } from 'node:timers/promises';
import type { OpenWork, ThreadDescription } from './thread_messages.ts';

const POLL_MS = 50;
/** Between the last two looks. */
const LAST_POLL_MS = 10;
const MAX_NAMED = 10;

export interface ShutdownPolicy {
  /** From the signal; Infinity: as long as it takes. */
  readonly deadlineMs: number;
  /** Not before: load balancers need a while to hear that we go. */
  readonly minimumMs: number;
  /** `connections`: kept-alive ones count too (Istio's EXIT_ON_ZERO_ACTIVE_CONNECTIONS). */
  readonly waitFor: 'requests' | 'connections';
}

export function shutdownPolicy(given: Partial<ShutdownPolicy>, drainTimeMs: number): ShutdownPolicy {
  return { deadlineMs: drainTimeMs, minimumMs: 0, waitFor: 'requests', ...given };
}

/** @returns what is open at the deadline, as a sentence's end; '' when all was finished. */
export async function finishOpenWork(
  describe: () => Promise<readonly ThreadDescription[]>,
  stopAccepting: () => void,
  { deadlineMs, minimumMs, waitFor }: ShutdownPolicy,
  hurry: AbortSignal,
): Promise<string> {
  const startMs = performance.now();
  let stopped = false;
  for (;;) {
    const threads = await describe();
    const sum = (pick: (thread: ThreadDescription) => number): number =>
      threads.reduce((total, thread) => total + pick(thread), 0);
    const open =
      waitFor === 'connections'
        ? sum(({ activeConnections }) => activeConnections)
        : sum(({ openWorkCount }) => openWorkCount);
    const elapsedMs = performance.now() - startMs;
    if (elapsedMs >= deadlineMs || hurry.aborted) {
      return sum(({ openWorkCount }) => openWorkCount) === 0
        ? ''
        : sentenceOf(
            threads.flatMap((thread) => thread.openWork),
            open,
          );
    }
    if (open === 0 && elapsedMs >= minimumMs) {
      // Once more: what came between the two looks is finished too.
      if (stopped) return '';
      stopAccepting();
      stopped = true;
    }
    await setTimeout(stopped ? LAST_POLL_MS : POLL_MS, undefined, { signal: hurry }).catch(() => {});
  }
}

function sentenceOf(work: readonly OpenWork[], count: number): string {
  const named = work
    .slice(0, MAX_NAMED)
    .map(
      ({ listener, client, what, ageMs }) =>
        `${what} from ${client} on ${listener}, ${(ageMs / 1000).toFixed(1)} s old`,
    );
  const more = count > named.length ? `, and ${count - named.length} more` : '';
  return `${count} open: ${named.join('; ')}${more}`;
}

/** How long to wait before the next attempt: exponential, fully jittered. Envoy: JitteredExponentialBackOffStrategy. */

export interface BackoffOptions {
  readonly baseMs: number;
  readonly maxMs: number;
  readonly random: () => number;
}

/** Envoy's for config streams. */
export const STREAM_BACKOFF = { baseMs: 500, maxMs: 30_000 } as const;

export class Backoff {
  readonly #options: BackoffOptions;
  #attempt = 0;

  constructor(options: BackoffOptions) {
    this.#options = options;
  }

  nextMs(): number {
    const { baseMs, maxMs, random } = this.#options;
    const ceilingMs = Math.min(maxMs, baseMs * 2 ** Math.min(this.#attempt++, 30));
    // Never at once: a thousand sidecars that lost one control plane must not come back in one moment.
    return Math.max(1, Math.floor(random() * ceilingMs));
  }

  reset(): void {
    this.#attempt = 0;
  }
}

/** An identity that is issued, and issued again in time: keys made here, certificates from whoever signs. */
import type { ConfigSink, ConfigSource, Dependency } from '../../config/resources.ts';
import { certificatesOf } from '../net/tls/certificate.ts';
import { type Identity, IDENTITY_SECRET, identitySecrets, ROOT_SECRET, rotationDelayMs } from './identity_secrets.ts';

export interface RotatingIdentityOptions {
  /** A new key each time. Its failures are tried again. */
  issue(signal: AbortSignal): Promise<Identity>;
  /** For dumps and messages: `istiod.istio-system.svc:15012`, `the development CA in /…`. */
  readonly origin: string;
  log(level: 'info' | 'warning' | 'error', message: string): void;
  /** Of the certificate's life that is left when it is replaced. Default 0.5 (SECRET_GRACE_PERIOD_RATIO). */
  readonly graceRatio?: number;
  /** Default 0.01 (SECRET_GRACE_PERIOD_RATIO_JITTER). */
  readonly graceJitter?: number;
  readonly random?: () => number;
  readonly nowMs?: () => number;
  /** @returns what calls it off. */
  readonly setTimer?: (delayMs: number, callback: () => void) => () => void;
}

const FIRST_RETRY_MS = 1000;
const MAX_RETRY_MS = 60_000;
const MAX_TIMER_MS = 2 ** 31 - 1;
/** A certificate that is born old (clocks that differ) must not be asked for without pause. */
const MIN_ROTATION_MS = 1000;

export class RotatingIdentity implements ConfigSource {
  readonly #options: RotatingIdentityOptions;
  readonly #aborter = new AbortController();
  #sink: ConfigSink | undefined = undefined;
  #cancelTimer: () => void = () => {};
  #retries = 0;

  constructor(options: RotatingIdentityOptions) {
    this.#options = options;
  }

  start(on: ConfigSink): void {
    this.#sink = on;
    // A start does not wait for a CA: what needs the identity does.
    on.update({ upserts: [], removed: [], full: false, atomic: false });
    void this.#issue();
  }

  stop(): void {
    this.#aborter.abort();
    this.#cancelTimer();
  }

  subscribe({ type, name }: Dependency): boolean {
    return type === 'secret' && (name === IDENTITY_SECRET || name === ROOT_SECRET);
  }

  unsubscribe(): void {}

  async #issue(): Promise<void> {
    const { issue, origin, log, nowMs = Date.now, random = Math.random } = this.#options;
    const { signal } = this.#aborter;
    let identity: Identity;
    try {
      identity = await issue(signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#retry(`Cannot get a certificate from ${origin}: ${(error as Error).message}`);
      return;
    }
    if (signal.aborted) return;
    const result = this.#sink?.update({
      upserts: identitySecrets(identity, origin),
      removed: [],
      full: false,
      atomic: true,
    });
    const [refused] = result?.rejected ?? [];
    if (refused !== undefined) {
      this.#retry(`What ${origin} issued cannot be used: ${refused.reason}`);
      return;
    }
    this.#retries = 0;
    this.#sink?.statistics.counter('identity.rotations').inc();
    const { graceRatio = 0.5, graceJitter = 0.01 } = this.#options;
    const delayMs = Math.max(
      MIN_ROTATION_MS,
      rotationDelayMs(identity.chain, nowMs(), graceRatio, graceJitter, random),
    );
    const [leaf] = certificatesOf(identity.chain);
    if (leaf !== undefined) {
      const until = new Date(leaf.validToMs).toISOString();
      log('info', `${leaf.uris[0] ?? leaf.subject}: certificate from ${origin}, good until ${until}`);
    }
    this.#after(delayMs);
  }

  /** Jittered and doubling: a CA that comes back is not overrun. */
  #retry(complaint: string): void {
    const { log, random = Math.random } = this.#options;
    const baseMs = Math.min(MAX_RETRY_MS, FIRST_RETRY_MS * 2 ** this.#retries++);
    const delayMs = baseMs * (0.5 + random() / 2);
    this.#sink?.statistics.counter('identity.failures').inc();
    log('warning', `${complaint}; trying again in ${(delayMs / 1000).toFixed(1)} s`);
    this.#after(delayMs);
  }

  #after(delayMs: number): void {
    const { setTimer = realTimer } = this.#options;
    this.#cancelTimer = setTimer(Math.min(delayMs, MAX_TIMER_MS), () => void this.#issue());
  }
}

function realTimer(delayMs: number, callback: () => void): () => void {
  const timer = setTimeout(callback, delayMs).unref();
  return () => clearTimeout(timer);
}

/**
 * What ends a running proxy, and what only tells it something:
 *
 *   SIGTERM, first SIGINT   drain and stop; with an application: it gets the signal, and its end is the start of ours
 *   SIGINT after that       130 at once
 *   SIGQUIT, /quitquitquit  stop without draining
 *   SIGHUP                  read the files again
 *   SIGUSR2                 open the logs again
 *   SIGUSR1, SIGWINCH, …    the application's; nobody's without one
 */
import type { Application } from './application.ts';
import { exitCodes } from './exit_codes.ts';
import { unblockUserSignal } from './user_signal.ts';

/** What a program may have made a use of, and would miss; SIGHUP and SIGUSR2 are ours, and would end most programs. */
const FORWARDED: readonly NodeJS.Signals[] = ['SIGUSR1', 'SIGWINCH', 'SIGCONT', 'SIGURG', 'SIGIO', 'SIGPWR'];

export class EndSignals {
  readonly #requested = Promise.withResolvers<void>();
  readonly #hurry: () => void;
  #application: Application | undefined = undefined;
  #ending: NodeJS.Signals | undefined = undefined;

  constructor(on: { reload(): void; reopen(): void; hurry(): void }) {
    this.#hurry = on.hurry;
    process.on('SIGHUP', on.reload).on('SIGUSR2', on.reopen);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGQUIT'] as const) process.on(signal, this.request);
    process.once('exit', () => this.#application?.signal('SIGTERM'));
  }

  /** Resolves when the proxy is to stop. */
  get requested(): Promise<void> {
    return this.#requested.promise;
  }

  readonly request = (signal: NodeJS.Signals): void => {
    if (signal === 'SIGINT' && this.#ending !== undefined) {
      this.#application?.signal('SIGKILL');
      process.exit(exitCodes.interrupted);
    }
    this.#ending = signal;
    this.#application?.signal(signal === 'SIGQUIT' ? 'SIGTERM' : signal);
    this.#requested.resolve();
    if (signal === 'SIGQUIT') this.#hurry();
  };

  forwardTo(application: Application): void {
    this.#application = application;
    for (const signal of FORWARDED) process.on(signal, () => application.signal(signal));
    unblockUserSignal();
    void application.ended.then(() => {
      this.#application = undefined;
    });
    if (this.#ending !== undefined) application.signal(this.#ending);
  }
}

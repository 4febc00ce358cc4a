/** Exit codes: one table for all commands. */
export const exitCodes = {
  fine: 0,
  failure: 1,
  usage: 2,
  config: 3,
  bind: 4,
  drainDeadline: 6,
  interrupted: 130,
} as const;

/** Ends a command with a sentence on stderr. */
export class CommandError extends Error {
  readonly exitCode: number;
  constructor(exitCode: number, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'CommandError';
    this.exitCode = exitCode;
  }
}

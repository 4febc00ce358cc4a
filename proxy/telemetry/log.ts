/** Pillion's own log: levels per component, one escaped line an entry. */

/** The most talkative first. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warning', 'error', 'critical', 'off'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface Logger {
  log(level: LogLevel, component: string, message: string, fields?: Readonly<Record<string, unknown>>): void;
  enabled(level: LogLevel, component: string): boolean;
  /** Of components without one of their own ('' in the answer), and of those with one. undefined: not adjustable. */
  levels?(): ReadonlyMap<string, LogLevel>;
  /** For one component, or for all (undefined). */
  setLevel?(level: LogLevel, component?: string): void;
}

/** Pillion's own log: levels per component, one escaped line an entry. */

export type LogLevel = 'trace' | 'debug' | 'info' | 'warning' | 'error' | 'critical' | 'off';

export interface Logger {
  log(level: LogLevel, component: string, message: string, fields?: Readonly<Record<string, unknown>>): void;
  enabled(level: LogLevel, component: string): boolean;
}

/** Durations as Istio's environment writes them: `24h`, `1h30m`, `100ms`. */
import { CommandError, exitCodes } from './exit_codes.ts';

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** undefined for nothing. @throws {CommandError} naming the variable. */
export function durationMs(text: string | undefined, name: string): number | undefined {
  if (text === undefined || text === '') return undefined;
  if (!/^(?:\d+(?:\.\d+)?(?:ms|s|m|h))+$/.test(text)) {
    throw new CommandError(exitCodes.usage, `${name} wants a duration such as 24h or 100ms, got "${text}"`);
  }
  let total = 0;
  for (const [, number = '0', unit = 's'] of text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)) {
    total += Number(number) * (UNITS[unit] ?? 0);
  }
  return total;
}

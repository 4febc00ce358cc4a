/** `pillion validate` (Envoy: `--mode validate`): builds everything, opens no port. */
import { checkResource } from '../config/build/check.ts';
import { LeveledLogger, stderrOutput } from '../proxy/telemetry/logger.ts';
import { Configuration } from './configuration.ts';
import { exitCodes } from './exit_codes.ts';
import { say, warn } from './print.ts';
import type { ProxyFlags } from './proxy_flags.ts';

/** @returns 0, or 3 with each complaint on stderr. @throws {ConfigError} {CommandError} */
export async function validate(flags: ProxyFlags): Promise<number> {
  const configuration = new Configuration(flags, { dev: false, watch: false });
  const resources = await configuration.source.prepare();
  const log = new LeveledLogger('warning', stderrOutput());
  for (const source of await configuration.dynamicSources(log)) source.stop();
  for (const warning of configuration.warnings) warn(`warning: ${warning}`);
  const errors = resources.map(checkResource).filter((error) => error !== undefined);
  for (const error of errors) warn(error.message);
  if (errors.length > 0) return exitCodes.config;
  const counts = new Map<string, number>();
  for (const { type } of resources) counts.set(type, (counts.get(type) ?? 0) + 1);
  say(`OK: ${[...counts].map(([type, count]) => `${count} ${type}${count === 1 ? '' : 's'}`).join(', ')}`);
  return exitCodes.fine;
}

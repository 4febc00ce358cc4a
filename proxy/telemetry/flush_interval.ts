/** How often statistics are flushed: gathered for sinks, and counted. */
import type { Fields } from '../resource_fields.ts';

const DEFAULT_FLUSH_MS = 5000;
const MAX_FLUSH_MS = 300_000;

/** Milliseconds between two flushes. Envoy: Bootstrap.stats_flush_interval (default 5 s, 1 ms to 5 minutes), stats_flush_on_admin. @throws {ConfigError} */
export function parseFlush(bootstrap: Fields): number | 'on admin' {
  if (bootstrap.boolean('stats_flush_on_admin') === true) return 'on admin';
  const ms = bootstrap.durationMs('stats_flush_interval') ?? DEFAULT_FLUSH_MS;
  if (ms < 1 || ms >= MAX_FLUSH_MS) bootstrap.fail('stats_flush_interval', 'must be between 1 ms and 5 minutes');
  return ms;
}

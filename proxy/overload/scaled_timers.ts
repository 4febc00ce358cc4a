/** Timeouts that overload shortens. Envoy: envoy.config.overload.v3.ScaleTimersOverloadActionConfig. */
import type { Fields } from '../resource_fields.ts';

/** Envoy's timer types, in lower case. */
export const SCALED_TIMERS = [
  'http_downstream_connection_idle',
  'http_downstream_stream_idle',
  'transport_socket_connect',
  'http_downstream_connection_max',
] as const;
export type ScaledTimer = (typeof SCALED_TIMERS)[number];

/** How short it may become: so many milliseconds, or a share (0 to 1) of what is configured. */
export type TimerMinimum = { readonly minMs: number } | { readonly minShare: number };

const TYPE = 'type.googleapis.com/envoy.config.overload.v3.ScaleTimersOverloadActionConfig';

/** Of the action reduce_timeouts. @throws {ConfigError} */
export function parseTimerMinimums(action: Fields): ReadonlyMap<ScaledTimer, TimerMinimum> {
  const config = action.requiredMessage('typed_config');
  if (config.string('@type') !== TYPE) config.fail('@type', `"${TYPE}" is wanted`);
  const minimums = new Map<ScaledTimer, TimerMinimum>();
  const factors = config.messages('timer_scale_factors');
  if (factors.length === 0) config.fail('timer_scale_factors', 'at least one is required');
  for (const factor of factors) {
    const named = factor.requiredString('timer').toLowerCase();
    const timer = SCALED_TIMERS.find((known) => known === named);
    if (timer === undefined) return factor.fail('timer', `the timer ${named.toUpperCase()} is not supported`);
    if (minimums.has(timer)) factor.fail('timer', 'stands twice');
    const minMs = factor.durationMs('min_timeout');
    const percent = factor.message('min_scale')?.number('value', 0, 100) ?? 0;
    if (minMs === undefined && !factor.has('min_scale')) {
      factor.fail('min_timeout', 'one of min_timeout, min_scale is required');
    }
    minimums.set(timer, minMs === undefined ? { minShare: percent / 100 } : { minMs });
  }
  return minimums;
}

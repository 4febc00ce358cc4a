/** envoy.config.cluster.v3.OutlierDetection → OutlierConfig. */
import type { Fields } from '../../proxy/resource_fields.ts';
import type { OutlierConfig } from '../../proxy/upstream/outlier_config.ts';

/** @throws {ConfigError} */
export function buildOutlierDetection(fields: Fields | undefined): OutlierConfig | undefined {
  if (fields === undefined) return undefined;
  const positive = (name: string, absentMs: number): number => {
    const value = fields.durationMs(name) ?? absentMs;
    return value > 0 ? value : fields.fail(name, `must be greater than 0s, got ${value / 1000}s`);
  };
  const percent = (name: string, absent: number): number => fields.number(name, 0, 100) ?? absent;
  const baseEjectionMs = positive('base_ejection_time', 30_000);
  const monitors = fields.messages('monitors');
  if (monitors.length > 0) fields.fail('monitors', 'extensions of outlier detection are not supported');
  return {
    intervalMs: positive('interval', 10_000),
    baseEjectionMs,
    maxEjectionMs: Math.max(baseEjectionMs, positive('max_ejection_time', 300_000)),
    maxEjectionJitterMs: fields.durationMs('max_ejection_time_jitter') ?? 0,
    maxEjectionPercent: percent('max_ejection_percent', 10),
    alwaysEjectOneHost: fields.boolean('always_eject_one_host') ?? false,
    consecutive5xx: fields.integer('consecutive_5xx') ?? 5,
    consecutiveGatewayFailure: fields.integer('consecutive_gateway_failure') ?? 5,
    consecutiveLocalOriginFailure: fields.integer('consecutive_local_origin_failure') ?? 5,
    enforcing: {
      consecutive_5xx: percent('enforcing_consecutive_5xx', 100),
      consecutive_gateway_failure: percent('enforcing_consecutive_gateway_failure', 0),
      consecutive_local_origin_failure: percent('enforcing_consecutive_local_origin_failure', 100),
      success_rate: percent('enforcing_success_rate', 100),
      local_origin_success_rate: percent('enforcing_local_origin_success_rate', 100),
      failure_percentage: percent('enforcing_failure_percentage', 0),
      local_origin_failure_percentage: percent('enforcing_failure_percentage_local_origin', 0),
    },
    successRateMinimumHosts: fields.integer('success_rate_minimum_hosts') ?? 5,
    successRateRequestVolume: fields.integer('success_rate_request_volume') ?? 100,
    successRateStdevFactor: fields.integer('success_rate_stdev_factor') ?? 1900,
    failurePercentageThreshold: percent('failure_percentage_threshold', 85),
    failurePercentageMinimumHosts: fields.integer('failure_percentage_minimum_hosts') ?? 5,
    failurePercentageRequestVolume: fields.integer('failure_percentage_request_volume') ?? 50,
    splitLocalOrigin: fields.boolean('split_external_local_origin_errors') ?? false,
  };
}

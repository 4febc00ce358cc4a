/**
 * Which hosts' rates stand out in an interval. Pure.
 * Source: Envoy outlier_detection_impl.cc, successRateEjectionThreshold and processSuccessRateEjections.
 */
import type { OutlierConfig } from './outlier_config.ts';

/** What one host did in one interval. */
export interface HostRate {
  readonly address: string;
  readonly requests: number;
  /** 0 to 100. */
  readonly successPercent: number;
}

export interface RateOutlier extends HostRate {
  /** Of all hosts that had enough requests; undefined: the host was not compared with others. */
  readonly average?: number;
  /** Below it a host stands out. */
  readonly threshold?: number;
}

export type SuccessRules = Pick<
  OutlierConfig,
  'successRateMinimumHosts' | 'successRateRequestVolume' | 'successRateStdevFactor'
>;

/** Those below mean − factor × standard deviation, once enough hosts have had enough requests. */
export function successOutliers(rates: readonly HostRate[], rules: SuccessRules): RateOutlier[] {
  const enough = rates.filter(({ requests }) => requests >= rules.successRateRequestVolume);
  if (enough.length === 0 || enough.length < rules.successRateMinimumHosts) return [];
  const average = enough.reduce((sum, { successPercent }) => sum + successPercent, 0) / enough.length;
  const variance = enough.reduce((sum, { successPercent }) => sum + (successPercent - average) ** 2, 0) / enough.length;
  const threshold = average - (Math.sqrt(variance) * rules.successRateStdevFactor) / 1000;
  return enough
    .filter(({ successPercent }) => successPercent < threshold)
    .map((rate) => ({ ...rate, average, threshold }));
}

export type FailureRules = Pick<
  OutlierConfig,
  'failurePercentageMinimumHosts' | 'failurePercentageRequestVolume' | 'failurePercentageThreshold'
>;

/** Those that fail at least as often as the threshold says, whatever the others do. */
export function failureOutliers(rates: readonly HostRate[], rules: FailureRules): readonly RateOutlier[] {
  const enough = rates.filter(({ requests }) => requests >= rules.failurePercentageRequestVolume);
  if (enough.length === 0 || enough.length < rules.failurePercentageMinimumHosts) return [];
  return enough.filter(({ successPercent }) => 100 - successPercent >= rules.failurePercentageThreshold);
}

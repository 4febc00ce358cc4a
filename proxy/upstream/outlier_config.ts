/** Outlier detection, read. Envoy: envoy.config.cluster.v3.OutlierDetection. */

/** Durations in ms, shares in percent. */
export interface OutlierConfig {
  /** Between two looks at success rates and at who may come back. Default 10,000. */
  readonly intervalMs: number;
  /** Times the number of ejections. Default 30,000. */
  readonly baseEjectionMs: number;
  /** Default 300,000, or the base where that is more. */
  readonly maxEjectionMs: number;
  /** Default 0. */
  readonly maxEjectionJitterMs: number;
  /** Default 10. */
  readonly maxEjectionPercent: number;
  readonly alwaysEjectOneHost: boolean;
  /** Failures in a row; default 5. */
  readonly consecutive5xx: number;
  readonly consecutiveGatewayFailure: number;
  readonly consecutiveLocalOriginFailure: number;
  /** Of those that are found: how many are ejected. Defaults 100, gateway failures and failure percentages 0. */
  readonly enforcing: Readonly<Record<OutlierCause, number>>;
  readonly successRateMinimumHosts: number;
  readonly successRateRequestVolume: number;
  /** Thousandths of a standard deviation; default 1900. */
  readonly successRateStdevFactor: number;
  readonly failurePercentageThreshold: number;
  readonly failurePercentageMinimumHosts: number;
  readonly failurePercentageRequestVolume: number;
  /** Connection failures and timeouts count by themselves, instead of as 5xx. */
  readonly splitLocalOrigin: boolean;
}

/** Envoy's OutlierEjectionType, and the middle of its statistics' names. */
export type OutlierCause =
  | 'consecutive_5xx'
  | 'consecutive_gateway_failure'
  | 'consecutive_local_origin_failure'
  | 'success_rate'
  | 'local_origin_success_rate'
  | 'failure_percentage'
  | 'local_origin_failure_percentage';

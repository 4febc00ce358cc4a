/** Everything that keeps a request from failing, configured and firing never: retries to faults at 0 %. */

const TYPE = 'type.googleapis.com/';
const NEVER = { numerator: 0, denominator: 'HUNDRED' };
const ALWAYS = { default_value: { numerator: 100, denominator: 'HUNDRED' } };

export function resilientRoute(): { readonly route: object; readonly typed_per_filter_config: object } {
  return {
    route: {
      cluster: 'upstream',
      timeout: '15s',
      idle_timeout: '60s',
      max_stream_duration: { max_stream_duration: '60s' },
      retry_policy: {
        retry_on: '5xx,reset,connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes',
        retriable_status_codes: [503],
        num_retries: 6,
        per_try_timeout: '5s',
        per_try_idle_timeout: '5s',
        retry_host_predicate: [
          {
            name: 'envoy.retry_host_predicates.previous_hosts',
            typed_config: { '@type': `${TYPE}envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate` },
          },
        ],
        host_selection_retry_max_attempts: '5',
        retry_back_off: { base_interval: '0.025s', max_interval: '0.25s' },
      },
      hedge_policy: { hedge_on_per_try_timeout: true },
      request_mirror_policies: [{ cluster: 'upstream', runtime_fraction: { default_value: NEVER } }],
    },
    typed_per_filter_config: {
      'envoy.filters.http.fault': {
        '@type': `${TYPE}envoy.extensions.filters.http.fault.v3.HTTPFault`,
        delay: { fixed_delay: '1s', percentage: NEVER },
        abort: { http_status: 503, percentage: NEVER },
      },
    },
  };
}

/** Before the router. */
export function resilientFilters(): object[] {
  return [
    {
      name: 'envoy.filters.http.fault',
      typed_config: { '@type': `${TYPE}envoy.extensions.filters.http.fault.v3.HTTPFault` },
    },
    {
      name: 'envoy.filters.http.local_ratelimit',
      typed_config: {
        '@type': `${TYPE}envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit`,
        stat_prefix: 'bench',
        token_bucket: { max_tokens: 1_000_000_000, tokens_per_fill: 1_000_000_000, fill_interval: '1s' },
        filter_enabled: ALWAYS,
        filter_enforced: ALWAYS,
      },
    },
  ];
}

export function resilientCluster(): object {
  return {
    lb_policy: 'LEAST_REQUEST',
    circuit_breakers: {
      thresholds: [
        {
          max_connections: 10_000,
          max_pending_requests: 10_000,
          max_requests: 10_000,
          max_retries: 100,
          track_remaining: true,
        },
      ],
    },
    outlier_detection: {
      consecutive_5xx: 5,
      consecutive_gateway_failure: 5,
      consecutive_local_origin_failure: 5,
      split_external_local_origin_errors: true,
      enforcing_success_rate: 100,
      enforcing_failure_percentage: 100,
      interval: '1s',
      max_ejection_percent: 67,
    },
    health_checks: [
      {
        timeout: '1s',
        interval: '1s',
        unhealthy_threshold: 3,
        healthy_threshold: 1,
        http_health_check: { path: '/small' },
      },
    ],
  };
}

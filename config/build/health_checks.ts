/** envoy.config.core.v3.HealthCheck → HealthCheckConfig. */
import { parseHeaderValue } from '../../proxy/http/header_value.ts';
import type { Fields } from '../../proxy/resource_fields.ts';
import type { HealthCheck, HealthCheckConfig } from '../../proxy/upstream/health_check.ts';
import { refuseUnexecuted } from '../../proxy/unexecuted_fields.ts';

/** @throws {ConfigError} for checks that are not executed. */
export function buildHealthChecks(list: readonly Fields[]): readonly HealthCheckConfig[] {
  return list.map((fields) => {
    refuseUnexecuted(fields, 'HealthCheck');
    const positive = (name: string): number => {
      const value = fields.durationMs(name);
      if (value === undefined) return fields.fail(name, 'is required');
      return value > 0 ? value : fields.fail(name, `must be greater than 0s, got ${value / 1000}s`);
    };
    const threshold = (name: string): number => fields.integer(name, 1) ?? fields.fail(name, 'is required');
    for (const name of ['tls_options', 'transport_socket_match_criteria', 'custom_health_check']) {
      if (fields.has(name)) fields.fail(name, 'is not supported');
    }
    const intervalMs = positive('interval');
    return {
      timeoutMs: positive('timeout'),
      intervalMs,
      initialJitterMs: fields.durationMs('initial_jitter') ?? 0,
      intervalJitterMs: fields.durationMs('interval_jitter') ?? 0,
      intervalJitterPercent: fields.integer('interval_jitter_percent') ?? 0,
      unhealthyThreshold: threshold('unhealthy_threshold'),
      healthyThreshold: threshold('healthy_threshold'),
      unhealthyIntervalMs: fields.durationMs('unhealthy_interval') ?? intervalMs,
      alwaysLogFailures: fields.boolean('always_log_health_check_failures') ?? false,
      check: buildCheck(fields),
    };
  });
}

function buildCheck(fields: Fields): HealthCheck {
  const http = fields.message('http_health_check');
  if (http !== undefined) {
    refuseUnexecuted(http, 'HttpHealthCheck');
    for (const name of ['send', 'receive', 'service_name_matcher', 'retriable_statuses']) {
      if (http.has(name)) http.fail(name, 'is not supported');
    }
    const expected = http
      .messages('expected_statuses')
      .map((range) => [range.integer('start', 100, 600) ?? 0, range.integer('end', 100, 600) ?? 0] as const);
    return {
      kind: 'http',
      path: http.requiredString('path'),
      host: http.string('host') ?? '',
      method: http.string('method') ?? 'GET',
      expected: expected.length === 0 ? [[200, 201]] : expected,
      headers: http.messages('request_headers_to_add').map((item) => parseHeaderValue(item.requiredMessage('header'))),
    };
  }
  const grpc = fields.message('grpc_health_check');
  if (grpc !== undefined) {
    refuseUnexecuted(grpc, 'GrpcHealthCheck');
    return { kind: 'grpc', service: grpc.string('service_name') ?? '', authority: grpc.string('authority') ?? '' };
  }
  const tcp = fields.message('tcp_health_check');
  if (tcp === undefined) {
    return fields.fail(
      'http_health_check',
      'one of http_health_check, tcp_health_check, grpc_health_check is required',
    );
  }
  refuseUnexecuted(tcp, 'TcpHealthCheck');
  return {
    kind: 'tcp',
    send: tcp.message('send') === undefined ? '' : payload(tcp.requiredMessage('send')),
    receive: tcp.messages('receive').map(payload),
  };
}

function payload(fields: Fields): string {
  const text = fields.string('text');
  if (text === undefined) return fields.fail('text', 'hexadecimal text is required');
  return /^(?:[0-9a-f]{2})*$/i.test(text) ? text.toLowerCase() : fields.fail('text', `"${text}" is not hexadecimal`);
}

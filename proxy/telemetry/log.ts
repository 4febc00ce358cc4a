/** Pillion's own log: levels per component, one escaped line an entry. */

/** The most talkative first. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warning', 'error', 'critical', 'off'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** Components that levels can be set for: Envoy's logger names, and ours where Envoy has none. */
export const LOG_COMPONENTS: readonly string[] = (
  'access_log admin assert aws backtrace basic_auth cache_filter cli client config conn_handler connection ' +
  'credential_injector decompression dns drain ext_authz ext_proc file filter forward_proxy grpc hc health_check ' +
  'health_checker ' +
  'http http2 identity init io jwt listener local_rate_limit lua main matcher misc mongo oauth2 overload pool ' +
  'rate_limit_quota ' +
  'rbac rds redis router runtime secret stats stats_sinks tap thread thrift tls tracing udp upstream wasm websocket xds'
).split(' ');

/** The most talkative level that any component has: what threads filter by; the rest is filtered here. */
export function mostTalkative(log: Logger): LogLevel {
  const levels = [...(log.levels?.().values() ?? [])];
  return LOG_LEVELS.find((name) => levels.includes(name)) ?? (log.enabled('debug', 'thread') ? 'debug' : 'info');
}

export interface Logger {
  log(level: LogLevel, component: string, message: string, fields?: Readonly<Record<string, unknown>>): void;
  enabled(level: LogLevel, component: string): boolean;
  /** Of components without one of their own ('' in the answer), and of those with one. undefined: not adjustable. */
  levels?(): ReadonlyMap<string, LogLevel>;
  /** For one component, or for all (undefined). */
  setLevel?(level: LogLevel, component?: string): void;
}

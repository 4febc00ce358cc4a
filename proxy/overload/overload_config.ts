/** When load is shed. Envoy: envoy.config.overload.v3.OverloadManager, of the bootstrap. */
import { parseTimerMinimums, type ScaledTimer, type TimerMinimum } from './scaled_timers.ts';
import { Fields } from '../resource_fields.ts';

/** What is done, in the order of its severity. Envoy's names behind `envoy.overload_actions.`. */
export const OVERLOAD_ACTIONS = [
  'disable_http_keepalive',
  'stop_accepting_requests',
  'stop_accepting_connections',
  'reject_incoming_connections',
  'reduce_timeouts',
  'reset_high_memory_stream',
] as const;
export type OverloadAction = (typeof OVERLOAD_ACTIONS)[number];

/** Where load is shed apart from actions. Envoy's names behind `envoy.load_shed_points.`. */
export const LOAD_SHED_POINTS = [
  'tcp_listener_accept',
  'hcm_ondata_creating_codec',
  'http1_server_abort_dispatch',
  'http2_server_go_away_on_dispatch',
  'http2_server_go_away_and_close_on_dispatch',
  'http_connection_manager_decode_headers',
  'http_downstream_filter_check',
  'connection_pool_new_connection',
] as const;
export type LoadShedPoint = (typeof LOAD_SHED_POINTS)[number];

/** What pressure can switch on. */
export type OverloadSignal = OverloadAction | LoadShedPoint;
export const OVERLOAD_SIGNALS: readonly OverloadSignal[] = [...OVERLOAD_ACTIONS, ...LOAD_SHED_POINTS];

export type ResourceMonitor =
  /** fixed_heap, and cgroup_memory: used / most, of the resident memory of the process. */
  | { readonly name: string; readonly kind: 'memory'; readonly mostBytes: number }
  /** Ours: TLS handshakes under way, of the most there may be. */
  | { readonly name: string; readonly kind: 'handshakes'; readonly most: number }
  /** injected_resource: a file that holds the pressure, 0 to 1. */
  | { readonly name: string; readonly kind: 'file'; readonly path: string };

export interface OverloadTrigger {
  readonly signal: OverloadSignal;
  readonly monitor: string;
  /** Pressure at which it begins. */
  readonly from: number;
  /** Pressure at which it is complete; between, a share of the load is shed. */
  readonly to: number;
}

export interface OverloadConfig {
  readonly refreshMs: number;
  readonly monitors: readonly ResourceMonitor[];
  readonly triggers: readonly OverloadTrigger[];
  /** global_downstream_max_connections; undefined: any number. */
  readonly maxConnections: number | undefined;
  /** Of reset_high_memory_stream: streams that hold less than 2^N bytes stay; 0: the action is not asked for. */
  readonly heavyFromPower: number;
  /** Of reduce_timeouts: others stay as they are. */
  readonly timerMinimums: ReadonlyMap<ScaledTimer, TimerMinimum>;
  /** TLS handshakes under way at a time, over all threads. */
  readonly maxHandshakes: number;
}

/**
 * Where no monitor says another number. Each costs some 60 KB until it is through, and a thread does some hundred to
 * thousand a second: more than this would be through too late anyway.
 */
export const MAX_PENDING_HANDSHAKES = 4096;
/** Envoy has no such monitor: named in a TypedStruct, which it can be told to skip. */
const HANDSHAKES = 'type.googleapis.com/pillion.resource_monitors.PendingTlsHandshakes';
const TYPED_STRUCT = 'type.googleapis.com/xds.type.v3.TypedStruct';

const TYPE = 'type.googleapis.com/envoy.extensions.resource_monitors';
const NO_MINIMUMS: ReadonlyMap<ScaledTimer, TimerMinimum> = new Map();
const ACTION = 'envoy.overload_actions.';
const POINT = 'envoy.load_shed_points.';
/** V8 gives memory back by itself. */
const NOTHING_TO_DO = new Set(['shrink_heap']);
const MEMORY = 'envoy.resource_monitors.fixed_heap';

/**
 * Without one: by the memory limit of the container, if it has one.
 * @throws {ConfigError} for monitors and actions that are not executed.
 */
export function parseOverload(json: unknown, memoryLimitBytes: number | undefined): OverloadConfig {
  if (json === undefined) return byMemoryLimit(memoryLimitBytes);
  const fields = new Fields(json, 'overload_manager');
  const monitors: ResourceMonitor[] = [];
  let maxConnections: number | undefined;
  let maxHandshakes = MAX_PENDING_HANDSHAKES;
  for (const monitor of fields.messages('resource_monitors')) {
    const name = monitor.requiredString('name');
    const { '@type': type, ...rest } = monitor.requiredMessage('typed_config').json;
    const config = new Fields(rest, monitor.at('typed_config'));
    switch (type) {
      case `${TYPE}.fixed_heap.v3.FixedHeapConfig`:
        monitors.push({ name, kind: 'memory', mostBytes: bytes(config, 'max_heap_size_bytes') });
        break;
      case `${TYPE}.cgroup_memory.v3.CgroupMemoryConfig`: {
        const most = config.number('max_memory_bytes', 1) ?? memoryLimitBytes;
        if (most === undefined) config.fail('max_memory_bytes', 'is required where no memory limit is set');
        else monitors.push({ name, kind: 'memory', mostBytes: most });
        break;
      }
      case `${TYPE}.injected_resource.v3.InjectedResourceConfig`:
        monitors.push({ name, kind: 'file', path: config.requiredString('filename') });
        break;
      case `${TYPE}.downstream_connections.v3.DownstreamConnectionsConfig`:
        maxConnections = config.number('max_active_downstream_connections', 1);
        if (maxConnections === undefined) config.fail('max_active_downstream_connections', 'is required');
        break;
      case TYPED_STRUCT: {
        const typeUrl = config.requiredString('type_url');
        if (typeUrl !== HANDSHAKES) config.fail('type_url', `resource monitor ${typeUrl} is not supported`);
        const value = config.requiredMessage('value');
        maxHandshakes = value.integer('max_pending_handshakes', 1) ?? MAX_PENDING_HANDSHAKES;
        monitors.push({ name, kind: 'handshakes', most: maxHandshakes });
        break;
      }
      default:
        monitor.fail('typed_config', `resource monitor ${String(type).replace(`${TYPE}.`, '')} is not supported`);
    }
  }
  const reducing = fields.messages('actions').find((action) => action.string('name') === `${ACTION}reduce_timeouts`);
  return {
    heavyFromPower: parseHeavy(fields),
    timerMinimums: reducing === undefined ? NO_MINIMUMS : parseTimerMinimums(reducing),
    refreshMs: fields.durationMs('refresh_interval') ?? 1000,
    monitors,
    triggers: [
      ...fields.messages('actions').flatMap((action) => parseAction(action, monitors)),
      ...fields.messages('loadshed_points').flatMap((point) => parsePoint(point, monitors)),
    ],
    maxConnections,
    maxHandshakes,
  };
}

/** Envoy tracks nothing without the power, and then resets nothing. */
function parseHeavy(fields: Fields): number {
  const power = fields.message('buffer_factory_config')?.integer('minimum_account_to_track_power_of_two', 10, 56);
  const asked = fields
    .messages('actions')
    .some((action) => action.string('name') === `${ACTION}reset_high_memory_stream`);
  if (asked && power === undefined) {
    fields.fail('buffer_factory_config', 'minimum_account_to_track_power_of_two is required to reset streams');
  }
  return asked ? (power as number) : 0;
}

/** As Envoy names it. */
export function fullName(signal: OverloadSignal): string {
  return `${isPoint(signal) ? POINT : ACTION}${signal}`;
}

export function isPoint(signal: OverloadSignal): signal is LoadShedPoint {
  return (LOAD_SHED_POINTS as readonly string[]).includes(signal);
}

function bytes(config: Fields, name: string): number {
  return config.number(name, 1) ?? config.fail(name, 'is required');
}

function parseAction(fields: Fields, monitors: readonly ResourceMonitor[]): OverloadTrigger[] {
  const name = fields.requiredString('name');
  const short = name.startsWith(ACTION) ? name.slice(ACTION.length) : name;
  if (NOTHING_TO_DO.has(short)) return [];
  const action = OVERLOAD_ACTIONS.find((known) => known === short);
  if (action === undefined) return fields.fail('name', `overload action "${name}" is not supported`);
  return parseTriggers(fields, action, monitors);
}

function parsePoint(fields: Fields, monitors: readonly ResourceMonitor[]): OverloadTrigger[] {
  const name = fields.requiredString('name');
  const point = LOAD_SHED_POINTS.find((known) => `${POINT}${known}` === name);
  if (point === undefined) return fields.fail('name', `load shed point "${name}" is not supported`);
  return parseTriggers(fields, point, monitors);
}

function parseTriggers(
  fields: Fields,
  signal: OverloadSignal,
  monitors: readonly ResourceMonitor[],
): OverloadTrigger[] {
  return fields.messages('triggers').map((trigger) => {
    const monitor = trigger.requiredString('name');
    if (!monitors.some((known) => known.name === monitor)) {
      trigger.fail('name', `no resource monitor is called "${monitor}"`);
    }
    const threshold = trigger.message('threshold');
    const scaled = trigger.message('scaled');
    const from = threshold?.number('value', 0, 1) ?? scaled?.number('scaling_threshold', 0, 1) ?? 0;
    const to = scaled?.number('saturation_threshold', 0, 1) ?? from;
    if (threshold === undefined && scaled === undefined) {
      trigger.fail('threshold', 'one of threshold, scaled is required');
    }
    if (scaled !== undefined && from >= to) scaled.fail('saturation_threshold', 'must be above scaling_threshold');
    return { signal, monitor, from, to };
  });
}

/** Connections close first, then requests are answered 503, then connections are refused: before the kernel kills. */
function byMemoryLimit(limitBytes: number | undefined): OverloadConfig {
  const none = {
    heavyFromPower: 0,
    timerMinimums: NO_MINIMUMS,
    refreshMs: 1000,
    maxConnections: undefined,
    maxHandshakes: MAX_PENDING_HANDSHAKES,
  };
  if (limitBytes === undefined) return { ...none, monitors: [], triggers: [] };
  const trigger = (signal: OverloadAction, at: number): OverloadTrigger => ({
    signal,
    monitor: MEMORY,
    from: at,
    to: at,
  });
  return {
    ...none,
    monitors: [{ name: MEMORY, kind: 'memory', mostBytes: limitBytes }],
    triggers: [
      trigger('disable_http_keepalive', 0.92),
      trigger('stop_accepting_requests', 0.95),
      trigger('reject_incoming_connections', 0.98),
    ],
  };
}

/**
 * Waits for what only this request wants: its virtual host (VHDS), and its cluster where odcds says from where.
 * Envoy: envoy.extensions.filters.http.on_demand.v3. What does not come is as if it were not there: 404, or 503.
 */
import type { Demand } from '../config/resources.ts';
import type { FilterContext, FilterFactory, FilterStatus } from '../proxy/http/filter.ts';
import type { RequestHeaders } from '../proxy/http/headers.ts';
import type { DemandOutcome } from '../proxy/on_demand.ts';
import { Fields } from '../proxy/resource_fields.ts';
import { refuseUnexecuted } from '../proxy/unexecuted_fields.ts';

const PACKAGE = 'type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.';
const DEFAULT_TIMEOUT_MS = 5000;
/** A name in DNS, with a port. */
const MAX_HOST_LENGTH = 261;

interface ClusterSource {
  /** envoy.config.core.v3.ConfigSource. */
  readonly configSource: Readonly<Record<string, unknown>>;
  readonly timeoutMs: number;
}

interface Config {
  readonly clusters: ClusterSource | undefined;
}

/** `clusters`: undefined is none, whatever the filter's own configuration says. */
type RouteConfig = Config;

export default {
  typeUrls: [`${PACKAGE}OnDemand`],
  parse,
  routeTypeUrls: [`${PACKAGE}PerRouteConfig`],
  parseRoute: parse,
  create(config, deps) {
    const counters = {
      there: deps.counter('on_demand.found'),
      absent: deps.counter('on_demand.absent'),
      late: deps.counter('on_demand.timeout'),
      full: deps.counter('on_demand.overflow'),
    } satisfies Record<DemandOutcome, unknown>;
    const { onDemand } = deps;

    const wait = async (ctx: FilterContext, demand: Demand, timeoutMs: number): Promise<boolean> => {
      const outcome = (await onDemand?.wait(demand, timeoutMs, ctx.signal)) ?? 'absent';
      counters[outcome].inc();
      return outcome === 'there';
    };

    const hostFirst = async (ctx: FilterContext, headers: RequestHeaders): Promise<FilterStatus> => {
      const routes = ctx.routesOnDemand?.();
      const host = headers.authority.toLowerCase();
      if (routes === undefined || host === '' || host.length > MAX_HOST_LENGTH) return 'continue';
      const untilMs = deps.nowMs() + DEFAULT_TIMEOUT_MS;
      // Other hosts come too: it may take more than one look.
      while (ctx.route() === undefined) {
        const leftMs = untilMs - deps.nowMs();
        if (leftMs <= 0 || !(await wait(ctx, { kind: 'host', routes: routes.name, host }, leftMs))) return 'continue';
        if (ctx.signal.aborted) return 'continue';
        // The filters of a request are chosen by its route before they run.
        if (routes.refresh() === 'other filters') {
          return ctx.sendLocalReply(503, 'NR', 'on_demand_other_filters', 'route found, ask again');
        }
      }
      return clusterOf(ctx, headers);
    };

    const clusterOf = (ctx: FilterContext, headers: RequestHeaders): FilterStatus | Promise<FilterStatus> => {
      const source = (ctx.routeConfig<RouteConfig>() ?? config).clusters;
      const name = source === undefined ? undefined : ctx.route()?.forward?.clusterName(headers);
      if (source === undefined || name === undefined || name === '' || deps.clusters.get(name) !== undefined) {
        return 'continue';
      }
      const demand: Demand = { kind: 'cluster', name, configSource: source.configSource };
      return wait(ctx, demand, source.timeoutMs).then(() => 'continue');
    };

    return {
      decodeHeaders: (ctx, headers) => (ctx.route() === undefined ? hostFirst(ctx, headers) : clusterOf(ctx, headers)),
    };
  },
} satisfies FilterFactory<Config, undefined, RouteConfig>;

function parse(json: unknown): Config {
  const clusters = new Fields(json).message('odcds');
  if (clusters === undefined) return { clusters: undefined };
  refuseUnexecuted(clusters, 'OnDemandCds');
  const source = clusters.requiredMessage('source');
  refuseUnexecuted(source, 'ConfigSource');
  if (!source.has('ads')) source.fail('ads', 'is required: clusters by name come over the aggregated stream');
  const timeoutMs = clusters.durationMs('timeout') ?? DEFAULT_TIMEOUT_MS;
  if (timeoutMs <= 0) clusters.fail('timeout', `must be greater than 0s, got ${timeoutMs / 1000}s`);
  return { clusters: { configSource: source.json, timeoutMs } };
}

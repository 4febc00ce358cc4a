/** The router as a filter: reads its configuration; the work is in proxy/router/router.ts. */
import type { FilterFactory } from '../proxy/http/filter.ts';
import { Fields } from '../proxy/resource_fields.ts';
import { createRouter } from '../proxy/router/router.ts';
import type { RouterConfig } from '../proxy/router/router_deps.ts';
import { refuseUnexecuted } from '../proxy/unexecuted_fields.ts';

export default {
  typeUrls: ['type.googleapis.com/envoy.extensions.filters.http.router.v3.Router'],
  parse(json: unknown): RouterConfig {
    const fields = new Fields(json);
    refuseUnexecuted(fields, 'Router');
    return { suppressEnvoyHeaders: fields.boolean('suppress_envoy_headers') ?? false };
  },
  create(config, deps) {
    const overloadReplies = deps.counter('rq_overload_local_reply');
    return createRouter(config, {
      clusters: deps.clusters,
      deadlines: deps.deadlines,
      nowMs: deps.nowMs,
      random: deps.random,
      sheds() {
        if (deps.shedsRouting?.() !== true) return false;
        overloadReplies.inc();
        return true;
      },
      sentAgain: (method, route, reason) =>
        deps.statistics.counter('pillion_requests_sent_again_total', { method, route, reason }),
      statistics: {
        rqTotal: deps.counter('rq_total'),
        noRoute: deps.counter('no_route'),
        noCluster: deps.counter('no_cluster'),
        rqRedirect: deps.counter('rq_redirect'),
        rqDirectResponse: deps.counter('rq_direct_response'),
      },
    });
  },
} satisfies FilterFactory<RouterConfig>;

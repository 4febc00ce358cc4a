/**
 * Asks an external service whether a connection may go on. Envoy: envoy.extensions.filters.network.ext_authz.v3.
 * As the network rbac filter it decides before anything passes, in either direction.
 */
import { callCluster } from '../../proxy/http/internal_call.ts';
import type { ConnectionContext, NetworkFilterFactory } from '../../proxy/net/network_filter.ts';
import { type GrpcService, parseGrpc } from '../../proxy/policy/ext_authz/config.ts';
import { grpcCheckRequest, grpcVerdict } from '../../proxy/policy/ext_authz/grpc_check.ts';
import type { Verdict } from '../../proxy/policy/ext_authz/verdict.ts';
import { PolicyFacts } from '../../proxy/policy/facts.ts';
import { parseMetadataMatcher } from '../../proxy/policy/value_matcher.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import { refuseUnexecuted } from '../../proxy/unexecuted_fields.ts';

interface NetworkExtAuthzConfig {
  readonly service: GrpcService;
  readonly statPrefix: string;
  readonly failureModeAllow: boolean;
  readonly enabledBy: ((facts: PolicyFacts) => boolean) | undefined;
  readonly metadataNamespaces: readonly string[];
  readonly includeTlsSession: boolean;
}

/** Envoy's default where the service says none. */
const DEFAULT_TIMEOUT_MS = 200;

export default {
  typeUrls: ['type.googleapis.com/envoy.extensions.filters.network.ext_authz.v3.ExtAuthz'],
  parse(json): NetworkExtAuthzConfig {
    const fields = new Fields(json);
    refuseUnexecuted(fields, 'NetworkExtAuthz');
    const enabledBy = fields.message('filter_enabled_metadata');
    if (fields.oneOf('transport_api_version', ['AUTO', 'V3'], 'AUTO') === 'AUTO') {
      fields.fail('transport_api_version', 'must be V3');
    }
    const service = parseGrpc(fields.requiredMessage('grpc_service'));
    return {
      service: service.timeoutMs === 0 ? { ...service, timeoutMs: DEFAULT_TIMEOUT_MS } : service,
      statPrefix: fields.requiredString('stat_prefix'),
      failureModeAllow: fields.boolean('failure_mode_allow') ?? false,
      enabledBy: enabledBy === undefined ? undefined : parseMetadataMatcher(enabledBy),
      metadataNamespaces: fields.strings('metadata_context_namespaces'),
      includeTlsSession: fields.boolean('include_tls_session') ?? false,
    };
  },
  create(config, { services }) {
    const dotted = config.statPrefix.endsWith('.') ? config.statPrefix : `${config.statPrefix}.`;
    const counter = (name: string) => services.statistics.counter(`ext_authz.${dotted}${name}`);
    const counters = {
      total: counter('total'),
      ok: counter('ok'),
      denied: counter('denied'),
      error: counter('error'),
      disabled: counter('disabled'),
      failureModeAllowed: counter('failure_mode_allowed'),
      closed: counter('cx_closed'),
    };
    const facts = new PolicyFacts();

    const ask = async (ctx: ConnectionContext): Promise<Verdict> => {
      const { clusters, deadlines } = services;
      const request = grpcCheckRequest(config.service, factsOf(config, ctx));
      try {
        return grpcVerdict(await callCluster(clusters, deadlines, config.service.cluster, request, ctx.signal));
      } catch (error) {
        return { kind: 'error', reason: error instanceof Error ? error.message : String(error) };
      }
    };

    const decide = async (ctx: ConnectionContext): Promise<'continue' | 'stop'> => {
      counters.total.inc();
      const { kind } = await ask(ctx);
      if (ctx.signal.aborted) return 'stop';
      counters[kind].inc();
      if (kind === 'ok') return 'continue';
      if (kind === 'error' && config.failureModeAllow) {
        counters.failureModeAllowed.inc();
        return 'continue';
      }
      counters.closed.inc();
      ctx.info.addFlag('UAEX');
      ctx.close('flush', kind === 'denied' ? 'ext_authz_denied' : 'ext_authz_error');
      return 'stop';
    };

    return {
      onNewConnection(ctx) {
        if (config.enabledBy !== undefined) {
          facts.begin({ connection: ctx.connection, requestHeaders: undefined, info: ctx.info });
          if (!config.enabledBy(facts)) {
            counters.disabled.inc();
            return 'continue';
          }
        }
        return decide(ctx);
      },
    };
  },
} satisfies NetworkFilterFactory<NetworkExtAuthzConfig>;

function factsOf(config: NetworkExtAuthzConfig, { connection, info }: ConnectionContext) {
  const metadata = config.metadataNamespaces.flatMap((name) => {
    const fields = info.dynamicMetadata?.get(name);
    return fields === undefined ? [] : [[name, fields] as const];
  });
  return {
    connection,
    remoteAddress: info.remoteAddress,
    http: undefined,
    contextExtensions: {},
    metadata: Object.fromEntries(metadata),
    routeMetadata: {},
    includeTlsSession: config.includeTlsSession,
  };
}

/**
 * Allows or denies connections by who opens them. Envoy: envoy.extensions.filters.network.rbac.v3.
 *
 * Decided before anything passes, once for the connection, or again for all that comes (enforcement_type CONTINUOUS).
 * Envoy waits for the first bytes, because its TLS handshake may not be over before; here it is, and so a server that
 * speaks first tells a denied client nothing.
 */
import type { ConnectionContext, NetworkFilterFactory } from '../../proxy/net/network_filter.ts';
import type { PolicySubject } from '../../proxy/policy/facts.ts';
import { denialDetails, parseRbac, type RbacRules } from '../../proxy/policy/rbac.ts';
import { enforcedMetadata, shadowMetadata } from '../../proxy/policy/rbac_metadata.ts';
import { RbacStatistics } from '../../proxy/policy/rbac_statistics.ts';
import { Fields } from '../../proxy/resource_fields.ts';

interface NetworkRbacConfig extends RbacRules {
  readonly statPrefix: string;
  /** Default false. */
  readonly continuous: boolean;
  /** From a denial to the connection's end. Default 0. */
  readonly delayMs: number;
}

const NAMESPACE = 'envoy.filters.network.rbac';

export default {
  typeUrls: ['type.googleapis.com/envoy.extensions.filters.network.rbac.v3.RBAC'],
  parse(json): NetworkRbacConfig {
    const fields = new Fields(json);
    return {
      ...parseRbac(fields, false),
      statPrefix: fields.requiredString('stat_prefix'),
      continuous:
        fields.oneOf('enforcement_type', ['ONE_TIME_ON_FIRST_BYTE', 'CONTINUOUS'], 'ONE_TIME_ON_FIRST_BYTE') ===
        'CONTINUOUS',
      delayMs: fields.durationMs('delay_deny') ?? 0,
    };
  },
  create(config, { services }) {
    const { enforced, shadow, statPrefix } = config;
    const dotted = statPrefix.endsWith('.') ? statPrefix : `${statPrefix}.`;
    const counter = (name: string) => services.statistics.counter(`${dotted}rbac.${name}`);
    const statistics = new RbacStatistics(config, '', false, counter);
    const shadowFacts = shadowMetadata(config.shadowPrefix, shadow, NAMESPACE);
    const enforcedFacts = enforcedMetadata('', enforced, NAMESPACE);
    const decide = (ctx: ConnectionContext): 'continue' | 'stop' | Promise<'stop'> => {
      const one: PolicySubject = { connection: ctx.connection, requestHeaders: undefined, info: ctx.info };
      if (shadow !== undefined) {
        const verdict = shadow.decide(one);
        shadowFacts.set(ctx.info, verdict);
        statistics.shadow(verdict.allowed, verdict.policy);
      }
      if (enforced === undefined) return 'continue';
      const verdict = enforced.decide(one);
      const { allowed, policy } = verdict;
      enforcedFacts.set(ctx.info, verdict);
      statistics.enforced(allowed, policy);
      if (allowed) return 'continue';
      if (config.delayMs > 0) return closeLater(ctx, config.delayMs, denialDetails(policy));
      ctx.close('flush', denialDetails(policy));
      return 'stop';
    };
    return {
      onNewConnection: decide,
      ...(config.continuous && { onData: decide }),
    };
  },
} satisfies NetworkFilterFactory<NetworkRbacConfig>;

/** Until then nothing of the client is read: one that tries again at once waits for each denial. */
function closeLater(ctx: ConnectionContext, delayMs: number, details: string): Promise<'stop'> {
  return new Promise((resolve) => {
    const { signal } = ctx;
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      if (!signal.aborted) ctx.close('flush', details);
      resolve('stop');
    };
    const timer = setTimeout(end, delayMs);
    signal.addEventListener('abort', end);
  });
}

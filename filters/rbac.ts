/** Allows or denies requests by who asks and what for. Envoy: envoy.extensions.filters.http.rbac.v3. */
import type { FilterContext, FilterDeps, FilterFactory } from '../proxy/http/filter.ts';
import { denialDetails, parseRbac, type RbacDecider, type RbacRules } from '../proxy/policy/rbac.ts';
import { enforcedMetadata, shadowMetadata, type VerdictMetadata } from '../proxy/policy/rbac_metadata.ts';
import { RbacStatistics } from '../proxy/policy/rbac_statistics.ts';
import { Fields } from '../proxy/resource_fields.ts';

interface RbacConfig extends RbacRules {
  readonly rulesPrefix: string;
  readonly perRule: boolean;
}

/** A configuration with what is made of it once per thread. */
interface Rbac {
  readonly config: RbacConfig;
  readonly statistics: RbacStatistics;
  readonly enforcedMetadata: VerdictMetadata;
  readonly shadowMetadata: VerdictMetadata;
}

export default {
  typeUrls: ['type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC'],
  parse,
  routeTypeUrls: ['type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBACPerRoute'],
  /** Without a configuration of its own the route is free of rules. */
  parseRoute(json): RbacConfig {
    const rbac = new Fields(json).raw('rbac') ?? {};
    return parse(rbac);
  },
  create(config, deps) {
    const own = makeRbac(config, deps);
    const ofRoutes = new WeakMap<RbacConfig, Rbac>();
    const current = (ctx: FilterContext): Rbac => {
      const routeConfig = ctx.routeConfig<RbacConfig>();
      if (routeConfig === undefined) return own;
      let rbac = ofRoutes.get(routeConfig);
      if (rbac === undefined) {
        rbac = makeRbac(routeConfig, deps);
        ofRoutes.set(routeConfig, rbac);
      }
      return rbac;
    };
    return {
      decodeHeaders(ctx) {
        const rbac = current(ctx);
        const { shadow, enforced } = rbac.config;
        if (shadow !== undefined) decideShadow(ctx, rbac, shadow);
        if (enforced === undefined) return 'continue';
        const verdict = enforced.decide(ctx);
        const { allowed, policy } = verdict;
        rbac.enforcedMetadata.set(ctx.info, verdict);
        rbac.statistics.enforced(allowed, policy);
        if (allowed) return 'continue';
        return ctx.sendLocalReply(403, '', denialDetails(policy), 'RBAC: access denied');
      },
    };
  },
} satisfies FilterFactory<RbacConfig, undefined, RbacConfig>;

function decideShadow(ctx: FilterContext, rbac: Rbac, shadow: RbacDecider): void {
  const verdict = shadow.decide(ctx);
  rbac.shadowMetadata.set(ctx.info, verdict);
  rbac.statistics.shadow(verdict.allowed, verdict.policy);
}

function parse(json: unknown): RbacConfig {
  const fields = new Fields(json);
  return {
    ...parseRbac(fields, true),
    rulesPrefix: fields.string('rules_stat_prefix') ?? '',
    perRule: fields.boolean('track_per_rule_stats') ?? false,
  };
}

function makeRbac(config: RbacConfig, deps: FilterDeps): Rbac {
  const counter = (name: string) => deps.counter(`rbac.${name}`);
  return {
    config,
    statistics: new RbacStatistics(config, config.rulesPrefix, config.perRule, counter),
    enforcedMetadata: enforcedMetadata(config.rulesPrefix, config.enforced),
    shadowMetadata: shadowMetadata(config.shadowPrefix, config.shadow),
  };
}

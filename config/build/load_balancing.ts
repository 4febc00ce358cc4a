/** What of a cluster's load balancing is beside its policy: slow start, locality weights, subsets. */
import { Fields } from '../../proxy/resource_fields.ts';
import type { ClusterConfig } from '../../proxy/upstream/cluster_config.ts';
import type { SubsetConfig, SubsetFallback } from '../../proxy/upstream/subsets.ts';
import { typedConfig } from './extensions.ts';
import { refuseUnexecuted } from '../../proxy/unexecuted_fields.ts';

/** The policies of load_balancing_policy, unwrapped. */
function policies(fields: Fields): Fields[] {
  const list = fields.message('load_balancing_policy')?.messages('policies') ?? [];
  return list.map((entry) => {
    const extension = entry.requiredMessage('typed_extension_config');
    const at = extension.at('typed_config');
    return new Fields(typedConfig(extension.raw('typed_config') ?? {}, at).json, at);
  });
}

export function isLocalityWeighted(fields: Fields): boolean {
  if (fields.message('common_lb_config')?.has('locality_weighted_lb_config') === true) return true;
  return policies(fields).some(
    (policy) =>
      policy.message('locality_lb_config')?.has('locality_weighted_lb_config') === true ||
      policy.has('locality_weighted_lb_config'),
  );
}

/** SlowStartConfig of round robin and least request. */
export function buildSlowStart(fields: Fields): ClusterConfig['slowStart'] {
  for (const holder of [
    fields.message('round_robin_lb_config'),
    fields.message('least_request_lb_config'),
    ...policies(fields),
  ]) {
    const config = holder?.message('slow_start_config');
    if (config === undefined) continue;
    const windowMs = config.durationMs('slow_start_window') ?? 0;
    if (windowMs < 0) config.fail('slow_start_window', `must not be negative, got ${windowMs / 1000}s`);
    const aggression = config.message('aggression')?.number('default_value') ?? 1;
    if (aggression <= 0) config.fail('aggression', `must be greater than 0, got ${aggression}`);
    const least = config.message('min_weight_percent');
    const minWeight = (least === undefined ? 10 : (least.number('value', 0, 100) ?? 0)) / 100;
    return windowMs === 0 ? undefined : { windowMs, aggression, minWeight };
  }
  return undefined;
}

const FALLBACKS: Readonly<Record<string, SubsetFallback | undefined>> = {
  NO_FALLBACK: 'none',
  ANY_ENDPOINT: 'any_endpoint',
  DEFAULT_SUBSET: 'default_subset',
  NOT_DEFINED: undefined,
};
const ALL_FALLBACKS = ['NO_FALLBACK', 'ANY_ENDPOINT', 'DEFAULT_SUBSET'] as const;

/** @throws {ConfigError} for options that would choose other hosts than Envoy. */
export function buildSubsets(fields: Fields | undefined): SubsetConfig | undefined {
  if (fields === undefined || fields.messages('subset_selectors').length === 0) return undefined;
  refuseUnexecuted(fields, 'LbSubsetConfig');
  for (const option of ['list_as_any', 'scale_locality_weight', 'panic_mode_any', 'allow_redundant_keys']) {
    if (fields.boolean(option) === true) fields.fail(option, 'is not supported');
  }
  if ((fields.string('metadata_fallback_policy') ?? 'METADATA_NO_FALLBACK') !== 'METADATA_NO_FALLBACK') {
    fields.fail('metadata_fallback_policy', 'only METADATA_NO_FALLBACK is supported');
  }
  return {
    fallback: FALLBACKS[fields.oneOf('fallback_policy', ALL_FALLBACKS, 'NO_FALLBACK')] ?? 'none',
    defaultSubset: fields.message('default_subset')?.json ?? {},
    selectors: fields.messages('subset_selectors').map((selector) => {
      if (selector.boolean('single_host_per_subset') === true) {
        selector.fail('single_host_per_subset', 'is not supported');
      }
      const keys = selector.strings('keys');
      const fallback = selector.oneOf(
        'fallback_policy',
        ['NOT_DEFINED', ...ALL_FALLBACKS, 'KEYS_SUBSET'],
        'NOT_DEFINED',
      );
      if (fallback === 'KEYS_SUBSET') selector.fail('fallback_policy', 'KEYS_SUBSET is not supported');
      return { keys: [...keys].sort(), fallback: FALLBACKS[fallback] };
    }),
  };
}

/** Which statistics exist, their tags and buckets. Envoy: envoy.config.metrics.v3.StatsConfig of the bootstrap. */
import { ConfigError } from '../config_error.ts';
import { parseStringMatcher, type StringMatcher } from '../http/matchers.ts';
import { Fields } from '../resource_fields.ts';
import type { SeriesRules } from './slab.ts';
import { DEFAULT_TAGS, StatTags, type TagRule } from './stat_tags.ts';

export interface StatsRules extends SeriesRules {
  readonly tags: StatTags;
}

/** `json`: the bootstrap's stats_config; undefined: Envoy's defaults. @throws {ConfigError} */
export function parseStatsConfig(json: unknown, path = 'stats_config'): StatsRules {
  const fields = new Fields(json ?? {}, path);
  const own = fields.messages('stats_tags').map(parseTag);
  const useDefaults = fields.boolean('use_all_default_tags') ?? true;
  const accepts = parseMatcher(fields.message('stats_matcher'));
  const buckets = fields.messages('histogram_bucket_settings').map((setting) => ({
    matcher: parseStringMatcher(setting.requiredMessage('match')),
    bounds: parseBuckets(setting),
  }));
  return {
    tags: makeTags([...own, ...(useDefaults ? DEFAULT_TAGS : [])], fields),
    accepts,
    bounds: (name) => buckets.find(({ matcher }) => matcher.matches(name))?.bounds,
  };
}

function makeTags(rules: readonly TagRule[], fields: Fields): StatTags {
  try {
    return new StatTags(rules);
  } catch (error) {
    throw new ConfigError(fields.at('stats_tags'), (error as Error).message, { cause: error });
  }
}

function parseTag(fields: Fields): TagRule {
  const name = fields.requiredString('tag_name');
  const regex = fields.string('regex');
  const fixedValue = fields.string('fixed_value');
  if (regex !== undefined && regex !== '') return { name, regex };
  if (fixedValue !== undefined) return { name, fixedValue };
  // The name of one of Envoy's own tags alone takes that one.
  const known = DEFAULT_TAGS.find((rule) => rule.name === name);
  return known ?? fields.fail('regex', `no regex or fixed_value, and "${name}" is none of the default tags`);
}

function parseBuckets(fields: Fields): readonly number[] {
  const bounds = fields.list('buckets').map((item) => {
    const bound = Number(item);
    return Number.isFinite(bound) && bound > 0 ? bound : fields.fail('buckets', 'bounds are numbers above 0');
  });
  if (bounds.length === 0 || bounds.length > 512) fields.fail('buckets', 'between 1 and 512 bounds are wanted');
  return bounds.sort((a, b) => a - b);
}

function parseMatcher(fields: Fields | undefined): (name: string) => boolean {
  if (fields === undefined) return () => true;
  const all = fields.boolean('reject_all');
  if (all !== undefined) return () => !all;
  const list = (name: string): readonly StringMatcher[] | undefined => {
    const message = fields.message(name);
    if (message === undefined) return undefined;
    const patterns = message.messages('patterns');
    if (patterns.length === 0) message.fail('patterns', 'at least one pattern is required');
    return patterns.map(parseStringMatcher);
  };
  const inclusion = list('inclusion_list');
  if (inclusion !== undefined) return (name) => inclusion.some((pattern) => pattern.matches(name));
  const exclusion = list('exclusion_list');
  if (exclusion !== undefined) return (name) => !exclusion.some((pattern) => pattern.matches(name));
  return fields.fail('reject_all', 'reject_all, inclusion_list or exclusion_list is required');
}

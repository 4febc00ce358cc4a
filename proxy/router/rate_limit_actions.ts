/** What a request is counted by: descriptors, made by a route's actions. Envoy: envoy.config.route.v3.RateLimit. */
import type { FilterContext } from '../http/filter.ts';
import type { RequestHeaders } from '../http/headers.ts';
import { parseHeaderMatcher } from '../http/matchers.ts';
import type { Fields } from '../resource_fields.ts';
import { queryParameter } from './hash_policy.ts';
import { parseQueryMatcher, queryMatches } from './route_match.ts';
import { refuseUnexecuted } from '../unexecuted_fields.ts';

export interface DescriptorEntry {
  readonly key: string;
  readonly value: string;
}
export type Descriptor = readonly DescriptorEntry[];

export interface RateLimitPolicy {
  /** Which filter of the chain it is for; default 0. */
  readonly stage: number;
  /** undefined: an action has nothing to say, so the whole policy says nothing. */
  descriptor(ctx: FilterContext, headers: RequestHeaders): Descriptor | undefined;
}

/** undefined: nothing to say, the policy is left out. 'skip': the entry is left out. */
type Action = (ctx: FilterContext, headers: RequestHeaders) => DescriptorEntry | 'skip' | undefined;

/** @throws {ConfigError} for actions that are not known: a limit is never left out silently. */
export function parseRateLimits(policies: readonly Fields[]): readonly RateLimitPolicy[] {
  return policies.map((fields) => {
    refuseUnexecuted(fields, 'RateLimitPolicy');
    if (fields.has('limit')) fields.fail('limit', 'dynamic overrides are not supported');
    const actions = fields.messages('actions').map(parseAction);
    return {
      stage: fields.integer('stage', 0, 10) ?? 0,
      descriptor(ctx, headers) {
        const entries: DescriptorEntry[] = [];
        for (const action of actions) {
          const entry = action(ctx, headers);
          if (entry === undefined) return undefined;
          if (entry !== 'skip') entries.push(entry);
        }
        return entries.length === 0 ? undefined : entries;
      },
    };
  });
}

function parseAction(fields: Fields): Action {
  const [name] = Object.keys(fields.json).filter((key) => fields.has(key));
  const config = name === undefined ? undefined : fields.message(name);
  if (name === undefined || config === undefined) return fields.fail('generic_key', 'an action is required');
  switch (name) {
    case 'generic_key': {
      const entry = {
        key: config.string('descriptor_key') || 'generic_key',
        value: config.requiredString('descriptor_value'),
      };
      return () => entry;
    }
    case 'request_headers': {
      const header = config.requiredString('header_name').toLowerCase();
      const key = config.requiredString('descriptor_key');
      const absent = config.boolean('skip_if_absent') === true ? 'skip' : undefined;
      return (_ctx, headers) => {
        const value = headers.joined(header);
        return value === undefined ? absent : { key, value };
      };
    }
    case 'remote_address':
      return (ctx) => ({ key: 'remote_address', value: ctx.info.remoteAddress.ip });
    case 'destination_cluster':
      return (ctx, headers) => {
        const value = ctx.route()?.forward?.clusterName(headers);
        return value === undefined ? undefined : { key: 'destination_cluster', value };
      };
    case 'header_value_match': {
      const matchers = config.messages('headers').map(parseHeaderMatcher);
      const entry = {
        key: config.string('descriptor_key') || 'header_match',
        value: config.requiredString('descriptor_value'),
      };
      const expected = config.boolean('expect_match') ?? true;
      return (_ctx, headers) =>
        matchers.every((matcher) => matcher.matches(headers)) === expected ? entry : undefined;
    }
    case 'query_parameters': {
      const parameter = config.requiredString('query_parameter_name');
      const key = config.requiredString('descriptor_key');
      const absent = config.boolean('skip_if_absent') === true ? 'skip' : undefined;
      return (_ctx, headers) => {
        const value = queryParameter(headers.path, parameter);
        return value === undefined ? absent : { key, value };
      };
    }
    case 'query_parameter_value_match': {
      const entry = {
        key: config.string('descriptor_key') || 'query_match',
        value: config.requiredString('descriptor_value'),
      };
      const expected = config.boolean('expect_match') ?? true;
      const wanted = config.messages('query_parameters').map(parseQueryMatcher);
      return (_ctx, headers) => {
        const all = wanted.every((matcher) => queryMatches(matcher, headers.path));
        return all === expected ? entry : undefined;
      };
    }
    default:
      return fields.fail(name, 'this action is not supported');
  }
}

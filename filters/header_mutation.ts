/** Changes request and response headers and trailers, for all routes or one. Envoy: envoy.extensions.filters.http.header_mutation.v3. */
import { ConfigError } from '../proxy/config_error.ts';
import type { FilterContext, FilterFactory } from '../proxy/http/filter.ts';
import type { Headers } from '../proxy/http/headers.ts';
import { parseStringMatcher, type StringMatcher } from '../proxy/http/matchers.ts';
import { Fields } from '../proxy/resource_fields.ts';
import { applyAddition, type HeaderAddition, parseHeaderAddition } from '../proxy/router/header_mutations.ts';
import { refuseUnexecuted } from '../proxy/unexecuted_fields.ts';

/** envoy.config.common.mutation_rules.v3.HeaderMutation: one of the three. */
interface Mutation {
  readonly removed: string | undefined;
  readonly removedMatching: StringMatcher | undefined;
  readonly added: HeaderAddition | undefined;
}

interface Mutations {
  readonly request: readonly Mutation[];
  readonly requestTrailers: readonly Mutation[];
  readonly response: readonly Mutation[];
  readonly responseTrailers: readonly Mutation[];
}

interface Config {
  readonly mutations: Mutations;
  /** Default false: the least specific level goes last and wins. */
  readonly specificWins: boolean;
}

export default {
  typeUrls: ['type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation'],
  parse(json: unknown): Config {
    const fields = new Fields(json);
    return {
      mutations: parseMutations(fields.message('mutations')),
      specificWins: fields.boolean('most_specific_header_mutations_wins') ?? false,
    };
  },
  routeTypeUrls: ['type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute'],
  parseRoute: (json: unknown): Mutations => parseMutations(new Fields(json).message('mutations')),
  create({ mutations, specificWins }) {
    const run = (ctx: FilterContext, kind: keyof Mutations, headers: Headers): 'continue' => {
      apply(mutations[kind], headers, ctx);
      const levels = ctx.routeConfigs<Mutations>();
      for (let i = 0; i < levels.length; i++) {
        const level = levels[specificWins ? i : levels.length - 1 - i] as Mutations;
        apply(level[kind], headers, ctx);
      }
      return 'continue';
    };
    return {
      decodeHeaders: (ctx, headers) => run(ctx, 'request', headers),
      decodeTrailers: (ctx, trailers) => run(ctx, 'requestTrailers', trailers),
      encodeHeaders: (ctx, headers) => run(ctx, 'response', headers),
      encodeTrailers: (ctx, trailers) => run(ctx, 'responseTrailers', trailers),
    };
  },
} satisfies FilterFactory<Config, undefined, Mutations>;

function apply(mutations: readonly Mutation[], headers: Headers, ctx: FilterContext): void {
  for (const { removed, removedMatching, added } of mutations) {
    if (added !== undefined) applyAddition(headers, added, ctx);
    else if (removed !== undefined) headers.remove(removed);
    else headers.filter((name) => removedMatching?.matches(name) !== true);
  }
}

function parseMutations(fields: Fields | undefined): Mutations {
  refuseUnexecuted(fields, 'HeaderMutations');
  const list = (name: string): Mutation[] => fields?.messages(name).map(parseMutation) ?? [];
  return {
    request: list('request_mutations'),
    requestTrailers: list('request_trailers_mutations'),
    response: list('response_mutations'),
    responseTrailers: list('response_trailers_mutations'),
  };
}

function parseMutation(fields: Fields): Mutation {
  const removed = fields.string('remove')?.toLowerCase();
  const append = fields.message('append');
  const matching = fields.message('remove_on_match')?.requiredMessage('key_matcher');
  if (removed !== undefined) {
    if (removed.startsWith(':') || removed === 'host') fields.fail('remove', `"${removed}" cannot be removed`);
    return { removed, removedMatching: undefined, added: undefined };
  }
  if (append !== undefined)
    return { removed: undefined, removedMatching: undefined, added: parseHeaderAddition(append) };
  if (matching !== undefined) {
    return { removed: undefined, removedMatching: parseStringMatcher(matching), added: undefined };
  }
  throw new ConfigError(fields.path, 'one of remove, append and remove_on_match is required');
}

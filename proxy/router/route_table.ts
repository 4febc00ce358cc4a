/** Routes as they are executed: built once from parsed parts, never changed. */
import type { FormatInput } from '../http/formatter.ts';
import type { RequestHeaders, ResponseHeaders } from '../http/headers.ts';
import type { Metadata } from '../http/stream_info.ts';
import type { HeaderMutations } from './header_mutations.ts';
import type { Rewrite } from './rewrite.ts';
import type {
  DirectResponseAction,
  ForwardAction,
  PerFilterConfig,
  RedirectAction,
  Route,
  RouteContext,
  RouteTable,
} from './route.ts';
import type { RateLimitPolicy } from './rate_limit_actions.ts';
import { RouteIndex } from './route_index.ts';
import type { RouteMatch } from './route_match.ts';
import type { VirtualHosts } from './virtual_hosts.ts';

export type FilterConfigs = ReadonlyMap<string, PerFilterConfig>;

/** What a level (route configuration, virtual host, route, weighted cluster) brings. */
export interface RouteLevel {
  readonly requestMutations: HeaderMutations | undefined;
  readonly responseMutations: HeaderMutations | undefined;
  readonly filterConfigs: FilterConfigs;
}

export interface RouteParts {
  readonly name: string;
  readonly virtualHostName: string;
  readonly virtualHostMetadata?: Metadata | undefined;
  readonly metadata: Metadata | undefined;
  readonly decoratorOperation: string | undefined;
  readonly rateLimits?: readonly RateLimitPolicy[];
  readonly forward: ForwardAction | undefined;
  readonly redirect: RedirectAction | undefined;
  readonly directResponse: DirectResponseAction | undefined;
  readonly rewrite: Rewrite | undefined;
  /** In the order in which their header mutations run: the last one to overwrite wins. */
  readonly mutationOrder: readonly RouteLevel[];
  /** Most specific first. */
  readonly bySpecificity: readonly RouteLevel[];
}

/** One route, specialised for one weighted cluster. */
export class ConfiguredRoute implements Route {
  readonly name: string;
  readonly virtualHostName: string;
  readonly virtualHostMetadata: Metadata | undefined;
  readonly metadata: Metadata | undefined;
  readonly decoratorOperation: string | undefined;
  readonly rateLimits: readonly RateLimitPolicy[];
  readonly forward: ForwardAction | undefined;
  readonly redirect: RedirectAction | undefined;
  readonly directResponse: DirectResponseAction | undefined;
  readonly #rewrite: Rewrite | undefined;
  readonly #requestMutations: readonly HeaderMutations[];
  readonly #responseMutations: readonly HeaderMutations[];
  readonly #filterConfigs = new Map<string, PerFilterConfig>();
  readonly #allFilterConfigs = new Map<string, unknown[]>();

  constructor(parts: RouteParts) {
    this.name = parts.name;
    this.virtualHostName = parts.virtualHostName;
    this.virtualHostMetadata = parts.virtualHostMetadata;
    this.metadata = parts.metadata;
    this.decoratorOperation = parts.decoratorOperation;
    this.rateLimits = parts.rateLimits ?? NO_RATE_LIMITS;
    this.forward = parts.forward;
    this.redirect = parts.redirect;
    this.directResponse = parts.directResponse;
    this.#rewrite = parts.rewrite;
    this.#requestMutations = parts.mutationOrder.flatMap((level) => level.requestMutations ?? []);
    this.#responseMutations = parts.mutationOrder.flatMap((level) => level.responseMutations ?? []);
    for (const level of [...parts.bySpecificity].reverse()) {
      for (const [filter, config] of level.filterConfigs) {
        this.#filterConfigs.set(filter, config);
        if (config.config === undefined) continue;
        const all = this.#allFilterConfigs.get(filter);
        if (all === undefined) this.#allFilterConfigs.set(filter, [config.config]);
        else all.push(config.config);
      }
    }
  }

  filterConfig(filterName: string): PerFilterConfig | undefined {
    return this.#filterConfigs.size === 0 ? undefined : this.#filterConfigs.get(filterName);
  }

  filterConfigs(filterName: string): readonly unknown[] {
    return this.#allFilterConfigs.get(filterName) ?? NO_CONFIGS;
  }

  finalizeRequestHeaders(headers: RequestHeaders, input: FormatInput): void {
    for (let i = 0; i < this.#requestMutations.length; i++) this.#requestMutations[i]?.apply(headers, input);
    this.#rewrite?.apply(headers);
  }

  finalizeResponseHeaders(headers: ResponseHeaders, input: FormatInput): void {
    for (let i = 0; i < this.#responseMutations.length; i++) this.#responseMutations[i]?.apply(headers, input);
  }
}

const NO_CONFIGS: readonly unknown[] = [];
const NO_RATE_LIMITS: readonly RateLimitPolicy[] = [];

/** A route with its weighted clusters, in listing order. */
export interface RouteChoice {
  readonly match: RouteMatch;
  /** One for a plain route. */
  readonly routes: readonly Route[];
  /** Running sums of the weights; the last one is the total. */
  readonly cumulativeWeights: readonly number[];
}

export class VirtualHost {
  readonly name: string;
  /** `all`: 301 to https for whatever is not; `external_only` means the same here, nobody being internal. */
  readonly requireTls: boolean;
  readonly #choices: readonly RouteChoice[];
  #index: RouteIndex | undefined = undefined;
  #toHttps: Route | undefined = undefined;

  constructor(name: string, requireTls: boolean, choices: readonly RouteChoice[]) {
    this.name = name;
    this.requireTls = requireTls;
    this.#choices = choices;
  }

  /** The answer to whatever should have come over TLS (require_tls). */
  get toHttps(): Route {
    this.#toHttps ??= new ConfiguredRoute({
      name: '',
      virtualHostName: this.name,
      metadata: undefined,
      decoratorOperation: undefined,
      forward: undefined,
      redirect: { status: 301, location: ({ authority, path }) => `https://${authority}${path}` },
      directResponse: undefined,
      rewrite: undefined,
      mutationOrder: [],
      bySpecificity: [],
    });
    return this.#toHttps;
  }

  match(request: RequestHeaders, context: RouteContext): Route | undefined {
    // Made when traffic first asks: a mesh has many more virtual hosts than one workload calls.
    this.#index ??= new RouteIndex(this.#choices.map((choice) => choice.match));
    const found = this.#index.find(request, context);
    if (found < 0) return undefined;
    const { routes, cumulativeWeights } = this.#choices[found] as RouteChoice;
    if (routes.length === 1) return routes[0];
    const point = context.randomValue * (cumulativeWeights.at(-1) as number);
    let i = 0;
    while (i < routes.length - 1 && point >= (cumulativeWeights[i] as number)) i++;
    return routes[i];
  }
}

export class ConfiguredRouteTable implements RouteTable {
  readonly name: string;
  readonly origin: string;
  readonly switchesFilters: boolean;
  readonly hostsOnDemand: boolean;
  readonly #hosts: VirtualHosts<VirtualHost>;

  constructor(
    name: string,
    origin: string,
    hosts: VirtualHosts<VirtualHost>,
    switchesFilters: boolean,
    hostsOnDemand: boolean,
  ) {
    this.name = name;
    this.origin = origin;
    this.switchesFilters = switchesFilters;
    this.hostsOnDemand = hostsOnDemand;
    this.#hosts = hosts;
  }

  match(request: RequestHeaders, context: RouteContext): Route | undefined {
    const host = this.#hosts.find(request);
    if (host === undefined) return undefined;
    if (host.requireTls && (request.get('x-forwarded-proto') ?? request.scheme) !== 'https') return host.toHttps;
    return host.match(request, context);
  }
}

/**
 * First match among many routes at the cost of few.
 *
 * Routes are put into buckets by what their path must begin with: an exact path, or a prefix (of a regex its literal
 * beginning). A path falls into its exact bucket and into one prefix bucket per distinct prefix length. Inside a
 * bucket, routes that ask for an exact header value stand apart by header and value, so that ten thousand
 * header-only routes below `/` are one look-up too. Of all buckets the lowest index that matches wins, which is the
 * first match in listing order. Linear remain: routes of one bucket that differ only in regexes or other conditions.
 */
import type { RequestHeaders } from '../http/headers.ts';
import { conditionsMatch, pathMatches, type RouteMatch } from './route_match.ts';
import type { RouteContext } from './route.ts';

/** Routes of one bucket, by index in listing order. */
class Bucket {
  readonly plain: number[] = [];
  /** Header name → exact value → indexes. */
  readonly byHeader = new Map<string, Map<string, number[]>>();

  add(index: number, match: RouteMatch): void {
    const keyed = match.headers.find((matcher) => matcher.exact !== undefined);
    if (keyed?.exact === undefined) {
      this.plain.push(index);
      return;
    }
    let values = this.byHeader.get(keyed.name);
    if (values === undefined) {
      values = new Map();
      this.byHeader.set(keyed.name, values);
    }
    const list = values.get(keyed.exact);
    if (list === undefined) values.set(keyed.exact, [index]);
    else list.push(index);
  }
}

/** The buckets of one case rule. */
class PathBuckets {
  readonly exact = new Map<string, Bucket>();
  readonly prefixes = new Map<string, Bucket>();
  /** Distinct lengths of prefixes, ascending. */
  lengths: number[] = [];

  bucket(map: Map<string, Bucket>, key: string): Bucket {
    let bucket = map.get(key);
    if (bucket === undefined) {
      bucket = new Bucket();
      map.set(key, bucket);
    }
    return bucket;
  }
}

const NONE = Number.POSITIVE_INFINITY;

export class RouteIndex {
  readonly #matches: readonly RouteMatch[];
  readonly #sensitive = new PathBuckets();
  readonly #folded = new PathBuckets();
  readonly #connect = new Bucket();

  constructor(matches: readonly RouteMatch[]) {
    this.#matches = matches;
    matches.forEach((match, index) => {
      const { path } = match;
      if (path.kind === 'connect') {
        this.#connect.add(index, match);
        return;
      }
      const buckets = path.kind !== 'regex' && path.ignoreCase ? this.#folded : this.#sensitive;
      if (path.kind === 'exact') buckets.bucket(buckets.exact, path.value).add(index, match);
      else {
        buckets.bucket(buckets.prefixes, path.kind === 'regex' ? path.literalPrefix : path.value).add(index, match);
      }
    });
    for (const buckets of [this.#sensitive, this.#folded]) {
      buckets.lengths = [...new Set([...buckets.prefixes.keys()].map((key) => key.length))].sort((a, b) => a - b);
    }
  }

  /** @returns the index of the first matching route, −1 if none. */
  find(request: RequestHeaders, context: RouteContext): number {
    const isConnect = request.method === 'CONNECT';
    if (isConnect && request.path === '') {
      const found = this.#inBucket(this.#connect, '', '', request, context, NONE);
      return found === NONE ? -1 : found;
    }
    const question = request.path.indexOf('?');
    const path = question < 0 ? request.path : request.path.slice(0, question);
    let best = this.#inBuckets(this.#sensitive, path, path, request, context, NONE);
    if (this.#folded.lengths.length > 0 || this.#folded.exact.size > 0) {
      best = this.#inBuckets(this.#folded, path.toLowerCase(), path, request, context, best);
    }
    return best === NONE ? -1 : best;
  }

  #inBuckets(
    buckets: PathBuckets,
    key: string,
    path: string,
    request: RequestHeaders,
    context: RouteContext,
    limit: number,
  ): number {
    let best = limit;
    const exact = buckets.exact.size === 0 ? undefined : buckets.exact.get(key);
    if (exact !== undefined) best = this.#inBucket(exact, key, path, request, context, best);
    const { lengths } = buckets;
    for (let i = 0; i < lengths.length; i++) {
      const length = lengths[i] as number;
      if (length > key.length) break;
      const bucket = buckets.prefixes.get(key.slice(0, length));
      if (bucket !== undefined) best = this.#inBucket(bucket, key, path, request, context, best);
    }
    return best;
  }

  #inBucket(
    bucket: Bucket,
    key: string,
    path: string,
    request: RequestHeaders,
    context: RouteContext,
    limit: number,
  ): number {
    let best = this.#firstOf(bucket.plain, key, path, request, context, limit);
    if (bucket.byHeader.size === 0) return best;
    for (const [name, values] of bucket.byHeader) {
      // As the matcher itself: each value of a repeated field counts.
      for (const value of request.getAll(name)) {
        const list = values.get(value);
        if (list !== undefined) best = this.#firstOf(list, key, path, request, context, best);
      }
    }
    return best;
  }

  #firstOf(
    indexes: readonly number[],
    key: string,
    path: string,
    request: RequestHeaders,
    context: RouteContext,
    limit: number,
  ): number {
    for (let i = 0; i < indexes.length; i++) {
      const index = indexes[i] as number;
      if (index >= limit) return limit;
      const match = this.#matches[index] as RouteMatch;
      if (match.path.kind !== 'connect' && !pathMatches(match.path, key, path)) continue;
      if (conditionsMatch(match, request, context)) return index;
    }
    return limit;
  }
}

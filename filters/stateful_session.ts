/**
 * Keeps a session on its host: a cookie or a header of the request names the host, and the answer names it anew when it was
 * another one. Envoy: envoy.extensions.filters.http.stateful_session.v3.StatefulSession.
 */
import { type CookieAttributes, cookieAttributes, cookieValue, setCookie } from '../proxy/http/cookies.ts';
import type { FilterDeps, FilterFactory } from '../proxy/http/filter.ts';
import type { RequestHeaders, ResponseHeaders } from '../proxy/http/headers.ts';
import { Fields } from '../proxy/resource_fields.ts';
import { readFields, readVarint } from '../proxy/telemetry/protobuf_reader.ts';
import { ProtobufWriter } from '../proxy/telemetry/protobuf_writer.ts';
import type { Counter } from '../proxy/telemetry/statistics.ts';

const TYPE = 'type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.';
const COOKIE = 'type.googleapis.com/envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState';
const HEADER = 'type.googleapis.com/envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState';

/** Where a session is kept between requests. */
interface Keeper {
  /** Whether requests of this path have sessions. */
  covers(path: string): boolean;
  /** `ip:port` of the host; undefined: the request names none that can be read, or its time has passed. */
  read(headers: RequestHeaders): string | undefined;
  write(headers: ResponseHeaders, address: string): void;
}

interface Config {
  /** undefined: no sessions. */
  readonly keeper: Keeper | undefined;
  /** Where the host is gone the request fails (503), instead of beginning a session with another. */
  readonly strict: boolean;
  /** '' counts nothing, and neither does a route's own configuration, as in Envoy. */
  readonly statPrefix: string;
}

interface Counters {
  readonly routed: Counter;
  readonly failedOpen: Counter;
  readonly failedClosed: Counter;
  readonly noSession: Counter;
}

interface SessionState {
  config: Config | undefined;
  address: string | undefined;
}

export default {
  typeUrls: [`${TYPE}StatefulSession`],
  parse: (json) => parseSession(new Fields(json)),
  routeTypeUrls: [`${TYPE}StatefulSessionPerRoute`],
  parseRoute(json: unknown): Config {
    const fields = new Fields(json);
    if (fields.boolean('disabled') === true) return { keeper: undefined, strict: false, statPrefix: '' };
    return parseSession(fields.requiredMessage('stateful_session'));
  },
  create(own, deps) {
    const counters = own.statPrefix === '' ? undefined : makeCounters(deps, own.statPrefix);
    return {
      newState: (): SessionState => ({ config: undefined, address: undefined }),
      decodeHeaders(ctx, headers, _endStream, state) {
        const config = ctx.routeConfig<Config>() ?? own;
        const { keeper, strict } = config;
        if (keeper === undefined) return 'continue';
        if (!keeper.covers(headers.path)) {
          if (config === own) counters?.noSession.inc();
          return 'continue';
        }
        state.config = config;
        state.address = keeper.read(headers);
        if (state.address !== undefined) ctx.info.overrideHost = { address: state.address, strict };
        return 'continue';
      },
      encodeHeaders(ctx, headers, _endStream, { config, address }) {
        if (config === undefined) return 'continue';
        const counts = config === own ? counters : undefined;
        const used = ctx.info.upstreamHost?.text;
        if (used === undefined) {
          if (config.strict && address !== undefined) counts?.failedClosed.inc();
        } else if (used === address) counts?.routed.inc();
        else {
          config.keeper?.write(headers, used);
          if (!config.strict) counts?.failedOpen.inc();
        }
        return 'continue';
      },
    };
  },
} satisfies FilterFactory<Config, SessionState, Config>;

function makeCounters(deps: FilterDeps, prefix: string): Counters {
  const counter = (name: string): Counter => deps.counter(`stateful_session.${prefix}.${name}`);
  return {
    routed: counter('routed'),
    failedOpen: counter('failed_open'),
    failedClosed: counter('failed_closed'),
    noSession: counter('no_session'),
  };
}

/** @throws {ConfigError} */
function parseSession(fields: Fields): Config {
  const extension = fields.message('session_state');
  return {
    keeper: extension === undefined ? undefined : parseKeeper(extension.requiredMessage('typed_config')),
    strict: fields.boolean('strict') ?? false,
    statPrefix: fields.string('stat_prefix') ?? '',
  };
}

function parseKeeper(fields: Fields): Keeper {
  const type = fields.requiredString('@type');
  if (type === COOKIE) return cookieKeeper(fields.requiredMessage('cookie'));
  if (type === HEADER) return headerKeeper(fields.requiredString('name').toLowerCase());
  return fields.fail(
    '@type',
    'is no session state that this version executes: CookieBasedSessionState, HeaderBasedSessionState',
  );
}

function headerKeeper(name: string): Keeper {
  return {
    covers: () => true,
    read(headers) {
      const value = headers.get(name);
      return value === undefined ? undefined : Buffer.from(value, 'base64').toString('latin1') || undefined;
    },
    write: (headers, address) => headers.set(name, Buffer.from(address, 'latin1').toString('base64')),
  };
}

function cookieKeeper(fields: Fields): Keeper {
  const name = fields.requiredString('name');
  const attributes: CookieAttributes = {
    ttlSeconds: Math.floor((fields.durationMs('ttl') ?? 0) / 1000),
    path: fields.string('path') ?? '',
    more: cookieAttributes(fields.messages('attributes')),
  };
  return {
    covers: pathMatcher(attributes.path),
    read(headers) {
      const value = cookieValue(headers, name);
      return value === undefined ? undefined : addressIn(Buffer.from(value, 'base64'));
    },
    write(headers, address) {
      const expires = attributes.ttlSeconds === 0 ? 0 : Math.floor(Date.now() / 1000) + attributes.ttlSeconds;
      headers.append('set-cookie', setCookie(name, sessionOf(address, expires), attributes));
    },
  };
}

/** RFC 6265 §5.1.4, as Envoy has it: `/a` covers `/a` and `/a/b`, `/a/` only what is below it. */
function pathMatcher(path: string): Keeper['covers'] {
  if (path === '' || path === '/') return () => true;
  if (path.endsWith('/')) return (asked) => asked.startsWith(path);
  return (asked) =>
    asked.startsWith(path) && (asked.length === path.length || '/?#'.includes(asked.charAt(path.length)));
}

/** Envoy's `envoy.Cookie { string address = 1; uint64 expires = 2; }`; older cookies are the address itself. */
function addressIn(bytes: Buffer): string | undefined {
  const fields = readFields(bytes);
  if (fields === undefined) return bytes.toString('latin1');
  const address = fields.findLast(({ number, wire }) => number === 1 && wire === 2)?.body.toString('latin1') ?? '';
  const end = fields.findLast(({ number, wire }) => number === 2 && wire === 0);
  const expires = end === undefined ? 0 : (readVarint(end.body, 0)?.value ?? 0);
  if (expires !== 0 && expires * 1000 <= Date.now()) return undefined;
  return address === '' ? undefined : address;
}

function sessionOf(address: string, expires: number): string {
  const writer = new ProtobufWriter();
  writer.string(1, address);
  writer.integer(2, expires);
  return writer.message.toString('base64');
}

/**
 * What the connection manager does to a request's head before any filter sees it.
 * Source: Envoy source/common/http/conn_manager_utility.cc mutateRequestHeaders, and istio.md §2.8.
 */
import type { Failure } from '../failures.ts';
import { failures } from '../failures.ts';
import { isIP } from 'node:net';
import { type ConnectionInfo, type SocketAddress, socketAddress } from '../net/connection_info.ts';
import { addClientCert, keepsClientCert, XFCC } from './client_certificate_header.ts';
import type { ConnectionManagerConfig } from './connection_manager_config.ts';
import type { RequestHeaders } from './headers.ts';
import { isInternalRequest } from './internal_request.ts';
import { normalizePath } from './path_normalization.ts';
import { randomRequestId } from './request_id.ts';

/** Counted on for internal requests only; nobody is internal unless internal_address_config says so. */
const INTERNAL_HEADERS = new Set([
  'x-envoy-retriable-status-codes',
  'x-envoy-retriable-header-names',
  'x-envoy-retry-on',
  'x-envoy-retry-grpc-on',
  'x-envoy-max-retries',
  'x-envoy-upstream-alt-stat-name',
  'x-envoy-upstream-rq-timeout-ms',
  'x-envoy-upstream-rq-per-try-timeout-ms',
  'x-envoy-upstream-rq-timeout-alt-response',
  'x-envoy-upstream-stream-duration-ms',
  'x-envoy-hedge-on-per-try-timeout',
  'x-envoy-expected-rq-timeout-ms',
  'x-envoy-force-trace',
  'x-envoy-ip-tags',
  'x-envoy-original-url',
  'x-envoy-internal',
  'x-envoy-is-timeout-retry',
]);

const EDGE_HEADERS = new Set([
  'x-envoy-decorator-operation',
  'x-envoy-downstream-service-cluster',
  'x-envoy-downstream-service-node',
]);

const HOP_BY_HOP = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
]);

export interface PreparedRequest {
  /** Answered instead of forwarding; undefined: go on. */
  failure: Failure | undefined;
  /** Location of a redirect to the normalised path (path_with_escaped_slashes_action). */
  redirectPath: string | undefined;
  /** The client's address from x-forwarded-for; undefined: the connection's. */
  remoteAddress: SocketAddress | undefined;
  /** Lower-case upgrade type (`websocket`), or `connect`. */
  upgrade: string | undefined;
  /** Its own x-envoy-* headers count. */
  internal: boolean;
  /** Fields with an underscore in their names that were dropped, or for which it is refused. */
  underscores: number;
}

/** One result object a thread: read it before the next call. */
const result: PreparedRequest = {
  failure: undefined,
  redirectPath: undefined,
  remoteAddress: undefined,
  upgrade: undefined,
  internal: false,
  underscores: 0,
};

/** Cleans, normalises and completes `headers` in place. */
export function prepareRequest(
  headers: RequestHeaders,
  config: ConnectionManagerConfig,
  connection: ConnectionInfo,
): PreparedRequest {
  result.failure = undefined;
  result.redirectPath = undefined;
  result.remoteAddress = undefined;
  result.internal = false;
  result.underscores = 0;
  result.upgrade = upgradeOf(headers, config);
  if (headers.authority === '' && headers.method !== 'CONNECT') {
    result.failure = failures.missingHost;
    return result;
  }
  if (config.underscores === 'reject' && hasUnderscores(headers)) {
    result.failure = failures.underscoreRejected;
    result.underscores = 1;
    return result;
  }
  result.internal = isInternalRequest(headers, config, connection);
  cleanFields(headers, config, connection, result.upgrade !== undefined);
  if (result.internal) headers.set('x-envoy-internal', 'true');
  addClientCert(headers, config, connection);
  if (config.stripPort !== 'none' || config.stripTrailingHostDot) stripAuthority(headers, config, connection);
  if (headers.method !== 'CONNECT' && headers.path !== '*') {
    const path = normalizePath(headers.path, config.normalization);
    if (path.kind === 'ok') headers.path = path.path;
    else if (path.kind === 'redirect') result.redirectPath = path.path;
    else result.failure = failures.pathNormalizationFailed;
  }
  completeForwarded(headers, config, connection);
  return result;
}

/** The request id, made if absent; the sampling mark stays as it came. `random`: [0, 1). */
export function requestIdOf(
  headers: RequestHeaders,
  config: ConnectionManagerConfig,
  random: () => number,
): string | undefined {
  const given = headers.get('x-request-id');
  if (given !== undefined && (config.preserveExternalRequestId || !config.useRemoteAddress)) return given;
  if (!config.generateRequestId) return given;
  const made = randomRequestId(random);
  headers.setOwn('x-request-id', made);
  return made;
}

function cleanFields(
  headers: RequestHeaders,
  config: ConnectionManagerConfig,
  connection: ConnectionInfo,
  isUpgrade: boolean,
): void {
  const { fields } = headers;
  // Underscores may stand in any name.
  let dirty = config.underscores !== 'allow';
  for (let i = 0; i < fields.length && !dirty; i += 2) dirty = mayGo(fields[i] as string, fields[i + 1] as string);
  if (!dirty) return;
  const named = connectionNamed(headers);
  let trailers = false;
  const keepXfcc = keepsClientCert(config, connection);
  headers.filter((name, value) => {
    if (HOP_BY_HOP.has(name)) return isUpgrade && (name === 'connection' || name === 'upgrade');
    if (name === 'te') {
      trailers ||= value.split(',').some((token) => token.trim().toLowerCase() === 'trailers');
      return false;
    }
    if (INTERNAL_HEADERS.has(name)) return result.internal;
    if (name === XFCC) return keepXfcc;
    if (config.useRemoteAddress && !result.internal && EDGE_HEADERS.has(name)) return false;
    if (config.underscores === 'drop' && name.includes('_')) {
      result.underscores++;
      return false;
    }
    return named === undefined || !named.includes(name);
  });
  // What else is accepted between us and the client is our affair.
  if (trailers) headers.append('te', 'trailers');
}

function hasUnderscores({ fields }: RequestHeaders): boolean {
  for (let i = 0; i < fields.length; i += 2) if ((fields[i] as string).includes('_')) return true;
  return false;
}

/** Cheap test by first letters: most fields are none of those that cleaning looks at. */
function mayGo(name: string, value: string): boolean {
  switch (name.charCodeAt(0)) {
    case 99: // c
      return name === 'connection';
    case 104: // h
      return name === 'http2-settings';
    case 107: // k
      return name === 'keep-alive';
    case 112: // p
      return name === 'proxy-connection';
    case 116: // t
      // As all gRPC clients say it, it stays as it is.
      return (name === 'te' && value !== 'trailers') || name === 'transfer-encoding';
    case 117: // u
      return name === 'upgrade';
    case 120: // x
      return name.startsWith('x-envoy-') || name === 'x-forwarded-client-cert';
    default:
      return name.includes('_');
  }
}

/** Fields named by `Connection` belong to this hop only (RFC 9110 §7.6.1); never those that carry meaning for policy. */
function connectionNamed(headers: RequestHeaders): string[] | undefined {
  const value = headers.joined('connection');
  if (value === undefined) return undefined;
  const named = value
    .split(',')
    .map((token) => token.trim().toLowerCase())
    .filter(
      (token) => token !== '' && token !== 'close' && token !== 'keep-alive' && token !== 'upgrade' && token !== 'te',
    );
  const safe = named.filter(
    (name) =>
      !name.startsWith('x-forwarded-') &&
      name !== 'host' &&
      name !== 'content-length' &&
      name !== 'authorization' &&
      name !== 'cookie',
  );
  return safe.length === 0 ? undefined : safe;
}

/** Whether it is allowed is the route's to say. undefined: no upgrade asked for, or one that is ignored. */
function upgradeOf(headers: RequestHeaders, config: ConnectionManagerConfig): string | undefined {
  if (headers.method === 'CONNECT') return 'connect';
  const type = headers.get('upgrade');
  if (type === undefined) return undefined;
  const connection = headers.joined('connection');
  if (connection === undefined || !connection.toLowerCase().includes('upgrade')) return undefined;
  const lower = type.toLowerCase();
  // RFC 9110 §7.8 lets a server ignore an upgrade; h2c and TLS upgrades are offers, not needs.
  if (lower === 'h2c' || lower.startsWith('tls/') || config.ignoredUpgrades.some((matcher) => matcher.matches(type))) {
    return undefined;
  }
  return lower;
}

function stripAuthority(headers: RequestHeaders, config: ConnectionManagerConfig, connection: ConnectionInfo): void {
  let host = headers.authority;
  let port = '';
  const colon = host.lastIndexOf(':');
  if (colon > 0 && colon > host.lastIndexOf(']')) {
    port = host.slice(colon + 1);
    const strip =
      config.stripPort === 'any' || (config.stripPort === 'matching' && Number(port) === connection.localAddress.port);
    if (strip) {
      host = host.slice(0, colon);
      port = '';
    } else host = host.slice(0, colon);
  }
  if (config.stripTrailingHostDot && host.endsWith('.')) host = host.slice(0, -1);
  headers.authority = port === '' ? host : `${host}:${port}`;
}

/** A proxy that does not stand at the edge believes the last address of x-forwarded-for (Envoy: xff original IP detection). */
function forwardedClient(headers: RequestHeaders, config: ConnectionManagerConfig): SocketAddress | undefined {
  if (config.useRemoteAddress && config.xffTrustedHops === 0) return undefined;
  const forwardedFor = headers.joined('x-forwarded-for');
  if (forwardedFor === undefined) return undefined;
  const hops = config.useRemoteAddress ? config.xffTrustedHops : config.xffTrustedHops + 1;
  const ip = trustedClient(forwardedFor, hops);
  return ip === undefined || isIP(ip) === 0 ? undefined : socketAddress(ip, 0);
}

/** The address that the last trusted proxy saw; undefined: there are fewer hops than are trusted. */
function trustedClient(forwardedFor: string | undefined, hops: number): string | undefined {
  if (hops === 0 || forwardedFor === undefined) return undefined;
  return forwardedFor.split(',').at(-hops)?.trim();
}

function completeForwarded(headers: RequestHeaders, config: ConnectionManagerConfig, connection: ConnectionInfo): void {
  const scheme = connection.tls === undefined ? 'http' : 'https';
  result.remoteAddress = forwardedClient(headers, config);
  if (config.useRemoteAddress) {
    if (!config.skipXffAppend) {
      const { ip } = connection.remoteAddress;
      const before = headers.joined('x-forwarded-for');
      headers.set('x-envoy-external-address', trustedClient(before, config.xffTrustedHops) ?? ip);
      headers.set('x-forwarded-for', before === undefined ? ip : `${before},${ip}`);
    }
    if (config.xffTrustedHops === 0) headers.setOwn('x-forwarded-proto', scheme);
  }
  if (config.via !== '') headers.append('via', config.via);
  const proto = headers.get('x-forwarded-proto');
  if (proto === undefined || proto === '') headers.setOwn('x-forwarded-proto', scheme);
  headers.scheme = proto === 'https' || proto === 'http' ? proto : scheme;
  if (config.appendXForwardedPort && !headers.has('x-forwarded-port')) {
    headers.set('x-forwarded-port', String(connection.localAddress.port));
  }
}

/** Whether the client waits for 100 Continue, and is told to go on here: the field goes no further then. */
export function takesExpectation(
  headers: RequestHeaders,
  { proxy100Continue }: Pick<ConnectionManagerConfig, 'proxy100Continue'>,
): boolean {
  if (proxy100Continue || headers.get('expect')?.toLowerCase() !== '100-continue') return false;
  headers.remove('expect');
  return true;
}

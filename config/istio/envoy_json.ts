/** The small pieces of Envoy's JSON that many resources share. */
import { createHash } from 'node:crypto';
import type { KubeObject } from '../kube_object.ts';
import type { Json, Resource, ResourceType } from '../resources.ts';

/** google.protobuf.Duration, with as many decimals as protobuf JSON writes: none, 3, 6 or 9. */
export function seconds(ms: number): string {
  const nanos = Math.round(ms * 1e6);
  const whole = Math.floor(nanos / 1e9);
  const rest = nanos - whole * 1e9;
  if (rest === 0) return `${whole}s`;
  const digits = String(rest).padStart(9, '0');
  if (digits.endsWith('000000')) return `${whole}.${digits.slice(0, 3)}s`;
  return `${whole}.${digits.endsWith('000') ? digits.slice(0, 6) : digits}s`;
}

/** A place in a file, for people: the first line of the object. */
export function originOf(object: KubeObject): string {
  return `${object.source.file}:${object.source.line}`;
}

export function resource(type: ResourceType, name: string, json: Json, origin: string): Resource {
  const version = createHash('sha256').update(JSON.stringify(json)).digest('hex').slice(0, 16);
  return { type, name, version, json, origin };
}

/** An extension's configuration as `Any`. */
export function any(type: string, config: Json = {}): Json {
  return { '@type': `type.googleapis.com/${type}`, ...config };
}

export function extension(name: string, type: string, config: Json = {}): Json {
  return { name, typed_config: any(type, config) };
}

export function socketAddress(address: string, port: number): Json {
  return { socket_address: { address, port_value: port } };
}

/** Resources of this kind come from the same source as the one that names them. */
export const ADS: Json = { ads: {}, initial_fetch_timeout: '0s', resource_api_version: 'V3' };

export const OUTBOUND_PASSTHROUGH = 'PassthroughCluster';
export const BLACK_HOLE = 'BlackHoleCluster';
export const INBOUND_PASSTHROUGH = 'InboundPassthroughCluster';
/** Explicit mode's place for hosts that no service has. */
export const DYNAMIC_FORWARD_PROXY = 'dynamic_forward_proxy';

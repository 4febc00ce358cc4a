/** Where a sidecar's listener stands: one address, or the wildcards of both families. */
import type { Json } from '../resources.ts';
import type { CompileContext } from './context.ts';
import { socketAddress } from './envoy_json.ts';

/** `address`, and `additional_addresses` where the wildcard has a second one. */
export function listenAddress(context: CompileContext, ip: string, port: number): Json {
  const other = ip === context.wildcard ? context.otherWildcard : undefined;
  return {
    address: socketAddress(ip, port),
    ...(other !== undefined && { additional_addresses: [{ address: socketAddress(other, port) }] }),
  };
}

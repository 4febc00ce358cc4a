/** envoy.config.route.v3.ScopedRouteConfiguration → Scope. */
import { Fields } from '../../proxy/resource_fields.ts';
import { parseScope, type Scope } from '../../proxy/router/scoped_routes.ts';
import type { Json } from '../resources.ts';
import { buildContext } from './extensions.ts';

/** @throws {ConfigError} with the field's path. */
export function buildScope(json: Json, origin: string): Scope {
  return parseScope(new Fields(json), buildContext(origin).routeTable);
}

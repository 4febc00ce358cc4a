/** Whether an upgrade may be forwarded. Envoy: RouteAction.upgrade_configs, HttpConnectionManager.upgrade_configs. */
import type { Route } from '../router/route.ts';
import type { ConnectionManagerConfig } from './connection_manager_config.ts';

/** The route's word holds, else the connection manager's. Where no route matches CONNECT, that is the answer. */
export function mayUpgrade(type: string, route: Route | undefined, config: ConnectionManagerConfig): boolean {
  if (route === undefined && type === 'connect') return true;
  return route?.forward?.upgradeAllowed(type) ?? config.upgrades.has(type);
}

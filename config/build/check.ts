/** Builds a resource for the sake of its complaints: nothing that fails here reaches a data thread. */
import { ConfigError } from '../../proxy/config_error.ts';
import type { Resource } from '../resources.ts';
import { buildCluster } from './cluster.ts';
import { buildLoadAssignment } from './endpoints.ts';
import { perFilterConfig } from './extensions.ts';
import { buildListener } from './listener.ts';
import { buildRouteTable } from './route_configuration.ts';

/** undefined: the resource can be served. The error's message names resource and field. */
export function checkResource({ type, name, json, origin }: Resource): ConfigError | undefined {
  try {
    switch (type) {
      case 'cluster':
        buildCluster(json, origin);
        break;
      case 'endpoint':
        buildLoadAssignment(json);
        break;
      case 'route':
        buildRouteTable(json, { origin, filterConfig: perFilterConfig });
        break;
      case 'listener':
        buildListener(json, origin);
        break;
      default:
        break;
    }
    return undefined;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return new ConfigError('', `Cannot use ${type} "${name}" (${origin}): ${error.message}`, { cause: error, origin });
  }
}

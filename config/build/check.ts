/** Builds a resource for the sake of its complaints: nothing that fails here reaches a data thread. */
import { ConfigError } from '../../proxy/config_error.ts';
import type { ListenerConfig } from '../../proxy/listener_config.ts';
import type { ClusterConfig } from '../../proxy/upstream/cluster_config.ts';
import { ALL_SCOPES, type Dependency, type Resource } from '../resources.ts';
import { buildCluster } from './cluster.ts';
import { dependenciesOf } from './dependencies.ts';
import { checkExtension } from './discovered_filter.ts';
import { buildLoadAssignment } from './endpoints.ts';
import { perFilterConfig } from './extensions.ts';
import { buildScope } from './scope.ts';
import { buildListener } from './listener.ts';
import { buildSecret, checkSecret } from './tls_secret.ts';
import { buildRouteTable } from './route_configuration.ts';

/** What the control thread has to know of a resource that can be served. */
export interface Inspection {
  readonly dependencies: readonly Dependency[];
  readonly cluster?: ClusterConfig;
  /** In its place, of a cluster with which the control thread has nothing else to do. */
  readonly plainCluster?: Pick<ClusterConfig, 'altStatName' | 'breakers'>;
  readonly listener?: ListenerConfig;
}

/** The error's message names resource and field. */
export function inspectResource(resource: Resource): Inspection | ConfigError {
  const { type, name, json, origin } = resource;
  try {
    switch (resource.type) {
      case 'cluster':
        return { cluster: buildCluster(json, origin), dependencies: dependenciesOf(resource) };
      case 'listener':
        return { listener: buildListener(json, origin), dependencies: dependenciesOf(resource) };
      case 'endpoint':
        buildLoadAssignment(json);
        break;
      case 'route':
        buildRouteTable(json, { origin, filterConfig: perFilterConfig });
        break;
      case 'secret':
        checkSecret(buildSecret(json));
        return { dependencies: dependenciesOf(resource) };
      case 'extension':
        checkExtension(json, origin);
        return { dependencies: dependenciesOf(resource) };
      case 'scope':
        if (name !== ALL_SCOPES) buildScope(json, origin);
        return { dependencies: dependenciesOf(resource) };
      default:
        resource.type satisfies never;
    }
    return { dependencies: [] };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return new ConfigError('', `Cannot use ${type} "${name}" (${origin}): ${error.message}`, { cause: error, origin });
  }
}

/** undefined: the resource can be served. */
export function checkResource(resource: Resource): ConfigError | undefined {
  const found = inspectResource(resource);
  return found instanceof ConfigError ? found : undefined;
}

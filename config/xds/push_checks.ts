/** What is wrong with pushed resources: each by itself, and beside the others. Each type has its own ways to be bad. */
import { ConfigError } from '../../proxy/config_error.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import { layerValues } from '../../proxy/runtime_layers.ts';
import type { ConfigSink, Resource } from '../resources.ts';
import { PushedAggregates } from './pushed_aggregates.ts';
import type { BadResource } from './pushed_resources.ts';
import type { PushedScopes } from './pushed_scopes.ts';
import { PushedVirtualHosts, withHosts } from './pushed_virtual_hosts.ts';
import { CLUSTER, RUNTIME, VIRTUAL_HOST, type XdsType } from './resource_types.ts';
import type { ConfigServer } from './servers.ts';

export interface PushChecksOptions {
  readonly scopes: PushedScopes;
  readonly virtualHosts: PushedVirtualHosts;
  sink(): ConfigSink;
  /** The server, or the file, that a config source names. @throws {ConfigError} */
  resolve(source: Fields): ConfigServer | string | undefined;
}

export class PushChecks {
  readonly #options: PushChecksOptions;
  readonly #aggregates = new PushedAggregates();

  constructor(options: PushChecksOptions) {
    this.#options = options;
  }

  /** A sentence; undefined: it can be used. */
  complaintOf(type: XdsType, resource: Resource): string | undefined {
    const sink = this.#options.sink();
    if (type.resource === 'scope') return sink.check(this.#options.scopes.sourced(resource));
    if (type === VIRTUAL_HOST) {
      const { name, json } = resource;
      return sink.check({ ...resource, type: 'route', json: { name, virtual_hosts: [json] } });
    }
    if (!PushedVirtualHosts.isMeant(resource)) {
      return type.resource === undefined ? complaintOfLayer(type, resource) : sink.check(resource);
    }
    try {
      const server = this.#options.resolve(
        new Fields(resource.json).requiredMessage('vhds').requiredMessage('config_source'),
      );
      if (server !== undefined && typeof server !== 'string' && server.protocol !== 'delta') {
        return `Cannot use route "${resource.name}" (${resource.origin}): vhds: only delta servers give virtual hosts`;
      }
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      return `Cannot use route "${resource.name}" (${resource.origin}): vhds.${error.message}`;
    }
    return sink.check(withHosts(resource, []));
  }

  /** What is good by itself, and not beside the others. */
  async conflicting(
    type: XdsType,
    changed: readonly Resource[],
    removed: readonly string[],
    origin: string,
  ): Promise<BadResource[]> {
    if (type.resource === 'scope') return this.#options.scopes.conflicting(changed, removed, origin);
    if (type === CLUSTER) return this.#aggregates.conflicting(changed, removed, origin);
    if (type === VIRTUAL_HOST) {
      return this.#options.virtualHosts.conflicting(changed, (route) => this.#options.sink().check(route));
    }
    return this.#unbound(type, changed, removed, origin);
  }

  /** Listeners whose addresses cannot be had. */
  async #unbound(
    type: XdsType,
    changed: readonly Resource[],
    removed: readonly string[],
    origin: string,
  ): Promise<BadResource[]> {
    if (type.resource !== 'listener' || changed.length === 0) return [];
    const reasons = await this.#options.sink().claimAddresses(changed, removed);
    return changed.flatMap(({ name, version, json }) => {
      const reason = reasons.get(name);
      return reason === undefined
        ? []
        : [{ name, version, json, reason: `Cannot use listener "${name}" (${origin}): ${reason}` }];
    });
  }

  /** They are what later pushes are compared with. */
  taken(type: XdsType, changed: readonly Resource[], removed: readonly string[]): void {
    if (type === CLUSTER) this.#aggregates.taken(changed, removed);
  }
}

/** Of what is no resource of the data plane. */
function complaintOfLayer(type: XdsType, { name, json, origin }: Resource): string | undefined {
  if (type !== RUNTIME) return undefined;
  try {
    layerValues(json['layer']);
    return undefined;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return `Cannot use runtime layer "${name}" (${origin}): ${error.message}`;
  }
}

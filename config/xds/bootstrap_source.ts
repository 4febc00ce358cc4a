/** The control planes that an Envoy bootstrap names. Envoy: envoy.config.bootstrap.v3.Bootstrap.DynamicResources. */
import { ConfigError } from '../../proxy/config_error.ts';
import { pushedLayers } from '../../proxy/runtime_layers.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import { clusterDefaults } from '../bootstrap.ts';
import type { Json } from '../resources.ts';
import { type ConfigServer, readConfigServer } from './servers.ts';
import type { ServerAddress } from './transport.ts';
import { XdsSource, type XdsOptions } from './xds_source.ts';
import { refuseUnexecuted } from '../../proxy/unexecuted_fields.ts';

export interface NodeOverrides {
  readonly id: string;
  readonly cluster: string;
  readonly version: string;
}

export interface BootstrapSourceOptions extends Pick<XdsOptions, 'log' | 'onNameTable'> {
  /** Sent with each stream of ads_config, read anew for each: a token. */
  readonly headers?: ServerAddress['metadata'] | undefined;
}

/**
 * One source for all that comes by xDS, for static resources that name a config source too.
 * @throws {ConfigError} with the field's path.
 */
export function xdsSource(
  bootstrap: Json,
  overrides: NodeOverrides,
  { log, onNameTable, headers }: BootstrapSourceOptions,
): XdsSource {
  const fields = new Fields(bootstrap);
  const dynamic = fields.message('dynamic_resources');
  const statics = fields.message('static_resources')?.messages('clusters') ?? [];
  const staticClusters = new Map(statics.map((cluster) => [cluster.requiredString('name'), cluster.json]));
  for (const field of ['lds_resources_locator', 'cds_resources_locator']) {
    if (dynamic?.has(field)) dynamic.fail(field, 'xdstp names are not supported: use lds_config and cds_config');
  }
  const ads = dynamic?.message('ads_config');
  for (const source of [dynamic?.message('cds_config'), dynamic?.message('lds_config')]) {
    refuseUnexecuted(source, 'ConfigSource');
    refuseUnexecuted(source?.message('path_config_source'), 'PathConfigSource');
  }
  const node = nodeOf(fields.message('node'), overrides);
  if (dynamic !== undefined && (node['id'] === '' || node['cluster'] === '')) {
    throw new ConfigError(
      'node',
      'id and cluster are required with dynamic_resources: a control plane knows its clients by them (--service-node, --service-cluster)',
    );
  }
  return new XdsSource({
    node,
    ads: ads === undefined ? undefined : withHeaders(readConfigServer(ads, staticClusters), headers),
    clusters: dynamic?.message('cds_config')?.json,
    listeners: dynamic?.message('lds_config')?.json,
    defaults: clusterDefaults(bootstrap),
    runtimeLayers: pushedLayers(bootstrap['layered_runtime']),
    staticClusters,
    log,
    ...(onNameTable !== undefined && { onNameTable }),
  });
}

function withHeaders(server: ConfigServer, headers: ServerAddress['metadata'] | undefined): ConfigServer {
  if (headers === undefined) return server;
  const { address } = server;
  return { ...server, address: { ...address, metadata: () => [...address.metadata(), ...headers()] } };
}

function nodeOf(node: Fields | undefined, { id, cluster, version }: NodeOverrides): Json {
  return {
    ...node?.json,
    id: id || (node?.string('id') ?? ''),
    cluster: cluster || (node?.string('cluster') ?? ''),
    user_agent_name: 'pillion',
    user_agent_version: version,
  };
}

/** Where a config server is and how to talk to it: envoy.config.core.v3.GrpcService, by cluster or by target. */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { ConfigError } from '../../proxy/config_error.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import type { Json } from '../resources.ts';
import type { Protocol } from './config_stream.ts';
import { fileReader, type ServerAddress, type ServerTls } from './transport.ts';
import { parseHeaderValue } from '../../proxy/http/header_value.ts';
import { refuseUnexecuted } from '../../proxy/unexecuted_fields.ts';

export interface ConfigServer {
  readonly address: ServerAddress;
  readonly protocol: Protocol;
  /** One stream for all types, or one a type. */
  readonly isAggregated: boolean;
}

/** The clusters of the bootstrap, as they stand there, by name. */
export type StaticClusters = ReadonlyMap<string, Json>;

const TLS_CONTEXT = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext';
const RAW_BUFFER = 'type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer';

/** @param fields envoy.config.core.v3.ApiConfigSource. @throws {ConfigError} with the field's path. */
export function readConfigServer(fields: Fields, clusters: StaticClusters): ConfigServer {
  const type = fields.oneOf(
    'api_type',
    ['GRPC', 'DELTA_GRPC', 'AGGREGATED_GRPC', 'AGGREGATED_DELTA_GRPC', 'REST', 'DEPRECATED_AND_UNAVAILABLE_DO_NOT_USE'],
    'DEPRECATED_AND_UNAVAILABLE_DO_NOT_USE',
  );
  if (type === 'REST') fields.fail('api_type', 'REST is not supported: use GRPC or DELTA_GRPC');
  if (type === 'DEPRECATED_AND_UNAVAILABLE_DO_NOT_USE') fields.fail('api_type', 'is required: GRPC or DELTA_GRPC');
  if (fields.raw('transport_api_version') === 'V2') fields.fail('transport_api_version', 'V2 is gone: use V3');
  refuseUnexecuted(fields, 'ApiConfigSource');
  const services = fields.messages('grpc_services');
  const [service] = services;
  if (service === undefined) return fields.fail('grpc_services', 'one service is required');
  if (services.length > 1) fields.fail('grpc_services', 'only one service is supported');
  return {
    address: readService(service, clusters),
    protocol: type === 'GRPC' || type === 'AGGREGATED_GRPC' ? 'sotw' : 'delta',
    isAggregated: type.startsWith('AGGREGATED'),
  };
}

/** @param fields envoy.config.core.v3.GrpcService. @throws {ConfigError} */
export function readService(fields: Fields, clusters: StaticClusters): ServerAddress {
  const initial = fields.messages('initial_metadata').map(parseHeaderValue);
  refuseUnexecuted(fields, 'GrpcService');
  const google = fields.message('google_grpc');
  if (google !== undefined) return readTarget(google, initial);
  const envoy = fields.message('envoy_grpc');
  if (envoy === undefined) return fields.fail('envoy_grpc', 'envoy_grpc or google_grpc is required');
  refuseUnexecuted(envoy, 'ConfigServer');
  const name = envoy.requiredString('cluster_name');
  const cluster = clusters.get(name);
  if (cluster === undefined) return envoy.fail('cluster_name', `"${name}" is no cluster of static_resources`);
  return readCluster(name, new Fields(cluster, `cluster "${name}"`), () => initial);
}

function readTarget(google: Fields, initial: readonly (readonly [string, string])[]): ServerAddress {
  refuseUnexecuted(google, 'GoogleGrpc');
  const target = google.requiredString('target_uri');
  const credentials = google.message('channel_credentials');
  for (const field of ['google_default', 'local_credentials']) {
    if (credentials?.has(field)) credentials.fail(field, 'is not supported: use ssl_credentials');
  }
  const ssl = credentials?.message('ssl_credentials');
  const tokens = google.messages('call_credentials').map((call) => {
    const token = call.string('access_token');
    return token ?? call.fail('access_token', 'is required: other call credentials are not supported');
  });
  const metadata = [...initial, ...tokens.map((token): [string, string] => ['authorization', `Bearer ${token}`])];
  return {
    name: target,
    target: /^[a-z][a-z0-9+.-]*:(?:\/\/|\/)/.test(target) ? target : `dns:///${target}`,
    tls:
      ssl === undefined
        ? undefined
        : {
            roots: dataSource(ssl.message('root_certs')),
            key: dataSource(ssl.message('private_key')),
            chain: dataSource(ssl.message('cert_chain')),
            serverName: '',
            allowedNames: [],
          },
    metadata: () => metadata,
    keepaliveMs: 0,
  };
}

/** A cluster with one or more addresses; its TLS from files or inline. @throws {ConfigError} */
export function readCluster(name: string, cluster: Fields, metadata: ServerAddress['metadata']): ServerAddress {
  const endpoints = cluster
    .requiredMessage('load_assignment')
    .messages('endpoints')
    .flatMap((group) => group.messages('lb_endpoints'))
    .map((item) => item.requiredMessage('endpoint').requiredMessage('address'));
  const [first] = endpoints;
  if (first === undefined) return cluster.fail('load_assignment', 'names no endpoint');
  const keepalive = cluster.message('upstream_connection_options')?.message('tcp_keepalive')?.integer('keepalive_time');
  return {
    name,
    target: targetOf(endpoints, cluster),
    tls: readTls(cluster.message('transport_socket')),
    metadata,
    keepaliveMs: (keepalive ?? 0) * 1000,
  };
}

function targetOf(endpoints: readonly Fields[], cluster: Fields): string {
  const pipe = endpoints[0]?.message('pipe')?.requiredString('path');
  if (pipe !== undefined) return pipe.startsWith('/') ? `unix://${pipe}` : `unix:${pipe}`;
  const sockets = endpoints.map((address) => {
    const socket = address.requiredMessage('socket_address');
    return { host: socket.requiredString('address'), port: socket.integer('port_value', 1, 65535) ?? 0 };
  });
  const [first] = sockets as [{ host: string; port: number }];
  const family = isIP(first.host);
  if (family === 0) {
    if (sockets.length > 1) cluster.fail('load_assignment', 'several host names for a config server are not supported');
    return `dns:///${first.host}:${first.port}`;
  }
  const all = sockets.filter(({ host }) => isIP(host) === family);
  return `ipv${family}:${all.map(({ host, port }) => (family === 6 ? `[${host}]:${port}` : `${host}:${port}`)).join(',')}`;
}

function readTls(socket: Fields | undefined): ServerTls | undefined {
  const config = socket?.message('typed_config');
  if (config === undefined) {
    const name = socket?.string('name');
    if (name !== undefined && name !== 'envoy.transport_sockets.raw_buffer')
      socket?.fail('typed_config', 'is required');
    return undefined;
  }
  const typeUrl = config.requiredString('@type');
  if (typeUrl === RAW_BUFFER) return undefined;
  if (typeUrl !== TLS_CONTEXT) return config.fail('@type', 'only TLS and raw sockets lead to a config server');
  const context = config.message('common_tls_context');
  for (const field of ['tls_certificate_sds_secret_configs', 'validation_context_sds_secret_config']) {
    if (context?.has(field)) context.fail(field, 'a config server cannot wait for secrets: name files');
  }
  const combined = context?.message('combined_validation_context');
  if (combined?.has('validation_context_sds_secret_config')) {
    combined.fail('validation_context_sds_secret_config', 'a config server cannot wait for secrets: name files');
  }
  const validation = context?.message('validation_context') ?? combined?.message('default_validation_context');
  onlyKnown(config, ['@type', 'common_tls_context', 'sni', 'max_session_keys', 'allow_renegotiation']);
  onlyKnown(context, CONTEXT_FIELDS);
  onlyKnown(validation, ['trusted_ca', 'match_typed_subject_alt_names', 'match_subject_alt_names']);
  const [certificate] = context?.messages('tls_certificates') ?? [];
  return {
    roots: dataSource(validation?.message('trusted_ca')),
    key: dataSource(certificate?.message('private_key')),
    chain: dataSource(certificate?.message('certificate_chain')),
    serverName: config.string('sni') ?? '',
    allowedNames: [
      ...(validation?.messages('match_typed_subject_alt_names') ?? []).map((entry) => entry.requiredMessage('matcher')),
      ...(validation?.messages('match_subject_alt_names') ?? []),
    ].map((matcher) => matcher.string('exact') ?? matcher.fail('exact', 'only exact names are supported here')),
  };
}

const CONTEXT_FIELDS = [
  'alpn_protocols',
  'combined_validation_context',
  'tls_certificates',
  'validation_context',
] as const;

/** What would change whom we trust, and how we talk, is not passed over. */
function onlyKnown(fields: Fields | undefined, known: readonly string[]): void {
  const other = Object.keys(fields?.json ?? {}).find((name) => !known.includes(name));
  if (other !== undefined) fields?.fail(other, 'is not supported for a config server');
}

/** envoy.config.core.v3.DataSource. A file is read at each connection. @throws {ConfigError} */
export function dataSource(source: Fields | undefined): () => Buffer | undefined {
  if (source === undefined) return () => undefined;
  const file = source.string('filename');
  if (file !== undefined) {
    try {
      readFileSync(file);
    } catch (cause) {
      throw new ConfigError(source.at('filename'), `cannot be read: ${(cause as Error).message}`, { cause });
    }
    return fileReader(file);
  }
  const bytes = source.string('inline_bytes');
  if (bytes !== undefined) return () => Buffer.from(bytes, 'base64');
  const variable = source.string('environment_variable');
  if (variable !== undefined) return () => Buffer.from(process.env[variable] ?? '');
  const text = source.string('inline_string');
  if (text !== undefined) return () => Buffer.from(text);
  return source.fail('filename', 'filename, inline_bytes, inline_string or environment_variable is required');
}

/** Envoy bootstraps: what is read, and where a complaint points. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { buildCluster } from '../../config/build/cluster.ts';
import { type Bootstrap, readBootstrap } from '../../config/bootstrap.ts';
import { parseDocuments } from '../../config/yaml_documents.ts';

function read(text: string, allowUnknownFields = false): Promise<Bootstrap> {
  const [document] = parseDocuments(text, 'envoy.yaml');
  assert.ok(document !== undefined);
  return readBootstrap(document, { allowUnknownFields });
}

const GOOD = `node: { id: me, cluster: ours, metadata: { someKey: 1 } }
admin: { address: { socketAddress: { address: 127.0.0.1, portValue: 0 } } }
staticResources:
  clusters:
  - name: a
    connectTimeout: 0.25s
  secrets:
  - name: s
    genericSecret: { secret: { inlineString: x } }
`;

describe('readBootstrap', () => {
  test('readBootstrap gives resources in the spelling of the protos when the file is in camelCase', async () => {
    const { resources, node, admin } = await read(GOOD);
    assert.deepEqual(
      resources.map(({ type, name, json, origin }) => ({ type, name, json, origin })),
      [
        { type: 'cluster', name: 'a', json: { name: 'a', connect_timeout: '0.250s' }, origin: 'envoy.yaml:5:5' },
        {
          type: 'secret',
          name: 's',
          json: { name: 's', generic_secret: { secret: { inline_string: 'x' } } },
          origin: 'envoy.yaml:8:5',
        },
      ],
    );
    assert.deepEqual(
      { ...node, metadata: { ...node.metadata } },
      { id: 'me', cluster: 'ours', metadata: { someKey: 1 } },
    );
    assert.deepEqual(admin, { ip: '127.0.0.1', port: 0 });
  });

  test('readBootstrap gives a resource the same version when only its spelling differs', async () => {
    const [a] = (await read('static_resources: { clusters: [{ name: a, connect_timeout: 1s }] }')).resources;
    const [b] = (await read('staticResources: { clusters: [{ name: a, connectTimeout: 1.0s }] }')).resources;
    assert.equal(a?.version, b?.version);
  });

  const BAD: readonly (readonly [text: string, message: string])[] = [
    [
      'static_resources:\n  clusters:\n  - name: a\n    connect_timout: 1s\n',
      'Cannot use envoy.yaml:4:5: static_resources.clusters[0].connect_timout: is not a field of envoy.config.cluster.v3.Cluster; did you mean connect_timeout?',
    ],
    [
      'staticResources:\n  clusters:\n  - name: a\n    connectTimeout: 5\n',
      'Cannot use envoy.yaml:4:5: static_resources.clusters[0].connect_timeout: a duration such as "1.5s" is wanted, got 5',
    ],
    [
      'static_resources:\n  clusters:\n  - name: a\n  - type: EDS\n',
      'Cannot use envoy.yaml:4:5: static_resources.clusters[1].name: is required and must not be empty',
    ],
    [
      'staticResources:\n  clusters:\n  - name: a\n  - name: a\n',
      'Cannot use envoy.yaml:4:5: the cluster "a" is configured twice',
    ],
    [
      'static_resources: {}\nhds_config:\n  api_type: GRPC\n',
      'Cannot use envoy.yaml:2:1: hds_config: health checks ordered by a server are not supported',
    ],
    [
      'static_resources: {}\ncluster_manager: { local_cluster_name: a }\n',
      'Cannot use envoy.yaml:2:1: cluster_manager: local_cluster_name zone-aware routing is not supported: use localities and priorities',
    ],
    [
      'static_resources: {}\ncluster_manager: { outlier_detection: { event_log_path: /x } }\n',
      'Cannot use envoy.yaml:2:1: cluster_manager: outlier_detection.event_log_path ejections are in statistics only',
    ],
    [
      'static_resources: {}\nbootstrap_extensions:\n- name: x\n  typed_config: { "@type": type.googleapis.com/envoy.extensions.wasm.v3.WasmService }\n',
      'Cannot use envoy.yaml:2:1: bootstrap_extensions: the extension envoy.extensions.wasm.v3.WasmService is not supported',
    ],
    [
      'static_resources: {}\nadmin: { socket_options: [{ level: 1, int_value: 1 }] }\n',
      'Cannot use envoy.yaml:2:1: admin: admin.socket_options: options of sockets by number are not supported',
    ],
    [
      'static_resources: {}\ndefault_socket_interface: mine\n',
      'Cannot use envoy.yaml:2:1: default_socket_interface: other socket interfaces are not supported',
    ],
    [
      'static_resources: {}\ncluster_manager: { upstream_bind_config: { source_address: { address: localhost, port_value: 0 } } }\n',
      'Cannot use envoy.yaml:2:1: cluster_manager: upstream_bind_config.source_address.address: an IP address is wanted, got "localhost"',
    ],
    [
      'static_resources: {}\ncluster_manager: { load_stats_config: { api_type: GRPC } }\n',
      'Cannot use envoy.yaml:2:1: cluster_manager: load_stats_config load reports to a server are not supported',
    ],
  ];
  for (const [text, message] of [
    [
      'enable_dispatcher_stats: true',
      'enable_dispatcher_stats: is not supported: server.watchdog_miss counts when an event loop was late',
    ],
    [
      'application_log_config: { log_format: { text_format: "%q" } }',
      'application_log_config: application_log_config.log_format.text_format: the placeholder "%q" is not supported',
    ],
    ['node_context_params: [a]', 'node_context_params: are for xdstp names, which are not supported'],
    [
      'watchdogs: { worker_watchdog: { kill_timeout: 1s } }',
      'watchdogs: watchdogs.worker_watchdog.kill_timeout: a thread that hangs is counted, not killed',
    ],
  ] as const) {
    test(`a bootstrap with ${text} is refused by name`, async () => {
      await assert.rejects(read(`static_resources: {}\n${text}\n`), {
        message: `Cannot use envoy.yaml:2:1: ${message}`,
      });
    });
  }

  test('the name servers of the bootstrap are those of clusters that resolve names and say none', async () => {
    const dns = (ip: string): string =>
      `typed_dns_resolver_config: { name: r, typed_config: { "@type": type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig, resolvers: [{ socket_address: { address: ${ip}, port_value: 53 } }] } }`;
    const at = 'load_assignment: { cluster_name: x, endpoints: [] }';
    const { resources } = await read(
      `static_resources:\n  clusters:\n  - { name: a, type: STRICT_DNS, ${at} }\n  - { name: b, type: STRICT_DNS, ${at}, ${dns('10.0.0.2')} }\n  - { name: c }\n${dns('10.0.0.1')}\n`,
    );
    const servers = resources.map(({ json, origin }) => {
      const { resolver } = buildCluster(json, origin).dns;
      return resolver.kind === 'cares' ? resolver.servers : [];
    });
    assert.deepEqual(servers, [['10.0.0.1:53'], ['10.0.0.2:53'], []]);
  });

  test('the source address of the cluster manager is that of clusters without one', async () => {
    const bind = (ip: string): string => `upstream_bind_config: { source_address: { address: ${ip}, port_value: 0 } }`;
    const { resources } = await read(
      `static_resources:\n  clusters:\n  - name: a\n  - { name: b, ${bind('127.0.0.3')} }\ncluster_manager: { ${bind('127.0.0.2')} }\n`,
    );
    const sources = resources.map(({ json, origin }) => buildCluster(json, origin).socket.sourceIps);
    assert.deepEqual(sources, [['127.0.0.2'], ['127.0.0.3']]);
  });

  test('what means nothing here is accepted', async () => {
    const { resources } = await read(
      'static_resources: {}\ninline_headers: [{ inline_header_name: x, inline_header_type: REQUEST_HEADER }]\ndefault_socket_interface: envoy.extensions.network.socket_interface.default_socket_interface\nbootstrap_extensions:\n- name: envoy.extensions.network.socket_interface.default_socket_interface\n  typed_config: { "@type": type.googleapis.com/envoy.extensions.network.socket_interface.v3.DefaultSocketInterface }\n',
    );
    assert.deepEqual(resources, []);
  });

  for (const [text, message] of BAD) {
    test(`readBootstrap says "${message}" when the file has it`, async () => {
      await assert.rejects(read(text), { name: 'ConfigError', message });
    });
  }

  test('readBootstrap leaves unknown fields out when they are allowed', async () => {
    const { json } = await read('static_resources: { clusters: [{ name: a, newest: 1 }], newest: 2 }', true);
    assert.deepEqual(json, { static_resources: { clusters: [{ name: 'a' }] } });
  });
});

/** Prints whether the protobuf library was loaded. */
const WATCH = `import { registerHooks } from 'node:module';
let loaded = false;
registerHooks({ load(url, context, next) { loaded ||= url.includes('@bufbuild'); return next(url, context); } });
process.on('exit', () => console.log(loaded ? 'protobuf: loaded' : 'protobuf: not loaded'));`;

describe('protobuf', () => {
  const root = fileURLToPath(new URL('../../', import.meta.url));
  const validate = (config: string): string => {
    const watch = `data:text/javascript,${encodeURIComponent(WATCH)}`;
    const args = ['--import', watch, join(root, 'cli/main.ts'), 'validate', '-c', config];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', timeout: 60_000 });
    assert.equal(status, 0, stderr);
    return stdout;
  };

  test('protobuf is not loaded when all input is Kubernetes and Istio YAML', () => {
    assert.match(validate(join(root, 'examples/shop')), /protobuf: not loaded/);
  });

  test('protobuf is loaded when an Envoy bootstrap is given', (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'pillion-bootstrap-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const file = join(folder, 'envoy.yaml');
    writeFileSync(file, GOOD);
    assert.match(validate(file), /protobuf: loaded/);
  });
});

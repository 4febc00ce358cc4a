/** ring_hash and maglev choose the same host as Envoy for the same key, so that both can serve one mesh. */
import assert from 'node:assert/strict';
import { Agent, request } from 'node:http';
import { before, test } from 'node:test';
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { type EnvoyProcess, startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';

const scope = fileScope();
const skip = withoutEnvoy();
const KEYS = 250;
const agent = new Agent({ keepAlive: true });
let envoy: EnvoyProcess;
let proxy: TestProxy;

/** Clusters by name; each is reached at `/<name>`. */
function clusters(ports: readonly number[]): Record<string, Json> {
  const endpoints = (weights?: readonly number[], hostnames?: boolean): Json => ({
    load_assignment: {
      cluster_name: 'x',
      endpoints: [
        {
          lb_endpoints: ports.map((port, index) => ({
            endpoint: {
              address: { socket_address: { address: '127.0.0.1', port_value: port } },
              ...(hostnames === true && { hostname: `host-${index}.example` }),
            },
            ...(weights !== undefined && { load_balancing_weight: weights[index] }),
          })),
        },
      ],
    },
  });
  const keyed = (): Json => ({
    load_assignment: {
      cluster_name: 'x',
      endpoints: [
        {
          lb_endpoints: ports.map((port, index) => ({
            endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } },
            metadata: { filter_metadata: { 'envoy.lb': { hash_key: `shard-${index}` } } },
          })),
        },
      ],
    },
  });
  const policy = (name: string, json: Json): Json => ({
    load_balancing_policy: {
      policies: [
        {
          typed_extension_config: {
            name: `envoy.load_balancing_policies.${name}`,
            typed_config: {
              '@type': `type.googleapis.com/envoy.extensions.load_balancing_policies.${name}.v3.${name === 'maglev' ? 'Maglev' : 'RingHash'}`,
              ...json,
            },
          },
        },
      ],
    },
  });
  return {
    ring: { lb_policy: 'RING_HASH' },
    'ring-small': { lb_policy: 'RING_HASH', ring_hash_lb_config: { minimum_ring_size: '64', maximum_ring_size: '64' } },
    'ring-weighted': { lb_policy: 'RING_HASH', ...endpoints([1, 2, 3, 4, 5]) },
    'ring-hostnames': {
      type: 'STRICT_DNS',
      lb_policy: 'RING_HASH',
      common_lb_config: { consistent_hashing_lb_config: { use_hostname_for_hashing: true } },
      ...endpoints(undefined, true),
    },
    'ring-key': { lb_policy: 'RING_HASH', ...keyed() },
    'maglev-key': { lb_policy: 'MAGLEV', ...keyed() },
    'ring-typed': policy('ring_hash', { minimum_ring_size: '512' }),
    maglev: { lb_policy: 'MAGLEV' },
    'maglev-small': { lb_policy: 'MAGLEV', maglev_lb_config: { table_size: '251' } },
    'maglev-weighted': { lb_policy: 'MAGLEV', ...endpoints([1, 2, 3, 4, 5]) },
    'maglev-typed': policy('maglev', { table_size: '1009' }),
  };
}

const NAMES = Object.keys(clusters([]));

before(async () => {
  if (skip !== false) return;
  const upstreams: RawUpstream[] = [];
  for (let i = 0; i < 5; i++) upstreams.push(await RawUpstream.start(scope, answering(String(i))));
  const ports = upstreams.map(({ port }) => port);
  const resources: Resource[] = [
    httpListener({
      routes: routeConfig(
        NAMES.map((name) => ({
          match: { prefix: `/${name}/` },
          route: { cluster: name, hash_policy: [{ header: { header_name: 'x-key' } }] },
        })),
      ),
    }),
    ...Object.entries(clusters(ports)).map(([name, more]) => staticCluster(name, ports, more)),
  ];
  envoy = await startEnvoy(scope, resources);
  proxy = await startTestProxy(scope, resources);
  scope.after(() => agent.destroy());
});

/** Which upstream answers. */
function ask(port: number, path: string, key: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path, agent, headers: { 'x-key': key } }, (response) => {
      response
        .toArray()
        .then((chunks) => resolve(`${response.statusCode} ${Buffer.concat(chunks as Buffer[]).toString()}`), reject);
    });
    sent.once('error', reject).end();
  });
}

for (const name of NAMES) {
  test(`${name}: Pillion chooses the host that Envoy chooses, for ${KEYS} keys`, { skip }, async () => {
    const used = new Set<string>();
    for (let i = 0; i < KEYS; i += 10) {
      await Promise.all(
        Array.from({ length: 10 }, async (_, offset) => {
          const key = `customer-${(i + offset) * 7919}`;
          const [theirs, ours] = await Promise.all([
            ask(envoy.port('test'), `/${name}/`, key),
            ask(proxy.port(), `/${name}/`, key),
          ]);
          assert.equal(ours, theirs, key);
          used.add(ours);
        }),
      );
    }
    assert.ok(used.size >= 4, `the keys reach only ${used.size} of 5 hosts`);
  });
}

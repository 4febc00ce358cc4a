/** Envoy and Pillion accept and refuse the same bootstraps. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { describe, test } from 'node:test';
import { readBootstrap } from '../../../config/bootstrap.ts';
import { checkResource } from '../../../config/build/check.ts';
import { parseDocuments } from '../../../config/yaml_documents.ts';
import { ConfigError } from '../../../proxy/config_error.ts';
import { withoutEnvoy } from '../../support/envoy_process.ts';

type Verdict = 'accept' | 'refuse';
type Tree = Record<string, unknown>;

const TYPE = 'type.googleapis.com/envoy.extensions';
const HCM = `${TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager`;
const ROUTER = { name: 'router', typed_config: { '@type': `${TYPE}.filters.http.router.v3.Router` } };
const CORS = { name: 'cors', typed_config: { '@type': `${TYPE}.filters.http.cors.v3.Cors` } };
const SOCKET = { socket_address: { address: '127.0.0.1', port_value: 9 } };

const ofCluster = (fields: Tree): Tree => ({ static_resources: { clusters: [{ name: 'a', ...fields }] } });
const ofManager = (fields: Tree): Tree => ({
  static_resources: {
    listeners: [
      {
        name: 'a',
        address: SOCKET,
        filter_chains: [
          {
            filters: [
              {
                name: 'hcm',
                typed_config: { '@type': HCM, stat_prefix: 'a', http_filters: [ROUTER], ...ofHost({}), ...fields },
              },
            ],
          },
        ],
      },
    ],
  },
});
const ofHost = (fields: Tree): Tree => ({
  route_config: { virtual_hosts: [{ name: 'a', domains: ['*'], ...fields }] },
});
const ofRoute = (fields: Tree): Tree =>
  ofManager(ofHost({ routes: [{ match: { prefix: '/' }, direct_response: { status: 200 }, ...fields }] }));
const ofEndpoint = (endpoint: Tree): Tree =>
  ofCluster({ load_assignment: { cluster_name: 'a', endpoints: [{ lb_endpoints: [{ endpoint }] }] } });

const CASES: readonly (readonly [what: string, bootstrap: Tree, verdict: Verdict])[] = [
  ['an empty cluster', ofCluster({}), 'accept'],
  ['a manager with a virtual host', ofManager({}), 'accept'],
  ['a direct response', ofRoute({}), 'accept'],
  ['an endpoint', ofEndpoint({ address: SOCKET }), 'accept'],
  ['camelCase', { staticResources: { clusters: [{ name: 'a', connectTimeout: '1s' }] } }, 'accept'],
  ['an enum in lower case', ofCluster({ lb_policy: 'least_request' }), 'accept'],
  ['a boolean as text', ofCluster({ respect_dns_ttl: 'no' }), 'accept'],
  ['a duration as a message', ofCluster({ connect_timeout: { seconds: 1 } }), 'accept'],
  ['a number as text', ofCluster({ per_connection_buffer_limit_bytes: '10' }), 'accept'],
  ['a single cluster for a list', { static_resources: { clusters: { name: 'a' } } }, 'accept'],
  ['a single domain for a list', ofManager(ofHost({ domains: '*' })), 'accept'],
  ['an unknown field of the bootstrap', { static_resources: {}, static_resource: {} }, 'refuse'],
  ['an unknown field of a cluster', ofCluster({ connect_timout: '1s' }), 'refuse'],
  ['an unknown field in an Any', ofManager({ http_filter: [] }), 'refuse'],
  [
    'an unknown field of a filter',
    ofManager({ http_filters: [{ ...ROUTER, typed_config: { ...ROUTER.typed_config, x: 1 } }] }),
    'refuse',
  ],
  ['a list for a message', { static_resources: [] }, 'refuse'],
  ['a number for a string', ofCluster({ name: 5 }), 'refuse'],
  ['a fraction for a whole number', ofCluster({ per_connection_buffer_limit_bytes: 1.5 }), 'refuse'],
  ['a number above 32 bits', ofCluster({ per_connection_buffer_limit_bytes: 4294967296 }), 'refuse'],
  ['a negative number', ofCluster({ per_connection_buffer_limit_bytes: -1 }), 'refuse'],
  ['a duration in milliseconds', ofCluster({ connect_timeout: '250ms' }), 'refuse'],
  ['a duration of 0', ofCluster({ connect_timeout: '0s' }), 'refuse'],
  ['an unknown enum value', ofCluster({ type: 'STATIK' }), 'refuse'],
  ['an undefined enum number', ofCluster({ dns_lookup_family: 9 }), 'refuse'],
  ['two members of a oneof', ofCluster({ type: 'STATIC', cluster_type: { name: 'x' } }), 'refuse'],
  ['no name', { static_resources: { clusters: [{}] } }, 'refuse'],
  ['no load assignment for EDS names', ofCluster({ load_assignment: {} }), 'refuse'],
  ['an address without a port', ofEndpoint({ address: { socket_address: { address: '127.0.0.1' } } }), 'refuse'],
  [
    'a port above 65535',
    ofEndpoint({ address: { socket_address: { address: '127.0.0.1', port_value: 65536 } } }),
    'refuse',
  ],
  [
    'a host name where STATIC wants an address',
    ofEndpoint({ address: { socket_address: { address: 'a.test', port_value: 1 } } }),
    'refuse',
  ],
  [
    'a priority above 128',
    ofCluster({ load_assignment: { cluster_name: 'a', endpoints: [{ priority: 129 }] } }),
    'refuse',
  ],
  [
    'a ring that is too large',
    ofCluster({ lb_policy: 'RING_HASH', ring_hash_lb_config: { maximum_ring_size: 8388609 } }),
    'refuse',
  ],
  ['a health check without thresholds', ofCluster({ health_checks: [{ timeout: '1s', interval: '1s' }] }), 'refuse'],
  ['an Any without a type', ofCluster({ transport_socket: { name: 'x', typed_config: { a: 1 } } }), 'refuse'],
  [
    'an unknown transport socket',
    ofCluster({ transport_socket: { name: 'x', typed_config: { '@type': 'type.googleapis.com/x.y.Z' } } }),
    'refuse',
  ],
  [
    'a listener without an address',
    { static_resources: { listeners: [{ name: 'a', filter_chains: [{}] }] } },
    'refuse',
  ],
  ['a listener without filter chains', { static_resources: { listeners: [{ name: 'a', address: SOCKET }] } }, 'refuse'],
  ['a manager without a stat prefix', ofManager({ stat_prefix: '' }), 'refuse'],
  ['a manager without routes', ofManager({ route_config: null }), 'refuse'],
  [
    'an unknown HTTP filter',
    ofManager({ http_filters: [{ name: 'x', typed_config: { '@type': 'type.googleapis.com/x.y.Z' } }, ROUTER] }),
    'refuse',
  ],
  ['no terminal HTTP filter', ofManager({ http_filters: [CORS] }), 'refuse'],
  ['a virtual host without domains', ofManager(ofHost({ domains: [] })), 'refuse'],
  ['a domain that stands twice', ofManager(ofHost({ domains: ['a', 'a'] })), 'refuse'],
  ['a route without an action', ofRoute({ direct_response: null }), 'refuse'],
  ['a route without a match', ofRoute({ match: {} }), 'refuse'],
  ['a match of a newer kind', ofRoute({ match: { newest: 'x' } }), 'refuse'],
  ['a bad regular expression', ofRoute({ match: { safe_regex: { regex: '(' } } }), 'refuse'],
  ['a status of 99', ofRoute({ direct_response: { status: 99 } }), 'refuse'],
  [
    'weights that add up to nothing',
    ofRoute({ direct_response: null, route: { weighted_clusters: { clusters: [{ name: 'a', weight: 0 }] } } }),
    'refuse',
  ],
  [
    'a retry back-off without its base',
    ofRoute({ direct_response: null, route: { cluster: 'a', retry_policy: { retry_back_off: {} } } }),
    'refuse',
  ],
];

/** Envoy accepts these; Pillion refuses them, and says why. */
const STRICTER: readonly (readonly [what: string, bootstrap: Tree, reason: RegExp])[] = [
  ['a field in both spellings', ofCluster({ connect_timeout: '1s', connectTimeout: '2s' }), /is given twice/],
  ['no HTTP filter at all', ofManager({ http_filters: [] }), /http_filters/],
];

describe('a bootstrap', { concurrency: 4 }, () => {
  const skip = withoutEnvoy();
  for (const [what, bootstrap, verdict] of CASES) {
    test(`Pillion says ${verdict} when the bootstrap has ${what}`, async () => {
      assert.equal(...judged(await ours(bootstrap), verdict));
    });
    test(`Envoy says ${verdict} when the bootstrap has ${what}`, { skip }, async () => {
      assert.equal(...judged(await envoys(bootstrap), verdict));
    });
  }
  for (const [what, bootstrap, reason] of STRICTER) {
    test(`Pillion refuses what Envoy accepts when the bootstrap has ${what}`, async () => {
      assert.match((await ours(bootstrap)).reason, reason);
    });
    test(`Envoy still accepts it when the bootstrap has ${what}`, { skip }, async () => {
      assert.equal(...judged(await envoys(bootstrap), 'accept'));
    });
  }
});

interface Judgement {
  readonly verdict: Verdict;
  readonly reason: string;
}

function judged({ verdict, reason }: Judgement, expected: Verdict): [Verdict, Verdict, string] {
  return [verdict, expected, `${verdict}: ${reason}`];
}

async function ours(bootstrap: Tree): Promise<Judgement> {
  try {
    const [document] = parseDocuments(JSON.stringify(bootstrap), 'bootstrap.json');
    assert.ok(document !== undefined);
    for (const resource of (await readBootstrap(document)).resources) {
      const error = checkResource(resource);
      if (error !== undefined) throw error;
    }
    return { verdict: 'accept', reason: '' };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return { verdict: 'refuse', reason: error.message };
  }
}

async function envoys(bootstrap: Tree): Promise<Judgement> {
  const child = spawn(
    'envoy',
    ['--mode', 'validate', '-l', 'error', '--disable-hot-restart', '--config-yaml', JSON.stringify(bootstrap)],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let reason = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    reason += text;
  });
  const status = await new Promise((resolve) => child.on('close', resolve));
  return { verdict: status === 0 ? 'accept' : 'refuse', reason };
}

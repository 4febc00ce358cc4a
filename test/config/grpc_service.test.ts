/** Services that are reported to over gRPC: what of them is not executed is refused, whoever reports. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildGrpcTarget } from '../../config/build/grpc_service.ts';
import type { Json } from '../../config/resources.ts';
import { Fields } from '../../proxy/resource_fields.ts';

const target = (service: Json) => buildGrpcTarget(new Fields(service, 'grpc_service'));

test('a service is its cluster, with the authority and the fields that it is called with', () => {
  assert.deepEqual(
    target({
      envoy_grpc: { cluster_name: 'logs' },
      initial_metadata: [{ key: 'X-Team', value: 'shop' }, { key: 'e' }],
    }),
    {
      cluster: 'logs',
      authority: 'logs',
      headers: [
        ['x-team', 'shop'],
        ['e', ''],
      ],
    },
  );
  assert.equal(target({ envoy_grpc: { cluster_name: 'logs', authority: 'a' } }).authority, 'a');
});

const REFUSED: readonly (readonly [service: Json, path: string])[] = [
  [{}, 'grpc_service.envoy_grpc'],
  [{ envoy_grpc: {} }, 'grpc_service.envoy_grpc.cluster_name'],
  [{ envoy_grpc: { cluster_name: 'c' }, retry_policy: {} }, 'grpc_service.retry_policy'],
  [{ envoy_grpc: { cluster_name: 'c', retry_policy: {} } }, 'grpc_service.envoy_grpc.retry_policy'],
  [{ envoy_grpc: { cluster_name: 'c', skip_envoy_headers: true } }, 'grpc_service.envoy_grpc.skip_envoy_headers'],
  [
    { envoy_grpc: { cluster_name: 'c' }, initial_metadata: [{ key: 'a', raw_value: 'Yg==' }] },
    'grpc_service.initial_metadata[0].raw_value',
  ],
];

for (const [service, path] of REFUSED) {
  test(`${path} is refused by name`, () => {
    assert.throws(() => target(service), { name: 'ConfigError', path });
  });
}

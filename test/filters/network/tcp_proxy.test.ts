/** What a TCP proxy's configuration refuses, and how; what it does is tested in test/integration/tcp_proxy.test.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkResource } from '../../../config/build/check.ts';
import type { Json } from '../../../config/resources.ts';
import { tcpListener } from '../../support/tcp_resources.ts';

const complaint = (proxy: object): string => checkResource(tcpListener('up', { proxy: proxy as Json }))?.message ?? '';

const cases: readonly (readonly [says: string, proxy: object, complaint: RegExp])[] = [
  ['nothing is wrong', { idle_timeout: '0s', max_connect_attempts: 3 }, /^$/],
  ['no stat_prefix is given', { stat_prefix: '' }, /stat_prefix: is required/],
  ['no cluster is named', { cluster: undefined }, /cluster: is required/],
  [
    'cluster and weights are given',
    { weighted_clusters: { clusters: [{ name: 'a', weight: 1 }] } },
    /exclude each other/,
  ],
  [
    'a weight is missing',
    { cluster: undefined, weighted_clusters: { clusters: [{ name: 'a' }] } },
    /weighted_clusters\.clusters\[0\]\.weight: is required/,
  ],
  ['no weighted cluster is given', { cluster: undefined, weighted_clusters: {} }, /at least one cluster/],
  ['no attempt is allowed', { max_connect_attempts: 0 }, /max_connect_attempts: must be/],
  ['two hash policies are given', { hash_policy: [{ source_ip: {} }, { source_ip: {} }] }, /at most one hash policy/],
  ['a hash policy is empty', { hash_policy: [{}] }, /hash_policy\[0\]\.source_ip/],
  ['clusters shall come on demand', { on_demand: {} }, /on_demand: is not supported/],
  ['a tunnel has no host name', { tunneling_config: {} }, /tunneling_config\.hostname: is required/],
  [
    'a tunnel has a path without POST',
    { tunneling_config: { hostname: 'a', post_path: '/x' } },
    /post_path: needs use_post/,
  ],
  ['a tunnel names an unknown command', { tunneling_config: { hostname: '%NO%' } }, /NO/],
  ['a logger is unknown', { access_log: [{ typed_config: { '@type': 'x' } }] }, /access logger x is not supported/],
];

for (const [says, proxy, expected] of cases) {
  test(`tcp_proxy's configuration is ${expected.source === '^$' ? 'accepted' : 'refused with its field'} when ${says}`, () => {
    assert.match(complaint(proxy), expected);
  });
}

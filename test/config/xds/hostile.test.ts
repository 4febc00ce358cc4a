/** Control planes that are hostile or broken (attacks.md row 65): a NACK or a closed stream, the last good state serves. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Json } from '../../../config/resources.ts';
import { AdsServer, bytes, encode, type List, text, TYPES } from '../../support/ads_server.ts';
import { staticCluster } from '../../support/envoy_resources.ts';
import { answering, RawUpstream } from '../../support/raw_peers.ts';
import { type PushedProxy, startPushedProxy } from '../../support/pushed_proxy.ts';
import type { Scope } from '../../support/scope.ts';
import { ADS, adsListener, assignment, edsCluster, get, routesTo } from '../../support/xds_resources.ts';

const url = (list: List): string => `type.googleapis.com/${TYPES[list]}`;
const raw = (list: List, json: Json, name = String(json['name'] ?? json['cluster_name'])) => ({
  name,
  typeUrl: url(list),
  bytes: encode(TYPES[list], json),
});

interface Serving extends PushedProxy {
  readonly port: number;
}

/** A proxy that serves `l` → `r` → `c`. */
async function serving(t: Scope): Promise<Serving> {
  const upstream = await RawUpstream.start(t, answering());
  const pushed = await startPushedProxy(t, {
    first: {
      clusters: [edsCluster('c')],
      endpoints: [assignment('c', upstream.port)],
      listeners: [adsListener('l', 'r')],
      routes: [routesTo('r', 'c')],
    },
  });
  await pushed.ready;
  await pushed.ads.until('routes are answered', () => pushed.ads.answers.some(({ list }) => list === 'routes'));
  return { ...pushed, port: pushed.proxy.port('l') };
}

const stillServes = async ({ port, proxy }: Serving): Promise<void> => {
  assert.equal((await get(port)).status, 200);
  assert.deepEqual(proxy.errors, []);
};

/** What is pushed, and what the NACK says. */
const REFUSED: readonly (readonly [
  what: string,
  push: (ads: AdsServer) => Promise<{ error: string | undefined }>,
  RegExp,
])[] = [
  [
    'a resource of another type stands in the push',
    (ads) => ads.pushRaw('clusters', [{ ...raw('routes', routesTo('r', 'c')), name: 'c' }]),
    /cluster "c".*it has type ".*RouteConfiguration" in a push of envoy\.config\.cluster\.v3\.Cluster/,
  ],
  [
    'a resource is no message',
    (ads) => ads.pushRaw('clusters', [{ name: 'c', typeUrl: url('clusters'), bytes: Buffer.from([0x0a, 0x7f, 1]) }]),
    /cluster "c".*the bytes end in the middle of a field/,
  ],
  [
    'a name comes twice',
    (ads) =>
      ads.pushRaw('clusters', [raw('clusters', edsCluster('c')), raw('clusters', { name: 'c', type: 'STATIC' })]),
    /cluster "c": it is in the push twice/,
  ],
  [
    'a resource is pushed and removed at once',
    (ads) => ads.pushRaw('clusters', [raw('clusters', { name: 'c', type: 'STATIC' })], ['c']),
    /cluster "c": it is in the push twice/,
  ],
  [
    'a resource has two names',
    (ads) => ads.pushRaw('clusters', [raw('clusters', { name: 'evil', type: 'STATIC' }, 'c')]),
    /cluster "c".*its own name is "evil"/,
  ],
  [
    'a required field is missing',
    (ads) => ads.pushRaw('routes', [raw('routes', { name: 'r', virtual_hosts: [{ name: 'h' }] })]),
    /route "r".*virtual_hosts\[0\]\.domains/,
  ],
  [
    'a required oneof is not set',
    (ads) =>
      ads.pushRaw('routes', [
        raw('routes', { name: 'r', virtual_hosts: [{ name: 'h', domains: ['*'], routes: [{ match: {} }] }] }),
      ]),
    /route "r".*routes\[0\].*is required/,
  ],
  [
    'a regex is huge',
    (ads) =>
      ads.pushRaw('routes', [
        raw('routes', {
          name: 'r',
          virtual_hosts: [
            {
              name: 'h',
              domains: ['*'],
              routes: [
                { match: { safe_regex: { regex: '(((a{1,100}){1,100}){1,100}){1,100}' } }, route: { cluster: 'c' } },
              ],
            },
          ],
        }),
      ]),
    /route "r".*regex/,
  ],
  [
    'a domain is claimed twice',
    (ads) =>
      ads.pushRaw('routes', [
        raw('routes', {
          name: 'r',
          virtual_hosts: [
            { name: 'a', domains: ['*'] },
            { name: 'b', domains: ['*'] },
          ],
        }),
      ]),
    /route "r".*"\*" is taken by another virtual host/,
  ],
  [
    'an aggregate cluster contains itself',
    (ads) =>
      ads.pushRaw('clusters', [
        raw('clusters', {
          name: 'circle',
          cluster_type: {
            name: 'envoy.clusters.aggregate',
            typed_config: {
              '@type': 'type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig',
              clusters: ['circle'],
            },
          },
        }),
      ]),
    /cluster "circle"/,
  ],
  [
    'a listener’s address is none',
    (ads) =>
      ads.pushRaw('listeners', [
        raw('listeners', {
          ...adsListener('x', 'r'),
          address: { socket_address: { address: 'not an ip', port_value: 1 } },
        }),
      ]),
    /listener "x".*an IP address is wanted, got "not an ip"/,
  ],
];

describe('a push is refused by name and the last good state serves', { concurrency: 2 }, () => {
  for (const [what, push, complaint] of REFUSED) {
    test(`when ${what}`, async (t) => {
      const proxy = await serving(t);
      const { error } = await push(proxy.ads);
      assert.match(error ?? 'accepted', complaint);
      await stillServes(proxy);
    });
  }
});

test('half of an update is taken over and the other half is not', async (t) => {
  const proxy = await serving(t);
  const { error } = await proxy.ads.pushRaw('clusters', [
    raw('clusters', staticCluster('good', [1]).json),
    {
      name: 'cut',
      typeUrl: url('clusters'),
      bytes: raw('clusters', staticCluster('cut', [1]).json).bytes.subarray(0, 9),
    },
  ]);
  assert.match(error ?? '', /cluster "cut"/);
  await proxy.ads.until('the good one is served', () => proxy.proxy.value('cluster_manager.active_clusters') === 2);
  await stillServes(proxy);
});

test('the stream is closed, and opened again, when what comes is no response at all', async (t) => {
  const proxy = await serving(t);
  const before = proxy.ads.nodes.length;
  proxy.ads.sendBytes(Buffer.from('GET / HTTP/1.1\r\n\r\n'));
  await proxy.ads.until('it is back', () => proxy.ads.nodes.length > before);
  assert.ok(proxy.logs.some((line) => /bytes that are no discovery response/.test(line)));
  await stillServes(proxy);
});

test('a type that nobody asked for is passed over', async (t) => {
  const proxy = await serving(t);
  const strange = Buffer.concat([
    text(1, '1'),
    text(4, 'type.googleapis.com/envoy.service.runtime.v3.Runtime'),
    text(5, 'nonce'),
    bytes(2, text(3, 'x')),
  ]);
  proxy.ads.sendBytes(strange);
  await proxy.ads.push({ clusters: [edsCluster('c', { connect_timeout: '2s' })] });
  assert.ok(
    proxy.logs.some((line) => /pushed type "type\.googleapis\.com\/envoy\.service\.runtime\.v3\.Runtime"/.test(line)),
  );
  await stillServes(proxy);
});

test('a flood of pushes is read one after the other while requests are answered', async (t) => {
  const proxy = await serving(t);
  const versions = Array.from({ length: 500 }, (_, index) => edsCluster('c', { connect_timeout: `${index + 1}s` }));
  const answers = versions.map((json) => proxy.ads.push({ clusters: [json] }));
  for (let i = 0; i < 20; i++) assert.equal((await get(proxy.port)).status, 200);
  for (const [answer] of await Promise.all(answers)) assert.equal(answer?.error, undefined);
  await stillServes(proxy);
});

test('a server that repeats what was refused is answered more slowly', async (t) => {
  const proxy = await serving(t);
  const bad = raw('clusters', { name: 'bad', type: 'STRICT_DNS' });
  assert.match((await proxy.ads.pushRaw('clusters', [bad])).error ?? '', /"bad"/);
  const startedMs = performance.now();
  assert.match((await proxy.ads.pushRaw('clusters', [bad])).error ?? '', /"bad"/);
  assert.ok(performance.now() - startedMs > 900, 'the second NACK waits a second');
  assert.equal(proxy.logs.filter((line) => line.includes('"bad"')).length, 1, 'it is logged once');
  await stillServes(proxy);
});

test('clusters that are removed and routes that forget themselves take nothing down but what names them', async (t) => {
  const proxy = await serving(t);
  await proxy.ads.push({}, { routes: ['r'], endpoints: ['c'] });
  await stillServes(proxy);
  await proxy.ads.push({}, { clusters: ['c'] });
  await proxy.ads.until('it is gone', () => proxy.proxy.value('cluster_manager.active_clusters') === 0);
  const { status } = await get(proxy.port);
  assert.equal(status, 503, 'NC: the route names a cluster that is not there');
});

test('a secret that is refused leaves its key nowhere', async (t) => {
  const ads = await AdsServer.start(t);
  const key = 'VERY-PRIVATE';
  const inline = { inline_string: key };
  const listener = adsListener('tls', 'r');
  const [chain] = listener['filter_chains'] as Json[];
  const transport_socket = {
    name: 'tls',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
      common_tls_context: { tls_certificate_sds_secret_configs: [{ name: 's', sds_config: ADS }] },
    },
  };
  const { proxy, logs } = await startPushedProxy(t, {
    ads,
    first: {
      clusters: [],
      listeners: [{ ...listener, filter_chains: [{ ...chain, transport_socket }] }],
      secrets: [{ name: 's', tls_certificate: { certificate_chain: inline, private_key: inline } }],
    },
  });
  await ads.until('it is refused', () =>
    ads.answers.some(({ list, error }) => list === 'secrets' && error !== undefined),
  );
  const dump = await (await fetch(`http://127.0.0.1:${proxy.port('admin')}/config_dump?include_eds`)).text();
  assert.match(dump, /"name": ?"tls"/, 'the listener warms');
  for (const told of [dump, logs.join('\n'), JSON.stringify(ads.answers)]) assert.ok(!told.includes(key));
});

/** Clusters of names: when they are served, how they change, whom they ask. */
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { eventually } from '../support/eventually.ts';
import { LyingDns } from '../support/lying_dns.ts';
import { PillionProcess } from '../support/pillion_process.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { resource } from '../support/static_source.ts';
import { address, ask, cares, dnsCluster, LISTENER, startUpstream, TYPE } from './dns_clusters.ts';

test('a name whose servers are silent holds no other name of its cluster up', async (t) => {
  const port = await startUpstream(t);
  const dns = await LyingDns.start(t);
  dns.addresses.set('a.example', ['127.0.0.1']);
  dns.silentFor.add('gone.example');
  const lost = await LyingDns.start(t);
  lost.mood = 'silent';
  const proxy = await startTestProxy(t, [
    LISTENER,
    dnsCluster('strict', port, dns, { names: ['a.example', 'gone.example'] }),
    dnsCluster('logical', port, lost, { more: { type: 'LOGICAL_DNS' } }),
  ]);
  assert.equal(await ask(proxy, '/strict'), '200 127.0.0.1');
  dns.addresses.set('a.example', ['127.0.0.2']);
  await eventually('the change is seen', async () => (await ask(proxy, '/strict')) === '200 127.0.0.2');
  // Nobody has ever said where that one is.
  assert.equal(await ask(proxy, '/logical'), '503 no healthy upstream');
  lost.addresses.set('logical.example', ['127.0.0.4']);
  lost.mood = 'fine';
  await eventually(
    'it is found as soon as somebody says',
    async () => (await ask(proxy, '/logical')) === '200 127.0.0.4',
  );
});

test('a proxy is ready when the names of its clusters are known, and keeps them over changes of the cluster', async (t) => {
  const port = await startUpstream(t);
  const dns = await LyingDns.start(t);
  dns.addresses.set('strict.example', ['127.0.0.1']);
  dns.mood = 'slow';
  const proxy = await startTestProxy(t, [LISTENER, dnsCluster('strict', port, dns)]);
  assert.equal(await ask(proxy, '/strict'), '200 127.0.0.1');
  dns.mood = 'silent';
  const settled = proxy.settled();
  proxy.set([LISTENER, dnsCluster('strict', port, dns, { more: { connect_timeout: '3s' } })]);
  await settled;
  assert.equal(await ask(proxy, '/strict'), '200 127.0.0.1');
  // What is gone is asked for no more, and leaves nothing behind.
  dns.mood = 'fine';
  proxy.set([LISTENER]);
  await eventually('no endpoints are left', async () => {
    const dump = await (await fetch(`http://127.0.0.1:${proxy.port('admin')}/config_dump?include_eds`)).text();
    return !dump.includes('127.0.0.1:') && !dump.includes('strict.example');
  });
  const asked = dns.asked.length;
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.ok(dns.asked.length <= asked + 1, `${dns.asked.length - asked} questions for a cluster that is gone`);
});

test('every way to name a resolver reaches it, over TCP too', async (t) => {
  const port = await startUpstream(t);
  const dns = await LyingDns.start(t);
  dns.mood = 'overTcp';
  const one = dnsCluster('strict', port, dns);
  const { typed_dns_resolver_config: _typed, type: _type, ...without } = one.json;
  const strict = { ...without, type: 'STRICT_DNS' };
  for (const [index, json] of [
    { ...strict, typed_dns_resolver_config: cares(dns) },
    { ...strict, dns_resolution_config: { resolvers: [address(dns)] } },
    { ...strict, dns_resolvers: [address(dns)] },
    {
      ...without,
      cluster_type: {
        name: 'envoy.cluster.dns',
        typed_config: {
          '@type': `${TYPE}.clusters.dns.v3.DnsCluster`,
          dns_refresh_rate: '0.05s',
          dns_lookup_family: 'V4_ONLY',
          all_addresses_in_single_endpoint: true,
          typed_dns_resolver_config: cares(dns),
        },
      },
    },
  ].entries()) {
    dns.addresses.set('strict.example', [`127.0.0.${10 + index}`]);
    const proxy = await startTestProxy(t, [LISTENER, resource('cluster', json)]);
    assert.equal(await ask(proxy, '/strict'), `200 127.0.0.${10 + index}`);
    await proxy.stop();
  }
});

test('getaddrinfo asks the system: its hosts file knows localhost', async (t) => {
  const port = await startUpstream(t);
  const dns = await LyingDns.start(t);
  const typed_dns_resolver_config = {
    name: 'envoy.network.dns_resolver.getaddrinfo',
    typed_config: {
      '@type': `${TYPE}.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig`,
      num_retries: 1,
    },
  };
  const proxy = await startTestProxy(t, [
    LISTENER,
    dnsCluster('strict', port, dns, { names: ['localhost'], more: { typed_dns_resolver_config } }),
  ]);
  assert.equal(await ask(proxy, '/strict'), '200 127.0.0.1');
  assert.deepEqual(dns.asked, []);
});

test('a ServiceEntry of resolution DNS lives through a name server that goes, with the resolver that an EnvoyFilter names', async (t) => {
  const port = await startUpstream(t);
  const dns = await LyingDns.start(t);
  dns.addresses.set('api.example.com', ['127.0.0.1']);
  const folder = mkdtempSync(join(tmpdir(), 'pillion-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(
    join(folder, 'mesh.yaml'),
    `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: default}
spec:
  hosts: [api.example.com]
  ports: [{number: ${port}, name: http, protocol: HTTP}]
  location: MESH_EXTERNAL
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web, namespace: default}
spec: {address: 127.0.0.1}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: resolver, namespace: default}
spec:
  configPatches:
  - applyTo: CLUSTER
    match: {cluster: {service: api.example.com}}
    patch:
      operation: MERGE
      value: ${JSON.stringify({ dns_refresh_rate: '0.05s', respect_dns_ttl: false, typed_dns_resolver_config: cares(dns) })}
`,
  );
  const free = [
    '--workload',
    'web.default',
    '--identity',
    'none',
    '--admin',
    '127.0.0.1:0',
    '--status',
    '127.0.0.1:0',
    '--metrics',
    '127.0.0.1:0',
  ];
  const pillion = new PillionProcess(t, ['run', folder, '--concurrency', '1', '--outbound', '127.0.0.1:0', ...free]);
  const [, outbound] = await pillion.until(/outbound listens on 127\.0\.0\.1:(\d+)/);
  const asks = (): Promise<string> =>
    new Promise((resolve, reject) => {
      const headers = { host: `api.example.com:${port}` };
      request({ port: Number(outbound), host: '127.0.0.1', headers, agent: false }, (response) => {
        response.resume().on('end', () => resolve(String(response.statusCode)));
      })
        .on('error', reject)
        .end();
    });
  await eventually('it is found', async () => (await asks()) === '200');
  for (const mood of ['nxdomain', 'servfail', 'empty'] as const) {
    dns.mood = mood;
    const asked = dns.asked.length;
    await eventually(`${mood} is met`, () => dns.asked.length >= asked + 3);
    for (let i = 0; i < 10; i++) assert.equal(await asks(), '200', mood);
  }
});

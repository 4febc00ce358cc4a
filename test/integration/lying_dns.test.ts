/** Name servers that lie, stall and flap under the clusters that ask them: requests go on being answered. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { eventually } from '../support/eventually.ts';
import { type DnsMood, LyingDns } from '../support/lying_dns.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { ask, dnsCluster, LISTENER, load, startUpstream } from './dns_clusters.ts';
import { REFUSED_PORT } from '../support/free_port.ts';

const LIES: readonly DnsMood[] = [
  'servfail',
  'nxdomain',
  'refused',
  'empty',
  'garbage',
  'wrongId',
  'wrongName',
  'truncated',
  'silent',
];

test('whatever the name server says or does not say, hosts of the last good answer go on; and what is true counts again', async (t) => {
  const port = await startUpstream(t);
  const dns = await LyingDns.start(t);
  for (const name of ['strict.example', 'logical.example']) dns.addresses.set(name, ['127.0.0.1']);
  const proxy = await startTestProxy(t, [
    LISTENER,
    dnsCluster('strict', port, dns),
    dnsCluster('logical', port, dns, { more: { type: 'LOGICAL_DNS' } }),
  ]);
  const failures = (): number =>
    Math.min(...['strict', 'logical'].map((name) => proxy.value(`cluster.${name}.update_failure`)));
  for (const mood of LIES) {
    const before = failures();
    dns.mood = mood;
    let over = false;
    const loads = ['/strict', '/logical'].map((path) => load(proxy, path, () => over));
    await eventually(`${mood} is met`, () => failures() > before);
    over = true;
    for (const answers of await Promise.all(loads)) assert.deepEqual([...answers.keys()], ['200 127.0.0.1'], mood);
  }
  assert.ok(proxy.value('cluster.strict.update_empty') >= 2, 'NXDOMAIN and no records are counted');
  assert.ok(proxy.warnings.some((text) => /^dns: Cluster "strict": Cannot resolve "strict.example": E/.test(text)));
  dns.mood = 'fine';
  for (const name of ['strict.example', 'logical.example']) dns.addresses.set(name, ['127.0.0.2']);
  for (const path of ['/strict', '/logical']) {
    await eventually(`${path} is at its new address`, async () => (await ask(proxy, path)) === '200 127.0.0.2');
  }
});

test('an address where nobody listens, and addresses that flap, cost no idempotent request', async (t) => {
  const port = await startUpstream(t);
  const dns = await LyingDns.start(t);
  // Refused at once: nobody listens on IPv4's other loopback port.
  const dead = '127.0.0.1';
  const deadPort = REFUSED_PORT;
  dns.addresses.set('strict.example', ['127.0.0.3']);
  dns.addresses.set('dead.example', [dead]);
  const endpoints = [
    { host: 'strict.example', port },
    { host: 'dead.example', port: deadPort },
  ].map(({ host, port: number }) => ({
    endpoint: { address: { socket_address: { address: host, port_value: number } } },
  }));
  const more = {
    dns_refresh_rate: '0.01s',
    load_assignment: { cluster_name: 'strict', endpoints: [{ lb_endpoints: endpoints }] },
  };
  const proxy = await startTestProxy(t, [
    LISTENER,
    dnsCluster('strict', port, dns, { more }),
    dnsCluster('logical', port, dns, {
      names: ['strict.example'],
      more: { type: 'LOGICAL_DNS', dns_refresh_rate: '0.01s' },
    }),
  ]);
  let over = false;
  const answered = [0, 0];
  const loads = ['/strict', '/logical'].map((path, index) =>
    load(
      proxy,
      path,
      () => over,
      () => {
        answered[index] = (answered[index] as number) + 1;
      },
    ),
  );
  for (let flap = 0; flap < 30; flap++) {
    const asked = dns.asked.length;
    dns.addresses.set('strict.example', flap % 3 === 0 ? ['127.0.0.1', '127.0.0.2'] : [`127.0.0.${3 + (flap % 5)}`]);
    await eventually('it is asked again', () => dns.asked.length >= asked + 3);
    // Each address is there for as long as it takes to use it.
    const before = [...answered];
    await eventually('requests went on', () =>
      answered.every((count, index) => count >= (before[index] as number) + 2),
    );
  }
  over = true;
  for (const answers of await Promise.all(loads)) {
    assert.deepEqual(
      [...answers.keys()].filter((answer) => !answer.startsWith('200 127.0.0.')),
      [],
    );
    assert.ok(answers.size > 2, 'the flapping was seen');
  }
  assert.ok(proxy.value('cluster.strict.upstream_rq_retry') > 0, 'the dead address was met');
});

test('a TTL of 0 asks at the refresh rate, another one when it is over, and never in a loop', async (t) => {
  const port = await startUpstream(t);
  const dns = await LyingDns.start(t);
  for (const name of ['strict.example', 'logical.example']) dns.addresses.set(name, ['127.0.0.1']);
  dns.ttlSeconds = 0;
  const more = { respect_dns_ttl: true, dns_refresh_rate: '0.2s' };
  await startTestProxy(t, [
    LISTENER,
    dnsCluster('strict', port, dns, { more }),
    dnsCluster('logical', port, dns, { more: { ...more, type: 'LOGICAL_DNS' } }),
  ]);
  dns.asked.length = 0;
  const startMs = performance.now();
  await eventually('both are asked for again', () => dns.asked.length >= 8);
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs > 500, `${dns.asked.length} questions in ${tookMs} ms`);
  dns.ttlSeconds = 1;
  await eventually('the TTL of 1 s is heard of', async () => {
    const before = dns.asked.length;
    await new Promise((resolve) => setTimeout(resolve, 500));
    return dns.asked.length - before <= 2;
  });
});

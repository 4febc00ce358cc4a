/** Success rates and failure percentages, each alone: five real hosts, one of which fails half its requests. */
import assert from 'node:assert/strict';
import { Agent, request } from 'node:http';
import { type TestContext, test } from 'node:test';
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { eventually } from '../support/eventually.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { SwitchedUpstream } from '../support/switched_upstream.ts';

/** No rule of this file ejects by failures in a row. */
const ALONE = {
  interval: '0.8s',
  base_ejection_time: '60s',
  max_ejection_percent: 100,
  enforcing_consecutive_5xx: 0,
  consecutive_5xx: 100_000,
  consecutive_gateway_failure: 100_000,
};
const BY_SUCCESS_RATE = {
  ...ALONE,
  enforcing_success_rate: 100,
  enforcing_failure_percentage: 0,
  success_rate_minimum_hosts: 5,
  success_rate_request_volume: 10,
  // Nobody fails that often: the other rule finds nothing.
  failure_percentage_threshold: 90,
};
const BY_FAILURES = {
  ...ALONE,
  enforcing_success_rate: 0,
  enforcing_failure_percentage: 100,
  failure_percentage_threshold: 40,
  failure_percentage_minimum_hosts: 5,
  failure_percentage_request_volume: 10,
  success_rate_request_volume: 1_000_000,
};

function resources(ports: readonly number[], outlier: Json): Resource[] {
  return [
    httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]) }),
    staticCluster('up', ports, { outlier_detection: outlier, common_lb_config: { healthy_panic_threshold: {} } }),
  ];
}

/** The first fails every other request. */
async function startHosts(t: Scope, names: string): Promise<SwitchedUpstream[]> {
  const hosts = await Promise.all([...names].map((name) => SwitchedUpstream.start(t, name)));
  let turn = 0;
  (hosts[0] as SwitchedUpstream).next = () => (turn++ % 2 === 0 ? 500 : 200);
  return hosts;
}

/** 200 requests on kept connections; whose answers they were. */
async function ask(port: number): Promise<Set<string>> {
  const agent = new Agent({ keepAlive: true, maxSockets: 4 });
  const names = new Set<string>();
  const one = (): Promise<void> =>
    new Promise((resolve, reject) => {
      request({ agent, port, host: '127.0.0.1' }, (response) => {
        response.setEncoding('latin1').on('data', (name: string) => names.add(name));
        response.on('end', resolve);
      })
        .on('error', reject)
        .end();
    });
  await Promise.all(
    Array.from({ length: 4 }, async () => {
      for (let i = 0; i < 50; i++) await one();
    }),
  );
  agent.destroy();
  return names;
}

interface Event extends Readonly<Record<string, unknown>> {
  readonly type?: string;
  readonly enforced?: boolean;
}

async function start(t: TestContext, names: string, outlier: Json) {
  const hosts = await startHosts(t, names);
  const events: (Event & { readonly level: string; readonly message: string })[] = [];
  const ports = hosts.map(({ port }) => port);
  const proxy = await startTestProxy(t, resources(ports, outlier), {
    onLog: (level, component, message, fields) => {
      if (component === 'outlier') events.push({ level, message, ...fields });
    },
  });
  const stat = (name: string): number => proxy.value(`cluster.up.outlier_detection.${name}`);
  return { hosts, proxy, events, stat, bad: `127.0.0.1:${ports[0]}` };
}

for (const [cause, outlier, words] of [
  ['success_rate', BY_SUCCESS_RATE, 'its success rate is far below that of the others'],
  ['failure_percentage', BY_FAILURES, 'too large a share of its answers are failures'],
] as const) {
  test(`${cause} alone ejects the host that fails half its requests, and says why`, async (t) => {
    const { proxy, events, stat, bad } = await start(t, 'abcde', outlier);
    await eventually('it is ejected', async () => {
      await ask(proxy.port());
      return stat(`ejections_enforced_${cause}`) === 1;
    });
    assert.deepEqual([...(await ask(proxy.port()))].sort(), ['b', 'c', 'd', 'e']);
    assert.equal(stat('ejections_active'), 1);
    assert.equal(stat('ejections_enforced_total'), 1);
    const [event] = events;
    assert.match(event?.message ?? '', new RegExp(`^Host ${bad} of cluster "up" is ejected for 60 s: ${words}$`));
    assert.equal(event?.level, 'warning');
    assert.deepEqual(
      [event?.['action'], event?.type, event?.enforced, event?.['upstream_url'], event?.['num_ejections']],
      ['eject', cause.toUpperCase(), true, bad, 1],
    );
    // The first interval may end with one failure more or less.
    assert.ok(Math.abs(Number(event?.['host_success_rate']) - 50) <= 10, `${event?.['host_success_rate']} %`);
    if (cause === 'success_rate') {
      assert.ok(Math.abs(Number(event?.['cluster_average_success_rate']) - 90) <= 3);
      assert.ok(Math.abs(Number(event?.['cluster_success_rate_ejection_threshold']) - 52) <= 10);
    }
    assert.equal(events.length, 1);
  });

  test(`${cause} enforced at 0 % finds, counts and logs, and ejects nobody`, async (t) => {
    const { proxy, events, stat, bad } = await start(t, 'abcde', { ...outlier, [`enforcing_${cause}`]: 0 });
    await eventually('it is found twice', async () => {
      await ask(proxy.port());
      return stat(`ejections_detected_${cause}`) >= 2;
    });
    assert.equal(stat('ejections_active'), 0);
    assert.equal(stat('ejections_enforced_total'), 0);
    assert.deepEqual([...(await ask(proxy.port()))].sort(), ['a', 'b', 'c', 'd', 'e']);
    const [event] = events;
    assert.match(event?.message ?? '', new RegExp(`^Host ${bad} of cluster "up" would be ejected, were it enforced: `));
    assert.deepEqual([event?.level, event?.enforced, event?.['num_ejections']], ['info', false, 0]);
  });

  test(`${cause} judges nobody among four hosts where five are wanted`, async (t) => {
    const { proxy, stat } = await start(t, 'abcd', { ...outlier, interval: '0.1s' });
    for (let i = 0; i < 3; i++) await ask(proxy.port());
    assert.equal(stat(`ejections_detected_${cause}`), 0);
  });
}

test('hosts below the request volume are not judged', async (t) => {
  const { proxy, stat } = await start(t, 'abcde', {
    ...BY_SUCCESS_RATE,
    interval: '0.1s',
    success_rate_request_volume: 100_000,
  });
  for (let i = 0; i < 3; i++) await ask(proxy.port());
  assert.equal(stat('ejections_detected_success_rate'), 0);
});

test('Envoy with the same hosts ejects the same one for the same reason', { skip: withoutEnvoy() }, async (t) => {
  for (const [cause, outlier] of [
    ['success_rate', BY_SUCCESS_RATE],
    ['failure_percentage', BY_FAILURES],
  ] as const) {
    const hosts = await startHosts(t, 'abcde');
    const envoy = await startEnvoy(
      t,
      resources(
        hosts.map(({ port }) => port),
        outlier,
      ),
    );
    const look = async (path: string): Promise<string> =>
      (await fetch(`http://127.0.0.1:${envoy.adminPort}${path}`)).text();
    await eventually(`Envoy ejects by ${cause}`, async () => {
      await ask(envoy.port('test'));
      return (await look('/stats')).includes(`cluster.up.outlier_detection.ejections_enforced_${cause}: 1`);
    });
    assert.deepEqual([...(await ask(envoy.port('test')))].sort(), ['b', 'c', 'd', 'e']);
  }
});

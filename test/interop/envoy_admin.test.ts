/** The admin interface beside that of a running Envoy 1.40, with the same static resources and the same requests. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import type { Resource } from '../../config/resources.ts';
import { type AdminReply, ask } from '../support/admin_client.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { bootstrapOf, startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { REFUSED_PORT } from '../support/free_port.ts';
import { eventually } from '../support/eventually.ts';

const skip = withoutEnvoy();
const scope = fileScope();
let ports: { readonly ours: number; readonly theirs: number };

before(async () => {
  if (skip !== false) return;
  const upstream = await RawUpstream.start(scope, answering());
  const resources: Resource[] = [
    httpListener({
      routes: {
        ...routeConfig([
          { match: { prefix: '/no' }, route: { cluster: 'refused' } },
          { match: { prefix: '/' }, route: { cluster: 'web' } },
        ]),
      },
    }),
    staticCluster('web', [upstream.port], {
      circuit_breakers: { thresholds: [{ max_connections: 7, max_retries: 9 }] },
      alt_stat_name: 'web_alt',
    }),
    staticCluster('refused', [REFUSED_PORT]),
  ];
  const envoy = await startEnvoy(scope, resources);
  const proxy = await startTestProxy(
    scope,
    resources.map((resource) => ({ ...resource, isStatic: true })),
    { bootstrap: bootstrapOf(resources) },
  );
  for (const port of [envoy.port('test'), proxy.port('test')]) {
    for (const path of ['/', '/', '/no']) await (await fetch(`http://127.0.0.1:${port}${path}`)).text();
  }
  ports = { ours: proxy.port('admin'), theirs: envoy.adminPort };
});

async function both(path: string, method = 'GET'): Promise<readonly [AdminReply, AdminReply]> {
  return Promise.all([ask(ports.ours, path, { method }), ask(ports.theirs, path, { method })]);
}

/** Paths of all fields: `a.b[].c`. */
function shape(value: unknown, path = '', found = new Set<string>()): Set<string> {
  if (Array.isArray(value)) for (const item of value) shape(item, `${path}[]`, found);
  else if (value !== null && typeof value === 'object') {
    for (const [key, item] of Object.entries(value)) shape(item, `${path}.${key}`, found);
  } else found.add(path);
  return found;
}

const json = ({ body }: AdminReply): unknown => JSON.parse(body);

test('/clusters is the same, line by line', { skip }, async () => {
  const [ours, theirs] = await both('/clusters');
  const comparable = ({ body }: AdminReply): string[] =>
    body
      .split('\n')
      // Whether a connection is still open when asked is a matter of time.
      .filter((line) => line !== '' && !/::cx_active::/.test(line))
      .sort();
  assert.deepEqual(comparable(ours), comparable(theirs));
});

test('/clusters?format=json has the same fields and values', { skip }, async () => {
  const [ours, theirs] = await both('/clusters?format=json');
  type Statuses = {
    cluster_statuses: { name: string; host_statuses: { stats: { name: string; value?: string }[] }[] }[];
  };
  const comparable = (reply: AdminReply): unknown => {
    const { cluster_statuses: all } = json(reply) as Statuses;
    for (const { host_statuses: hosts } of all) {
      for (const host of hosts) host.stats = host.stats.filter(({ name }) => name !== 'cx_active');
    }
    return all.sort((a, b) => (a.name < b.name ? -1 : 1));
  };
  assert.deepEqual(comparable(ours), comparable(theirs));
});

test('/config_dump has the same parts with the same fields', { skip }, async () => {
  const [ours, theirs] = await both('/config_dump?include_eds');
  const parts = (reply: AdminReply): Map<string, unknown> => {
    const { configs } = json(reply) as { configs: Record<string, unknown>[] };
    return new Map(
      configs.map((config) => {
        const bootstrap = config['bootstrap'] as { node?: unknown; admin?: unknown } | undefined;
        if (bootstrap !== undefined) {
          delete bootstrap.node;
          delete bootstrap.admin;
        }
        return [String(config['@type']), config];
      }),
    );
  };
  const [our, their] = [parts(ours), parts(theirs)];
  assert.deepEqual([...our.keys()].sort(), [...their.keys()].sort());
  for (const [type, part] of their) {
    // Envoy writes out defaults of endpoints: an empty health_check_config, a policy, a weight of 0.
    const extra = /health_check_config|policy|\.endpoints\[\]\.load_balancing_weight/;
    const wanted = [...shape(part)].filter((path) => !extra.test(path)).sort();
    assert.deepEqual([...shape(our.get(type))].sort(), wanted, type);
  }
});

for (const path of ['/listeners?format=json', '/memory', '/certs', '/runtime', '/init_dump']) {
  test(`${path} has the same fields`, { skip }, async () => {
    const [ours, theirs] = await both(path);
    assert.deepEqual([...shape(json(ours))].sort(), [...shape(json(theirs))].sort());
    assert.equal(ours.headers['content-type'], theirs.headers['content-type']);
  });
}

for (const [path, method] of [
  ['/ready', 'GET'],
  ['//ready', 'GET'],
  ['/%72ead%79', 'GET'],
  ['/runtime_modify', 'POST'],
  ['/hot_restart_version', 'GET'],
  ['/healthcheck/ok', 'POST'],
  ['/reopen_logs', 'POST'],
  ['/reset_counters', 'GET'],
  ['/cpuprofiler', 'POST'],
  ['/runtime_modify?a=b', 'POST'],
  ['/config_dump?resource=foo', 'GET'],
  ['/config_dump?resource=bootstrap', 'GET'],
  ['/config_dump?mask=bogus', 'GET'],
  ['/stats?filter=no_such_statistic', 'GET'],
  ['/stats?filter=^cluster.web_alt.upstream_rq_(total|200|2xx|pending_total)$', 'GET'],
  ['/stats?usedonly&filter=^cluster.refused.upstream_(cx_connect_fail|rq_503|rq_timeout)$', 'GET'],
  ['/stats?format=json&filter=^cluster.web_alt.upstream_rq_total$', 'GET'],
  ['/stats/prometheus?filter=^cluster.web_alt.upstream_rq_(total|200)$', 'GET'],
] as const) {
  test(`${method} ${path} is answered word for word`, { skip }, async () => {
    const [ours, theirs] = await both(path, method);
    assert.equal(ours.status, theirs.status);
    // Prometheus does not care which metric comes first.
    const comparable = ({ body }: AdminReply): string => body.trimEnd().split('\n').sort().join('\n');
    assert.equal(comparable(ours), comparable(theirs));
  });
}

test('histograms print in the same form', { skip }, async () => {
  // Envoy adds up its threads every five seconds.
  await eventually(
    'Envoy has added up',
    async () =>
      !(await ask(ports.theirs, '/stats?filter=^cluster.web_alt.upstream_rq_time$')).body.includes('No recorded'),
  );
  for (const query of [
    '',
    '&histogram_buckets=cumulative',
    '&histogram_buckets=disjoint',
    '&histogram_buckets=detailed',
  ]) {
    const [ours, theirs] = await both(`/stats?filter=^cluster.web_alt.upstream_rq_time$${query}`);
    const form = ({ body }: AdminReply): string =>
      body
        .replace(/^( {2}(?:totals|intervals)=).*$/gm, '$1')
        .replace(/\d+(?:\.\d+)?(?=[,)])/g, 'N')
        .replace(/\bnan\b/g, 'N');
    assert.equal(form(ours), form(theirs), query);
  }
});

test('logging answers in the form that istioctl reads', { skip }, async () => {
  const form = ({ body }: AdminReply): string[] => [
    ...new Set(body.split('\n').map((line) => line.replace(/^ {2}\w+: \w+$/, '  NAME: LEVEL'))),
  ];
  for (const query of ['', '?paths=', '?level=bogus', '?nobody=debug', '?a=b&c=d']) {
    const [ours, theirs] = await both(`/logging${query}`, 'POST');
    assert.equal(ours.status, theirs.status);
    assert.deepEqual(form(ours), form(theirs));
  }
});

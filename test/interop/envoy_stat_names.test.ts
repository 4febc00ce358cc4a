/** Every statistic that Envoy prints after the same requests is ours too, or its absence has a reason. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import type { Resource } from '../../config/resources.ts';
import { ask } from '../support/admin_client.ts';
import { startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { httpListener, staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { answering, exchange, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { ca, client, server, tlsResources, VERSIONS } from '../support/tls_log_cases.ts';
import { askOverTls, startTlsUpstream } from '../support/tls_peers.ts';
import { REFUSED_PORT } from '../support/free_port.ts';

/** By what they begin or end with. An entry that explains nothing fails the test. */
const ABSENT: readonly (readonly [names: RegExp, reason: string])[] = [
  [/http3|0_?rtt/, 'HTTP/3 and early data are not spoken'],
  [/internal_redirect/, 'redirects of hosts go to the client'],
  [/ssl\.(?:ciphers|curves)\./, "which suites and groups are chosen is each library's preference"],
  [/ssl\.sigalgs\./, 'node:tls does not say which algorithm the peer signed with'],
  [
    /(?:down|up)stream_context_secrets_not_ready$/,
    'Envoy counts for listeners what only clusters have, and the other way round',
  ],
  [/_bytes_buffered$/, 'what waits to be written is in the buffers of Node and of the kernel'],
  [
    /lb_(?:local_cluster|recalculate_zone|zone_)/,
    'hosts are chosen by priority and locality weight, not by the proxy’s own zone',
  ],
  [/lb_subsets_/, 'there where a cluster has subsets'],
  [
    /\.(?:upstream_cx_pool_overflow|upstream_cx_preconnect_skipped|upstream_queue_overloaded|upstream_rq_maintenance_mode|bind_errors|original_dst_host_invalid|default\.total_match_count)$/,
    'what it would count does not happen here',
  ],
  [/\.upstream_rq_rx_reset_no_error$/, 'counted among upstream_rq_rx_reset'],
  [
    /\.(?:assignment_\w+|update_\w+|version|warming_state)$/,
    'there where a cluster is resolved or pushed; cluster_manager.warming_clusters tells of all',
  ],
  [/^cluster\..+\.http1\./, 'fields of responses may have any names'],
  [/^http1\.(?:metadata_not_supported_error|response_flood)$/, 'what it would count does not happen here'],
  [/health_check\.(?:degraded|passive_failure|verify_cluster)$/, 'what it would count does not happen here'],
  [/outlier_detection\.ejections_detected_degradation$/, 'hosts are not ejected for being degraded'],
  [/reset_high_memory_stream/, 'memory of a stream is bounded by its watermarks'],
  [/_cx_http1_soft_drain$|_overload_disable_keepalive$/, 'counted in downstream_cx_drain_close'],
  [/rejected_via_ip_detection$/, 'there are no extensions that detect addresses'],
  [/tracing\.health_check$/, 'there is no health-check filter'],
  [/^http\.(?:admin|async-client)\./, 'admin is served by node:http, calls of our own by the clusters'],
  [/^listener\.admin\./, 'as above; its connections are counted'],
  [
    /^listener\.\w+\.(?:connections_accepted_per_socket_event|downstream_cx_overflow)$/,
    'one at a time, and no limit by runtime',
  ],
  [/extension_config_missing$/, 'a listener waits for its extensions'],
  [/main_thread\.clusters_inflated$/, 'the control thread carries no traffic'],
];

/** Values that two proxies do not share. */
const DIFFERENT: readonly (readonly [names: RegExp, reason: string])[] = [
  [/\.max_host_weight$/, 'Envoy sets it where a balancer asks for it'],
  [/tx_bytes_total$/, 'fields are spelt and ordered otherwise, and answers that were never parsed are not counted'],
  [/^cluster\.refused\.upstream_cx_destroy(?:_remote)?$/, 'a connection that never was is not destroyed'],
  [/^cluster\.up\.upstream_(?:rq_total|cx_rx_bytes_total)$/, 'health checks are requests too'],
  [
    /^(?:http\.test|listener\.plain\.http\.test)\.downstream_rq_(?:completed|http1_total|total|rx_reset|response_before_rq_complete)$/,
    'what is no HTTP is no request, and one answered before its end is not reset',
  ],
  [/downstream_cx_delayed_close_timeout$/, 'Envoy waits for clients that have nothing more to say'],
  [/ssl\.(?:curves|ciphers)\./, "each library's preference"],
];

const REQUESTS = [
  'GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n',
  'POST / HTTP/1.1\r\nhost: a\r\nx_dropped: 1\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello',
  'GET /refused HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n',
  'GET /nowhere HTTP/1.1\r\nhost: none\r\nconnection: close\r\n\r\n',
  'GET /a%2Fb HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n',
  // Answered before it is complete.
  'POST /nowhere HTTP/1.1\r\nhost: none\r\ncontent-length: 5\r\nconnection: close\r\n\r\n',
  'no HTTP\r\n\r\n',
];

const scope = fileScope();
const skip = withoutEnvoy();
let missing: string[] = [];
let theirs = new Map<string, string>();
let ours = new Map<string, string>();

function resources(upstreamPort: number, tlsPort: number, log: string): Resource[] {
  const tls = tlsResources(tlsPort, log).map((item) =>
    item.type === 'listener' ? { ...item, name: 'tls', json: { ...item.json, name: 'tls', stat_prefix: 'tls' } } : item,
  );
  const plain = httpListener({
    routes: {
      name: 'routes',
      virtual_hosts: [
        {
          name: 'a',
          domains: ['a'],
          routes: [
            { match: { prefix: '/refused' }, route: { cluster: 'refused' } },
            { match: { prefix: '/' }, route: { cluster: 'up' } },
          ],
        },
      ],
    },
    manager: {
      path_with_escaped_slashes_action: 'UNESCAPE_AND_REDIRECT',
      common_http_protocol_options: { headers_with_underscores_action: 'DROP_HEADER' },
    },
  });
  return [
    { ...plain, json: { ...plain.json, stat_prefix: 'plain' } },
    staticCluster('up', [upstreamPort], {
      outlier_detection: {},
      health_checks: [
        {
          timeout: '1s',
          interval: '5s',
          unhealthy_threshold: 2,
          healthy_threshold: 1,
          http_health_check: { path: '/' },
        },
      ],
    }),
    staticCluster('refused', [REFUSED_PORT]),
    ...tls,
  ];
}

/** Values of /stats by name; '' for what is no number. */
async function statistics(adminPort: number): Promise<Map<string, string>> {
  const { body } = await ask(adminPort, '/stats');
  return new Map(
    body
      .split('\n')
      .filter(Boolean)
      .map((line) => {
        const [, name = '', value = ''] = /^(.*?): (?:(\d+)|P0\(.*|No recorded values.*|".*")$/.exec(line) ?? [];
        return [name, value];
      }),
  );
}

before(async () => {
  if (skip !== false) return;
  const folder = mkdtempSync(join(tmpdir(), 'pillion-stats-'));
  scope.after(() => rmSync(folder, { recursive: true, force: true }));
  const upstream = await RawUpstream.start(scope, answering());
  const tls = await startTlsUpstream(scope, { cert: server.chain, key: server.key, ca: ca.pem, requestCert: true });
  const envoy = await startEnvoy(scope, resources(upstream.port, tls.port, join(folder, 'theirs')));
  const proxy = await startTestProxy(scope, resources(upstream.port, tls.port, join(folder, 'ours')));
  for (const port of [envoy.port, proxy.port]) {
    for (const request of REQUESTS) await exchange(scope, port('test'), request);
    for (const version of VERSIONS) {
      const options = { cert: client.chain, key: client.key, minVersion: version, maxVersion: version };
      const answer = await askOverTls(port('tls'), options, `GET /${version} HTTP/1.1\r\nhost: a\r\n\r\n`);
      assert.match(answer.text, /^HTTP\/1\.1 200/, answer.error ?? '');
    }
  }
  await proxy.counted();
  await eventually('what the control thread counts is there', () =>
    ['up', 'refused', ...VERSIONS].every((name) =>
      proxy.running.statistics.has(`cluster.${name}.circuit_breakers.high.rq_open`),
    ),
  );
  [theirs, ours] = [await statistics(envoy.adminPort), await statistics(proxy.port('admin'))];
  assert.ok(theirs.size > 600, `Envoy has ${theirs.size} statistics`);
  missing = [...theirs.keys()].filter((name) => !ours.has(name)).sort();
});

test('every statistic that Envoy prints is ours too, or its absence is explained', { skip }, () => {
  assert.deepEqual(
    missing.filter((name) => !ABSENT.some(([pattern]) => pattern.test(name))),
    [],
  );
});

test('every explanation explains something', { skip }, () => {
  assert.deepEqual(
    ABSENT.filter(([pattern]) => !missing.some((name) => pattern.test(name))).map(([pattern]) => String(pattern)),
    [],
  );
});

test('counters and gauges of traffic have the values that Envoy gives them', { skip }, () => {
  const compared = [...theirs].filter(
    ([name, value]) =>
      /^(?:cluster|http\.test|listener\.(?:plain|tls)|tls_inspector|http1)\./.test(name) &&
      value !== '' &&
      ours.has(name),
  );
  assert.ok(compared.length > 300, `${compared.length} are compared`);
  const different = compared.flatMap(([name, value]) =>
    ours.get(name) === value || DIFFERENT.some(([pattern]) => pattern.test(name))
      ? []
      : [`${name}: ours ${ours.get(name)}, Envoy's ${value}`],
  );
  assert.deepEqual(different, []);
});

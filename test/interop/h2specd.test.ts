/** h2specd, the conformance suite of HTTP/2 clients: each of its cases is a server; we ask it through a forward proxy. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { resource } from '../support/static_source.ts';
import { httpListener, routeConfig } from '../support/envoy_resources.ts';
import { findProgram } from '../support/find_program.ts';
import { startTestProxy } from '../support/running_proxy.ts';

const CASES = 57;
/** One port for each case from here on: h2specd counts upwards and takes what nobody else has. */
const FIRST_PORT = 24_100;
const missing = ['h2specd', 'curl'].find((name) => findProgram(name) === undefined);
const skip =
  missing === undefined
    ? false
    : `${missing} is not installed: go install github.com/summerwind/h2spec/cmd/h2specd@v2.2.1+incompatible, apt-get install curl`;

test('a cluster for HTTP/2 passes all cases of h2specd', { skip, timeout: 120_000 }, async (t) => {
  const proxy = await startTestProxy(t, [
    httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'anywhere' } }]) }),
    resource('cluster', {
      name: 'anywhere',
      lb_policy: 'CLUSTER_PROVIDED',
      cluster_type: {
        name: 'envoy.clusters.dynamic_forward_proxy',
        typed_config: {
          '@type': 'type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig',
          dns_cache_config: { name: 'cache', dns_lookup_family: 'V4_ONLY' },
        },
      },
      typed_extension_protocol_options: {
        'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
          '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
          explicit_http_config: { http2_protocol_options: {} },
        },
      },
    }),
  ]);
  const client = `curl -s -o /dev/null -m 20 -x http://127.0.0.1:${proxy.port()}`;
  const args = ['-h', '127.0.0.1', '-f', String(FIRST_PORT), '-o', '20', '-e', client];
  const { stdout } = await promisify(execFile)('h2specd', args).catch((error: { stdout: string }) => error);
  const summary = /(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed/.exec(stdout);
  assert.deepEqual(summary?.slice(1).map(Number), [CASES, CASES, 0, 0], stdout.slice(stdout.indexOf('Failures')));
  assert.deepEqual(proxy.errors, []);
});

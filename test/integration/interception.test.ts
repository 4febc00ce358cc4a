/**
 * Intercepted traffic at the data plane: what iptables redirects, to the listener of its original destination and on.
 * Network namespaces, iptables as `pillion capture` writes them, application and proxy under different users.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { type NamespaceProcess, type NetNamespace, skipWithoutNetNamespaces } from '../support/net_namespace.ts';
import { APP, ask, network, PEER, serve, startProxy } from '../support/pod_network.ts';
import { fileScope } from '../support/scope.ts';
import { listenerFilter, tcpProxy } from '../support/tcp_resources.ts';

const TYPE = 'type.googleapis.com/';
const LOG: Json = {
  name: 'log',
  typed_config: {
    '@type': `${TYPE}envoy.extensions.access_loggers.stream.v3.StdoutAccessLog`,
    log_format: {
      text_format_source: {
        inline_string: 'LOG %UPSTREAM_CLUSTER_RAW% to %DOWNSTREAM_LOCAL_ADDRESS% %PROTOCOL% %RESPONSE_CODE%\n',
      },
    },
  },
};

const address = (ip: string, port: number): Json => ({ socket_address: { address: ip, port_value: port } });
const to = (cluster: string): Json => tcpProxy({ cluster, stat_prefix: cluster, access_log: [LOG] });
const originalDst = (name: string, more: Json = {}): Json => ({
  name,
  type: 'ORIGINAL_DST',
  lb_policy: 'CLUSTER_PROVIDED',
  connect_timeout: '2s',
  ...more,
});

const http = (cluster: string): Json => ({
  name: 'envoy.filters.network.http_connection_manager',
  typed_config: {
    '@type': `${TYPE}envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`,
    stat_prefix: 'http',
    access_log: [LOG],
    route_config: {
      name: 'all',
      virtual_hosts: [{ name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, route: { cluster } }] }],
    },
    http_filters: [
      { name: 'router', typed_config: { '@type': `${TYPE}envoy.extensions.filters.http.router.v3.Router` } },
    ],
  },
});

/** What istiod sends, small: both virtual listeners, an HTTP port, a virtual IP that is the pod itself. */
const bootstrap: Json = {
  static_resources: {
    listeners: [
      {
        name: 'virtualOutbound',
        address: address('0.0.0.0', 15001),
        additional_addresses: [{ address: address('::', 15001) }],
        use_original_dst: true,
        filter_chains: [
          { name: 'blackhole', filter_chain_match: { destination_port: 15001 }, filters: [to('BlackHoleCluster')] },
          { name: 'catchall', filters: [to('PassthroughCluster')] },
        ],
      },
      {
        name: 'virtualInbound',
        address: address('0.0.0.0', 15006),
        additional_addresses: [{ address: address('::', 15006) }],
        listener_filters: [listenerFilter('original_dst')],
        filter_chains: [
          { name: 'blackhole', filter_chain_match: { destination_port: 15006 }, filters: [to('BlackHoleCluster')] },
          { name: 'all', filters: [to('InboundPassthroughCluster')] },
        ],
      },
      {
        name: '0.0.0.0_8080',
        address: address('0.0.0.0', 8080),
        bind_to_port: false,
        listener_filters: [listenerFilter('http_inspector')],
        filter_chains: [
          {
            filter_chain_match: { application_protocols: ['http/1.1', 'h2c'] },
            filters: [http('HttpPassthrough')],
          },
        ],
        default_filter_chain: { filters: [to('PassthroughCluster')] },
      },
      {
        name: '10.99.0.1_80',
        address: address('10.99.0.1', 80),
        bind_to_port: false,
        filter_chains: [{ filters: [to('self')] }],
      },
    ],
    clusters: [
      originalDst('PassthroughCluster'),
      originalDst('HttpPassthrough', {
        typed_extension_protocol_options: {
          'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
            '@type': `${TYPE}envoy.extensions.upstreams.http.v3.HttpProtocolOptions`,
            use_downstream_protocol_config: { http_protocol_options: {}, http2_protocol_options: {} },
          },
        },
      }),
      originalDst('InboundPassthroughCluster', {
        upstream_bind_config: {
          source_address: { address: '127.0.0.6', port_value: 0 },
          extra_source_addresses: [{ address: { address: '::6', port_value: 0 } }],
        },
      }),
      { name: 'BlackHoleCluster', type: 'STATIC', connect_timeout: '1s' },
      {
        name: 'self',
        type: 'STATIC',
        connect_timeout: '2s',
        load_assignment: {
          cluster_name: 'self',
          endpoints: [{ lb_endpoints: [{ endpoint: { address: address('10.77.0.2', 9000) } }] }],
        },
      },
    ],
  },
};

describe('intercepted traffic', { skip: skipWithoutNetNamespaces }, () => {
  const scope = fileScope();
  let outside: NetNamespace;
  let pod: NetNamespace;
  let proxy: NamespaceProcess;

  it('a pod is set up', async () => {
    ({ outside, pod } = network(scope));
    proxy = await startProxy(scope, pod, 'bootstrap.json', JSON.stringify(bootstrap), []);
    await Promise.all([
      serve(outside, '::', 7000, 'outside'),
      serve(pod, '0.0.0.0', 9000, 'app', APP),
      serve(pod, '::', 9006, 'app6', APP),
    ]);
  });

  it('a connection to anywhere passes through and keeps its destination', async () => {
    assert.match(await ask(pod, '10.77.0.1', 7000, 'hi'), /outside hello\noutside ::ffff:10\.77\.0\.2: hi/);
  });

  it('a server outside may speak first', async () => {
    assert.match(await ask(pod, '10.77.0.1', 7000), /outside hello/);
  });

  it('a connection over IPv6 passes through and keeps its destination', async () => {
    assert.match(await ask(pod, 'fd77::1', 7000, 'hi'), /outside hello\noutside fd77::2: hi/);
  });

  it('a connection from outside reaches the application, from 127.0.0.6', async () => {
    assert.match(await ask(outside, '10.77.0.2', 9000, 'hi'), /app hello\napp 127\.0\.0\.6: hi/);
  });

  it('a connection from outside over IPv6 reaches the application, from ::6', async () => {
    assert.match(await ask(outside, 'fd77::2', 9006, 'hi'), /app6 hello\napp6 ::6: hi/);
  });

  it('a pod that calls itself by a virtual IP goes out and comes in again', async () => {
    assert.match(await ask(pod, '10.99.0.1', 80, 'hi'), /app hello\napp 127\.0\.0\.6: hi/);
  });

  it('the application talks to itself on loopback without the proxy', async () => {
    assert.match(await ask(pod, '127.0.0.1', 9000, 'hi'), /app 127\.0\.0\.1: hi/);
  });

  for (const [version, flags] of [
    ['HTTP/1.1', ['--http1.1']],
    ['HTTP/2', ['--http2-prior-knowledge']],
  ] as const) {
    it(`${version} is recognised on a port that carries anything, and goes where it was going`, async () => {
      const echo = outside.start([process.execPath, PEER, version === 'HTTP/2' ? 'h2' : 'h1', '10.77.0.1', '8080']);
      await echo.until(/serving/);
      const body = pod.run(['curl', '-s', ...flags, '--max-time', '30', 'http://10.77.0.1:8080/abc'], { id: APP });
      assert.equal(body, `${version} /abc`);
      echo.child.kill('SIGKILL');
    });
  }

  it('whoever dials the proxy itself is not sent in circles', async () => {
    assert.match(await ask(outside, '10.77.0.2', 15006, 'hi'), /closed without a word|error ECONNRESET/);
    assert.match(await ask(pod, '10.77.0.2', 15001, 'hi'), /closed without a word|error ECONNRESET/);
    assert.match(await ask(pod, '127.0.0.1', 15001, 'hi'), /closed without a word|error ECONNRESET/);
    assert.match(await ask(pod, '10.77.0.1', 7000), /outside hello/);
  });

  it('the log says where each connection was going, and by which cluster it went', async () => {
    for (const line of [
      /LOG PassthroughCluster to 10\.77\.0\.1:7000/,
      /LOG PassthroughCluster to \[fd77::1\]:7000/,
      /LOG InboundPassthroughCluster to 10\.77\.0\.2:9000/,
      /LOG InboundPassthroughCluster to \[fd77::2\]:9006/,
      /LOG self to 10\.99\.0\.1:80/,
      /LOG HttpPassthrough to 10\.77\.0\.1:8080 HTTP\/1\.1 200/,
      /LOG HttpPassthrough to 10\.77\.0\.1:8080 HTTP\/2 200/,
      /LOG BlackHoleCluster/,
    ]) {
      await proxy.until(line);
    }
  });
});

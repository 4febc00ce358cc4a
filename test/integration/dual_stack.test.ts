/** Hosts and listeners of several addresses, on both loopbacks: which one is used, and what logs and statistics say. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { describe, it } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { ask as askAdmin } from '../support/admin_client.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { LyingDns } from '../support/lying_dns.ts';
import { LogFile, startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';
import { byteClient, ByteServer, readBytes, tcpListener } from '../support/tcp_resources.ts';
import { dnsCluster } from './dns_clusters.ts';

const at = (address: string, port: number): Json => ({ socket_address: { address, port_value: port } });

async function serve(t: Scope, ip: string, port = 0): Promise<number> {
  const server: Server = createServer((_request, response) => response.end(ip)).listen(port, ip);
  await once(server, 'listening');
  t.after(() => server.close());
  return (server.address() as { port: number }).port;
}

const cluster = (name: string, first: Json, ...others: Json[]): ReturnType<typeof staticCluster> =>
  staticCluster(name, [], {
    load_assignment: {
      cluster_name: name,
      endpoints: [
        {
          lb_endpoints: [
            { endpoint: { address: first, additional_addresses: others.map((address) => ({ address })) } },
          ],
        },
      ],
    },
  });

const ask = async (proxy: TestProxy, host = '127.0.0.1', name = 'test'): Promise<string> => {
  const response = await fetch(`http://${host}:${proxy.port(name)}/`);
  return `${response.status} ${await response.text()}`;
};

const clustersOf = async (proxy: TestProxy): Promise<string> => (await askAdmin(proxy.port('admin'), '/clusters')).body;

describe('a host of several addresses', () => {
  it('is reached at the one that answers, and the log says at which', async (t) => {
    const port = await serve(t, '127.0.0.1');
    const log = new LogFile(t);
    const proxy = await startTestProxy(t, [
      httpListener({
        routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]),
        manager: { access_log: [log.config('%UPSTREAM_HOST% %UPSTREAM_REMOTE_ADDRESS%\n')] },
      }),
      cluster('up', at('::1', port), at('127.0.0.1', port)),
    ]);
    assert.equal(await ask(proxy), '200 127.0.0.1');
    assert.deepEqual(await log.lines(1), [`[::1]:${port} 127.0.0.1:${port}`]);
    // One connection, that was made: an address which refused is no failure of the host.
    assert.equal(proxy.value('cluster.up.upstream_cx_total'), 1);
    assert.equal(proxy.value('cluster.up.upstream_cx_connect_fail'), 0);
    assert.match(await clustersOf(proxy), new RegExp(`up::\\[::1\\]:${port}::cx_connect_fail::0`));
  });

  it('has failed once when none of them answers', async (t) => {
    const port = await serve(t, '127.0.0.1');
    const proxy = await startTestProxy(t, [
      httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]) }),
      cluster('up', at('::1', port), at('127.0.0.2', port)),
    ]);
    assert.match(await ask(proxy), /^503 .*remote connection failure/);
    assert.equal(proxy.value('cluster.up.upstream_cx_connect_fail'), 1);
    assert.match(await clustersOf(proxy), new RegExp(`up::\\[::1\\]:${port}::cx_connect_fail::1`));
  });

  it('is reached by the TCP proxy too, whose connections count on the host', async (t) => {
    const server = await ByteServer.start(t, (socket) => socket.write('hi'));
    const proxy = await startTestProxy(t, [
      tcpListener('up'),
      tcpListener('nowhere', { name: 'nowhere' }),
      cluster('up', at('::1', server.port), at('127.0.0.1', server.port)),
      cluster('nowhere', at('::1', server.port)),
    ]);
    const client = await byteClient(t, proxy.port());
    assert.equal((await readBytes(client, 2)).toString(), 'hi');
    const refused = await byteClient(t, proxy.port('nowhere'));
    refused.resume();
    await once(refused, 'end');
    const clusters = await clustersOf(proxy);
    assert.match(clusters, new RegExp(`up::\\[::1\\]:${server.port}::cx_active::1`));
    assert.match(clusters, new RegExp(`nowhere::\\[::1\\]:${server.port}::cx_connect_fail::1`));
    assert.match(clusters, new RegExp(`nowhere::\\[::1\\]:${server.port}::cx_active::0`));
  });

  it('keeps its place when an update changes the others only', async (t) => {
    const port = await serve(t, '127.0.0.1');
    const listener = httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]) });
    const eds = resource('cluster', { name: 'up', type: 'EDS', eds_cluster_config: { eds_config: { ads: {} } } });
    const endpoints = (...others: Json[]): ReturnType<typeof resource> =>
      resource('endpoint', {
        cluster_name: 'up',
        endpoints: [
          {
            lb_endpoints: [
              {
                endpoint: {
                  address: at('::1', port),
                  ...(others.length > 0 && { additional_addresses: others.map((address) => ({ address })) }),
                },
              },
            ],
          },
        ],
      });
    const proxy = await startTestProxy(t, [listener, eds, endpoints()]);
    assert.match(await ask(proxy), /^503/);
    proxy.set([listener, eds, endpoints(at('127.0.0.1', port))]);
    await proxy.settled();
    assert.equal(await ask(proxy), '200 127.0.0.1');
    assert.equal(proxy.value('cluster.up.membership_change'), 1);
  });

  it('is one logical host of a name with several addresses, where both families are asked for', async (t) => {
    const port = await serve(t, '127.0.0.9');
    const dns = await LyingDns.start(t);
    // Nobody listens at the first; with one family alone that is where a logical host is.
    dns.addresses.set('up.example', ['127.0.0.8', '127.0.0.9']);
    const routes = ['all', 'one'].map((name) => ({ match: { prefix: `/${name}` }, route: { cluster: name } }));
    const logical = (name: string, family: string) =>
      dnsCluster(name, port, dns, { names: ['up.example'], more: { type: 'LOGICAL_DNS', dns_lookup_family: family } });
    const proxy = await startTestProxy(t, [
      httpListener({ routes: routeConfig(routes) }),
      logical('all', 'ALL'),
      logical('one', 'V4_ONLY'),
    ]);
    const at = async (path: string): Promise<string> => (await fetch(`http://127.0.0.1:${proxy.port()}${path}`)).text();
    assert.equal(await at('/all'), '127.0.0.9');
    assert.match(await at('/one'), /remote connection failure/);
    assert.equal(proxy.value('cluster.all.membership_total'), 1);
  });

  for (const [what, first, other, field] of [
    ['a name', at('::1', 80), at('localhost', 80), 'address'],
    ['a unix socket', at('::1', 80), { pipe: { path: '/x' } }, 'socket_address'],
    ['an address beside a unix socket', { pipe: { path: '/x' } }, at('::1', 80), 'socket_address'],
  ] as const) {
    it(`${what} is refused as a further address, its field named`, async (t) => {
      await assert.rejects(
        startTestProxy(t, [cluster('up', first, other)]),
        new RegExp(`additional_addresses\\[0\\].*${field}`),
      );
    });
  }
});

describe('a listener of several addresses', () => {
  const answers = (address: Json, more: Json = {}, manager: Json = {}): ReturnType<typeof httpListener> => {
    const routes = routeConfig([{ match: { prefix: '/' }, direct_response: { status: 200 } }]);
    return resource('listener', { ...httpListener({ routes, manager }).json, address, ...more });
  };

  it('takes connections at each', async (t) => {
    const free = await serve(t, '127.0.0.3');
    const proxy = await startTestProxy(t, [
      answers(at('127.0.0.1', free), {
        additional_addresses: [{ address: at('::1', free) }, { address: at('127.0.0.2', free) }],
      }),
    ]);
    for (const host of ['127.0.0.1', '[::1]', '127.0.0.2']) assert.equal(await ask(proxy, host), '200 ', host);
  });

  it('of IPv6 takes IPv4 connections where ipv4_compat says so, and only there', async (t) => {
    const log = new LogFile(t);
    const address = { socket_address: { address: '::', port_value: 0, ipv4_compat: true } };
    const format = '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%\n';
    const both = answers(address, { name: 'both' }, { access_log: [log.config(format)] });
    const proxy = await startTestProxy(t, [both, answers(at('::', 0), { name: 'v6' })]);
    assert.equal(await ask(proxy, '127.0.0.1', 'both'), '200 ');
    assert.equal(await ask(proxy, '[::1]', 'both'), '200 ');
    assert.equal(await ask(proxy, '[::1]', 'v6'), '200 ');
    await assert.rejects(ask(proxy, '127.0.0.1', 'v6'));
    // A mapped address is written as the IPv4 address that it is.
    assert.deepEqual((await log.lines(2)).sort(), ['127.0.0.1 127.0.0.1', '::1 ::1']);
  });

  it('refuses ipv4_compat on an IPv4 address', async (t) => {
    await assert.rejects(
      startTestProxy(t, [answers({ socket_address: { address: '127.0.0.1', port_value: 0, ipv4_compat: true } })]),
      /ipv4_compat/,
    );
  });
});

/** TPROXY: `pillion capture` in its transparent mode, a transparent listener, and the application that sees its client. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { type NamespaceProcess, type NetNamespace, skipWithoutNetNamespaces } from '../support/net_namespace.ts';
import { pillion, root } from '../support/pillion_process.ts';
import { APP, ask, PROXY, serve, startProxy, veth } from '../support/pod_network.ts';
import { fileScope } from '../support/scope.ts';
import { listenerFilter, tcpProxy } from '../support/tcp_resources.ts';

const address = (ip: string, port: number): Json => ({ socket_address: { address: ip, port_value: port } });

const ADMIN = ['--admin', '127.0.0.1:15000'];

/** What istiod sends a sidecar whose interception mode is TPROXY, small. */
const bootstrap: Json = {
  static_resources: {
    listeners: [
      {
        name: 'virtualOutbound',
        address: address('0.0.0.0', 15001),
        transparent: true,
        use_original_dst: true,
        filter_chains: [{ filters: [tcpProxy({ cluster: 'Passthrough' })] }],
      },
      {
        name: 'virtualInbound',
        address: address('0.0.0.0', 15006),
        additional_addresses: [{ address: address('::', 15006) }],
        transparent: true,
        listener_filters: [listenerFilter('original_dst'), listenerFilter('original_src', { mark: 1337 })],
        filter_chains: [
          { filter_chain_match: { destination_port: 15006 }, filters: [tcpProxy({ cluster: 'nowhere' })] },
          { filters: [tcpProxy({ cluster: 'Passthrough' })] },
        ],
      },
    ],
    clusters: [
      { name: 'Passthrough', type: 'ORIGINAL_DST', lb_policy: 'CLUSTER_PROVIDED', connect_timeout: '2s' },
      { name: 'nowhere', type: 'STATIC', connect_timeout: '1s' },
    ],
  },
};

describe('TPROXY', { skip: skipWithoutNetNamespaces }, () => {
  const scope = fileScope();
  const [outside, pod] = [() => made.outside, () => made.pod];
  let made: { outside: NetNamespace; pod: NetNamespace };
  let proxy: NamespaceProcess;
  const capture = (...flags: string[]): string => pod().run([pillion, 'capture', ...flags], { cwd: root });

  it('a pod is set up, its rules written once however often they are', async () => {
    made = veth(scope);
    for (let times = 0; times < 2; times++) capture('-m', 'TPROXY');
    const shown = capture('--show').split('\n');
    assert.equal(shown.filter((line) => /-j TPROXY/.test(line)).length, 2);
    assert.equal(shown.filter((line) => /MARK --set-xmark 0x53a/.test(line)).length, 4);
    assert.equal(
      pod()
        .run(['ip', '-4', 'rule', 'list'])
        .match(/fwmark 0x539 lookup 133/g)?.length,
      1,
    );
    proxy = await startProxy(scope, pod(), 'bootstrap.json', JSON.stringify(bootstrap), ADMIN, ['net_admin']);
    await Promise.all([
      serve(outside(), '10.77.0.1', 7000, 'outside'),
      serve(pod(), '10.77.0.2', 9000, 'app', APP),
      serve(pod(), 'fd77::2', 9006, 'app6', APP),
    ]);
  });

  it('the application sees the address of its client', async () => {
    assert.match(await ask(outside(), '10.77.0.2', 9000, 'hi'), /app hello\napp 10\.77\.0\.1: hi/);
  });

  it('over IPv6 too', async () => {
    assert.match(await ask(outside(), 'fd77::2', 9006, 'hi'), /app6 hello\napp6 fd77::1: hi/);
  });

  it('outbound connections go on to where they were going', async () => {
    assert.match(await ask(pod(), '10.77.0.1', 7000, 'hi'), /outside hello\noutside 10\.77\.0\.2: hi/);
  });

  it('the pod calls itself by its own address, out and in again', async () => {
    assert.match(await ask(pod(), '10.77.0.2', 9000, 'hi'), /app hello/);
  });

  it('went through the proxy, in both directions', async () => {
    const counted = pod().run(
      ['curl', '-s', 'http://127.0.0.1:15000/stats?filter=^cluster.Passthrough.upstream_cx_total$'],
      { id: PROXY },
    );
    assert.match(counted, /upstream_cx_total: 3/);
  });

  it('another mode takes its rules and routes away', async () => {
    capture();
    assert.doesNotMatch(capture('--show'), /TPROXY|mangle/);
    assert.doesNotMatch(pod().run(['ip', '-4', 'rule', 'list']), /lookup 133/);
    proxy.child.kill('SIGTERM');
  });

  it('a transparent listener says what it wants when the proxy may not have it', async () => {
    await assert.rejects(
      startProxy(scope, pod(), 'bootstrap.json', JSON.stringify(bootstrap), []),
      /Cannot listen on 0\.0\.0\.0:150\d\d: a transparent listener wants the capability NET_ADMIN/,
    );
  });
});

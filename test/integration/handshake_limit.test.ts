/** TLS handshakes under way have a ceiling over all threads: above it connections close, below it all are served again. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { unsupportedPart } from '../../config/bootstrap_support.ts';
import { MAX_PENDING_HANDSHAKES, parseOverload } from '../../proxy/overload/overload_config.ts';
import { httpListener, routeConfig } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { downstreamTls, MeshCa } from '../support/mesh_ca.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';
import { askOverTls } from '../support/tls_peers.ts';

const ca = new MeshCa();
const own = ca.issue('spiffe://cluster.local/ns/shop/sa/backend');
const client = ca.issue('spiffe://cluster.local/ns/shop/sa/frontend');
const NAME = 'pillion.resource_monitors.pending_tls_handshakes';

const monitor = (
  value: Json,
  typeUrl = 'type.googleapis.com/pillion.resource_monitors.PendingTlsHandshakes',
): Json => ({
  name: NAME,
  typed_config: { '@type': 'type.googleapis.com/xds.type.v3.TypedStruct', type_url: typeUrl, value },
});

async function start(t: Scope, most: number) {
  const plain = httpListener({
    routes: routeConfig([
      { match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'hello' } } },
    ]),
  });
  const [chain] = plain.json['filter_chains'] as Json[];
  const socket = downstreamTls({ own, roots: ca.pem, prefix: 'spiffe://cluster.local/', alpn: ['http/1.1'] });
  const proxy = await startTestProxy(
    t,
    [
      resource('listener', {
        ...plain.json,
        stat_prefix: 'test',
        filter_chains: [{ ...chain, transport_socket: socket }],
      }),
    ],
    {
      concurrency: 2,
      overloadConfig: parseOverload(
        {
          refresh_interval: '0.02s',
          resource_monitors: [monitor({ max_pending_handshakes: most })],
          actions: [
            {
              name: 'envoy.overload_actions.disable_http_keepalive',
              triggers: [{ name: NAME, threshold: { value: 1 } }],
            },
          ],
        },
        undefined,
      ),
    },
  );
  const ask = async (): Promise<string> => {
    const { text, error } = await askOverTls(proxy.port(), { cert: client.chain, key: client.key, ca: ca.pem });
    return /hello$/.test(text) ? 'served' : (error ?? 'closed');
  };
  /** Clients that connect and say nothing. */
  const silent = async (count: number): Promise<Socket[]> => {
    const sockets = Array.from({ length: count }, () => connect(proxy.port(), '127.0.0.1').on('error', () => {}));
    t.after(() => {
      for (const each of sockets) each.destroy();
    });
    await Promise.all(sockets.map((each) => once(each, 'connect')));
    return sockets;
  };
  return { proxy, ask, silent };
}

test('handshakes above the ceiling are closed and counted, over both threads, and it ends by itself', async (t) => {
  const { proxy, ask, silent } = await start(t, 6);
  assert.equal(await ask(), 'served');
  const waiting = await silent(6);
  await eventually('six are under way', () => proxy.value(`overload.${NAME}.pressure`) === 100);
  assert.equal(proxy.value('overload.envoy.overload_actions.disable_http_keepalive.active'), 1);
  for (let i = 0; i < 5; i++) assert.notEqual(await ask(), 'served');
  await proxy.counted();
  assert.equal(proxy.value('listener.test.ssl.handshake_overflow'), 5);
  const admin = proxy.running.addresses.get('admin');
  assert.equal((await fetch(`http://127.0.0.1:${admin?.port}/ready`)).status, 200);
  waiting[0]?.destroy();
  await eventually('there is room for one', async () => (await ask()) === 'served');
  for (const socket of waiting) socket.destroy();
  await eventually('none is under way', () => proxy.value(`overload.${NAME}.pressure`) === 0);
  for (let i = 0; i < 10; i++) assert.equal(await ask(), 'served');
  await eventually('what was served is not', () => proxy.value(`overload.${NAME}.pressure`) === 0);
  assert.deepEqual(proxy.errors, []);
});

test('handshakes of a thread that died are under way no longer', async (t) => {
  const { proxy, ask, silent } = await start(t, 4);
  await silent(4);
  await eventually('all are under way', () => proxy.value(`overload.${NAME}.pressure`) === 100);
  await Promise.all([proxy.running.threads.kill(0), proxy.running.threads.kill(1)]);
  await eventually('others take their places', async () => (await ask()) === 'served');
  await eventually('none is under way', () => proxy.value(`overload.${NAME}.pressure`) === 0);
});

test('there is a ceiling without a monitor, and what is not one is refused', () => {
  assert.equal(parseOverload(undefined, undefined).maxHandshakes, MAX_PENDING_HANDSHAKES);
  assert.equal(parseOverload({ resource_monitors: [monitor({})] }, undefined).maxHandshakes, MAX_PENDING_HANDSHAKES);
  const sentence = (...given: Parameters<typeof monitor>): string | undefined =>
    unsupportedPart({ overload_manager: { resource_monitors: [monitor(...given)] } })?.sentence;
  assert.match(sentence({ max_pending_handshakes: 0 }) ?? '', /max_pending_handshakes: must be 1 to 4294967295, got 0/);
  assert.match(sentence({}, 'type.googleapis.com/mine') ?? '', /type_url: resource monitor .*mine is not supported/);
});

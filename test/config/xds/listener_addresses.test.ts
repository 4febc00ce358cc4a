/** Addresses of pushed listeners: what cannot be bound is in the NACK, and the last good version goes on. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { test } from 'node:test';
import type { Json } from '../../../config/resources.ts';
import { answering, RawUpstream } from '../../support/raw_peers.ts';
import { type PushedOptions, type PushedProxy, startPushedProxy } from '../../support/pushed_proxy.ts';
import type { Scope } from '../../support/scope.ts';
import { adsListener, assignment, edsCluster, get, routesTo } from '../../support/xds_resources.ts';
import { freePort } from '../../support/free_port.ts';

const at = (port: number, name: string, route = 'r', ip = '127.0.0.1'): Json => ({
  ...adsListener(name, route),
  address: { socket_address: { address: ip, port_value: port } },
});

/** A port that another program holds; `close` lets it go. */
async function taken(t: Scope): Promise<{ port: number; close(): Promise<void> }> {
  const server: Server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const close = async (): Promise<void> => {
    server.close();
    await once(server, 'close');
  };
  t.after(() => server.close());
  return { port: (server.address() as { port: number }).port, close };
}

async function serving(t: Scope, listeners: readonly Json[], options: PushedOptions = {}): Promise<PushedProxy> {
  const upstream = await RawUpstream.start(t, answering());
  const pushed = await startPushedProxy(t, {
    ...options,
    first: {
      clusters: [edsCluster('c')],
      endpoints: [assignment('c', upstream.port)],
      listeners,
      routes: [routesTo('r', 'c')],
    },
  });
  await pushed.ready;
  return pushed;
}

const listensAt = ({ ads, proxy }: PushedProxy, name: string, port: number): Promise<void> =>
  ads.until(`"${name}" listens on ${port}`, () => proxy.running.addresses.get(name)?.port === port);

for (const protocol of ['delta', 'sotw'] as const) {
  test(`a listener whose port is taken is refused by name, address and errno (${protocol})`, async (t) => {
    const other = await taken(t);
    const pushed = await serving(t, [adsListener('l', 'r'), adsListener('m', 'r')], { protocol });
    const { ads, proxy } = pushed;
    const before = proxy.port('l');
    const moved = await freePort();
    const [answer] = await ads.push({ listeners: [at(other.port, 'l'), at(moved, 'm')] });
    const { error = '' } = answer ?? {};
    assert.match(error, /Cannot use listener "l" \(xDS server /);
    assert.match(error, new RegExp(`Cannot listen on 127\\.0\\.0\\.1:${other.port}: .*\\(EADDRINUSE\\)`));
    assert.doesNotMatch(error, /listener "m"/);
    await listensAt(pushed, 'm', moved);
    assert.equal((await get(before)).status, 200, 'the last good version serves');
    assert.equal(proxy.value('listener_manager.lds.update_rejected'), 1);
    // The same again, when the port is free.
    await other.close();
    const [second] = await ads.push({ listeners: [at(other.port, 'l'), at(moved, 'm')] });
    assert.equal(second?.error, undefined);
    await listensAt(pushed, 'l', other.port);
    assert.equal((await get(other.port)).status, 200);
  });
}

test('an address that this machine does not have is refused', async (t) => {
  const { ads } = await serving(t, [adsListener('l', 'r')]);
  const [answer] = await ads.push({ listeners: [at(0, 'far', 'r', '203.0.113.7')] });
  assert.match(answer?.error ?? '', /listener "far".*203\.0\.113\.7:0.*\(EADDRNOTAVAIL\)/);
});

test('the address of another listener is refused, whether that one serves, warms or comes in the same push', async (t) => {
  const pushed = await serving(t, [adsListener('l', 'r')]);
  const { ads, proxy } = pushed;
  const held = (await freePort()) as number;
  const [a] = await ads.push({ listeners: [at(held, 'a'), at(held, 'b')] });
  assert.match(a?.error ?? '', new RegExp(`listener "b".*: listener "a" listens on 127\\.0\\.0\\.1:${held}`));
  await listensAt(pushed, 'a', held);
  const [c] = await ads.push({ listeners: [at(held, 'c')] });
  assert.match(c?.error ?? '', /listener "c".*: listener "a" listens on/);
  const free = await freePort();
  const [d] = await ads.push({ listeners: [at(free, 'd', 'missing')] });
  assert.equal(d?.error, undefined, 'it warms');
  const [e] = await ads.push({ listeners: [at(free, 'e')] });
  assert.match(e?.error ?? '', /listener "e".*: listener "d" listens on/);
  assert.deepEqual(proxy.errors, []);
});

test('two listeners change places in one push, and one takes the place of another that goes', async (t) => {
  const [first, second] = [await freePort(), await freePort()];
  const pushed = await serving(t, [at(first, 'a'), at(second, 'b')]);
  const { ads, proxy } = pushed;
  await listensAt(pushed, 'b', second);
  const [answer] = await ads.push({ listeners: [at(second, 'a'), at(first, 'b')] });
  assert.equal(answer?.error, undefined);
  await listensAt(pushed, 'a', second);
  await listensAt(pushed, 'b', first);
  const [next] = await ads.push({ listeners: [at(second, 'new')] }, { listeners: ['a'] });
  assert.equal(next?.error, undefined);
  await listensAt(pushed, 'new', second);
  for (const port of [first, second]) assert.equal((await get(port)).status, 200);
  assert.deepEqual(proxy.errors, []);
});

test('a listener that is refused while it warms does not disturb what warms', async (t) => {
  const other = await taken(t);
  const pushed = await serving(t, [adsListener('l', 'r')]);
  const { ads, proxy } = pushed;
  const free = await freePort();
  // Told that there are no such routes, it would serve without them.
  ads.answersByItself = false;
  await ads.push({ listeners: [at(free, 'w', 'later')] });
  const [answer] = await ads.push({ listeners: [at(other.port, 'w', 'later')] });
  assert.match(answer?.error ?? '', /listener "w".*EADDRINUSE/);
  await ads.push({ routes: [routesTo('later', 'c')] });
  await listensAt(pushed, 'w', free);
  assert.equal((await get(free)).status, 200);
  assert.deepEqual(proxy.errors, []);
});

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { describe, it } from 'node:test';
import { type SocketAddress, socketAddress } from '../../../proxy/net/connection_info.ts';
import { Deadlines } from '../../../proxy/net/deadlines.ts';
import { interleaved, openFirst } from '../../../proxy/net/happy_eyeballs.ts';
import { ListeningSocket } from '../../../proxy/net/listening_socket.ts';
import type { SocketStream } from '../../../proxy/net/socket_stream.ts';
import { eventually } from '../../support/eventually.ts';
import type { Scope } from '../../support/scope.ts';
import { REFUSED_PORT } from '../../support/free_port.ts';

const nowMs = (): number => performance.now();

interface Outcome {
  readonly stream: SocketStream | undefined;
  readonly message: string;
  readonly tookMs: number;
}

/** `delays`: what lets the next attempt begin beside the last one. */
function race(
  t: Scope,
  addresses: readonly SocketAddress[],
  delays: Pick<Deadlines, 'list'> = new Deadlines(nowMs),
): Promise<Outcome> {
  const [address, ...additional] = addresses as readonly [SocketAddress, ...SocketAddress[]];
  const startMs = nowMs();
  return new Promise((resolve) =>
    openFirst(additional, delays, {
      address,
      socket: { sourceIps: [], keepAlive: undefined },
      nowMs,
      onConnected: (stream) => {
        t.after(() => stream.close('reset'));
        resolve({ stream, message: '', tookMs: nowMs() - startMs });
      },
      onFailed: (message) => resolve({ stream: undefined, message, tookMs: nowMs() - startMs }),
    }),
  );
}

/** What connects is told; `closed` counts those that have gone again. */
async function server(t: Scope, ip: string): Promise<{ address: SocketAddress; accepted: Socket[]; closed: number }> {
  const made = createServer();
  const found = { address: socketAddress(ip, 0), accepted: [] as Socket[], closed: 0 };
  made.on('connection', (socket) => {
    found.accepted.push(socket);
    socket.on('error', () => {});
    socket.on('close', () => found.closed++);
    socket.resume();
  });
  made.listen(0, ip);
  await once(made, 'listening');
  found.address = socketAddress(ip, (made.address() as { port: number }).port);
  t.after(() => {
    for (const socket of found.accepted) socket.destroy();
    made.close();
  });
  return found;
}

/** Nobody listens there. */
const closedPort = (ip: string): SocketAddress => socketAddress(ip, REFUSED_PORT);

/** Attempts neither succeed nor fail there: the queue of a listening socket is full. */
async function deaf(t: Scope, ip: string): Promise<SocketAddress> {
  const listening = await ListeningSocket.open(ip, 0, 1, { backlog: 1 });
  t.after(() => listening.close());
  const fillers = Array.from({ length: 8 }, () => connect({ host: ip, port: listening.port }).on('error', () => {}));
  t.after(() => {
    for (const socket of fillers) socket.destroy();
  });
  await eventually(
    'the queue is full',
    () => fillers.some((socket) => socket.connecting) && fillers.some((socket) => !socket.connecting),
  );
  return socketAddress(ip, listening.port);
}

describe('openFirst', { skip: process.platform !== 'linux' && 'full queues are made on Linux' }, () => {
  it('takes the first address when it answers, and asks no other', async (t) => {
    const [first, second] = [await server(t, '::1'), await server(t, '127.0.0.1')];
    const { stream } = await race(t, [first.address, second.address]);
    assert.equal(stream?.info.remoteAddress.text, first.address.text);
    assert.equal(second.accepted.length, 0);
  });

  it('goes to the other family at once when the first address refuses', async (t) => {
    const working = await server(t, '127.0.0.1');
    // No delay is ever over: only the refusal lets it go on.
    const never = { list: () => new Deadlines(nowMs).list(86_400_000) };
    const { stream } = await race(t, [closedPort('::1'), working.address], never);
    assert.equal(stream?.info.remoteAddress.text, working.address.text);
  });

  it('goes to the other family after 300 ms when the first address is silent, and lets that one go', async (t) => {
    const working = await server(t, '::1');
    const { stream, tookMs } = await race(t, [await deaf(t, '127.0.0.1'), working.address]);
    assert.equal(stream?.info.remoteAddress.text, working.address.text);
    assert.ok(tookMs >= 290, `it took ${tookMs} ms`);
  });

  it('says why when no address is there, once', async (t) => {
    const { stream, message } = await race(t, [closedPort('::1'), closedPort('127.0.0.1')]);
    assert.equal(stream, undefined);
    assert.equal(message, 'delayed connect error: Connection refused');
  });

  it('closes what comes too late', async (t) => {
    // Both are asked; whichever is second must not stay open.
    const slow = await deaf(t, '127.0.0.1');
    const working = await server(t, '::1');
    const { stream } = await race(t, [slow, working.address, slow]);
    assert.equal(working.accepted.length, 1);
    stream?.close('flush');
    await eventually('the only connection has gone', () => working.closed === 1);
  });
});

describe('interleaved', () => {
  const order = (ips: string[], ...more: [Parameters<typeof interleaved>[1]] | []): string[] =>
    interleaved(
      ips.map((ip) => socketAddress(ip, 80)),
      ...more,
    ).map(({ ip }) => ip);

  for (const [what, ips, config, wanted] of [
    ['families take turns', ['::1', '::2', '10.0.0.1', '10.0.0.2'], undefined, ['::1', '10.0.0.1', '::2', '10.0.0.2']],
    ['the first address comes first', ['10.0.0.1', '10.0.0.2', '::1'], undefined, ['10.0.0.1', '::1', '10.0.0.2']],
    ['one family keeps its order', ['10.0.0.2', '10.0.0.1'], undefined, ['10.0.0.2', '10.0.0.1']],
    ['a family is preferred', ['10.0.0.1', '::1'], { firstFamily: 'v6', firstCount: 1 }, ['::1', '10.0.0.1']],
    [
      'two of the first family before each of the other',
      ['10.0.0.1', '10.0.0.2', '10.0.0.3', '::1', '::2'],
      { firstFamily: 'default', firstCount: 2 },
      ['10.0.0.1', '10.0.0.2', '::1', '10.0.0.3', '::2'],
    ],
  ] as const) {
    it(what, () =>
      assert.deepEqual(order([...ips], ...(config === undefined ? ([] as const) : ([config] as const))), wanted),
    );
  }
});

/** More connections than the process has descriptors for: new ones are closed, the others and the admin go on. */
import assert from 'node:assert/strict';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { PillionProcess, pillion } from '../support/pillion_process.ts';
import { tcpListener } from '../support/tcp_resources.ts';
import { ByteServer, readBytes } from '../support/tcp_resources.ts';
import { staticCluster } from '../support/envoy_resources.ts';

const skip = process.platform === 'linux' ? false : 'descriptors are counted on Linux only';
/** Room for (1,200 − 512) / 2 connections. */
const DESCRIPTORS = 1200;
const ROOM = 344;

/** Resolves when it is served (`welcome`) or refused. */
function client(port: number): Promise<Socket | undefined> {
  const socket = connect({ port, host: '127.0.0.1' });
  return new Promise((resolve) => {
    socket.once('error', () => resolve(undefined));
    socket.once('close', () => resolve(undefined));
    socket.once('readable', () => resolve(socket.read() === null ? undefined : socket));
  });
}

test('a flood of connections leaves descriptors for health, admin and those that are open', { skip }, async (t) => {
  const server = await ByteServer.start(t, (socket) => {
    socket.write('welcome');
    socket.pipe(socket);
  });
  const resources = [tcpListener('up'), staticCluster('up', [server.port])];
  const bootstrap = {
    static_resources: { listeners: [resources[0]?.json], clusters: [resources[1]?.json] },
  };
  const started = new PillionProcess(
    t,
    ['-c', `ulimit -n ${DESCRIPTORS}; exec ${pillion} -c - --concurrency 1 --admin 127.0.0.1:0`],
    { program: '/bin/sh', input: JSON.stringify(bootstrap) },
  );
  const [, admin] = await started.until(/admin listens on 127\.0\.0\.1:(\d+)/);
  const [, port] = await started.until(/test listens on 127\.0\.0\.1:(\d+)/);
  const clients: Socket[] = [];
  t.after(() => {
    for (const socket of clients) socket.destroy();
  });
  for (let round = 0; round < 10; round++) {
    const more = await Promise.all(Array.from({ length: 50 }, () => client(Number(port))));
    clients.push(...more.filter((socket) => socket !== undefined));
  }
  assert.equal(clients.length, ROOM);
  assert.equal((await fetch(`http://127.0.0.1:${admin}/ready`)).status, 200);
  const [first] = clients as [Socket];
  first.write('still');
  assert.equal((await readBytes(first, 5)).toString(), 'still');
});

/** What a kept-alive connection costs that has asked once and is silent. */
import { connect, type Socket } from 'node:net';
import type { Started } from '../peers.ts';
import { residentBytes } from '../process_cpu.ts';
import type { Work } from '../works.ts';
import type { Figures } from './figures.ts';
import { load } from './wrk.ts';

const AT_A_TIME = 50;
const SETTLE_MS = 12_000;

export async function measureIdle(running: Started, work: Work): Promise<Figures> {
  // Code and pools are warm before: what is counted is the connections'.
  await load({ url: `http://127.0.0.1:${running.port}${work.path}`, connections: AT_A_TIME, seconds: 3, core: 1 });
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const before = residentBytes([running.pid]);
  const sockets: Socket[] = [];
  const open = async (): Promise<void> => {
    while (sockets.length < work.connections) sockets.push(await ask(running.port, work.path));
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, open));
  await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
  const after = residentBytes([running.pid]);
  const connections = sockets.filter(({ destroyed }) => !destroyed).length;
  for (const socket of sockets) socket.destroy();
  return { bytesEach: (after - before) / connections, connections, megabytes: after / 1048576 };
}

function ask(port: number, path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('error', reject);
    socket.once('data', () => {
      socket.off('error', reject).on('error', () => {});
      resolve(socket);
    });
    socket.write(`GET ${path} HTTP/1.1\r\nhost: bench\r\n\r\n`);
  });
}

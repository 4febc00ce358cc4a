/** From nothing to the first connection, and memory at rest. */
import { get } from 'node:http';
import type { Started } from '../peers.ts';
import { peakResidentBytes, residentBytes } from '../process_cpu.ts';
import type { Work } from '../works.ts';
import type { Figures } from './figures.ts';

const REST_MS = 4000;

export async function measureStart(running: Started, work: Work): Promise<Figures> {
  await new Promise<void>((resolve, reject) => {
    get({ port: running.port, host: '127.0.0.1', path: work.path, agent: false }, (response) => {
      response.resume().on('end', resolve);
    }).on('error', reject);
  });
  await new Promise((resolve) => setTimeout(resolve, REST_MS));
  return {
    readyMs: running.readyMs,
    megabytes: residentBytes([running.pid]) / 1048576,
    peakMegabytes: peakResidentBytes([running.pid]) / 1048576,
  };
}

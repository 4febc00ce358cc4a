/** The DNS proxy's thread: it builds no configuration, so that names are answered while thousands of clusters arrive. */
import { readFileSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { type DnsCounts, DnsServer } from './dns_server.ts';
import type { NameTableData } from './name_table.ts';
import { readResolvConf } from './resolv_conf.ts';

export interface DnsStart {
  readonly ip: string;
  readonly port: number;
  /** Whose servers are asked for what the mesh does not know. */
  readonly resolvConfPath: string;
  readonly timeoutMs: number;
  readonly parallel: boolean;
}

export type ToDns = { readonly kind: 'table'; readonly table: NameTableData };
export type FromDns =
  | { readonly kind: 'listening'; readonly port: number }
  | { readonly kind: 'failed'; readonly message: string; readonly code: string }
  | { readonly kind: 'counts'; readonly counts: DnsCounts };

const COUNT_MS = 1000;

const port = parentPort;
if (port === null) throw new Error('dns_worker.ts is a thread: it is started by dns_thread.ts');
const send = (message: FromDns): void => port.postMessage(message);
const start = workerData as DnsStart;

const server = new DnsServer({
  ip: start.ip,
  port: start.port,
  upstream: readResolvConf(readText(start.resolvConfPath)),
  timeoutMs: start.timeoutMs,
  parallel: start.parallel,
  random: Math.random,
});
server.listen().then(
  (listening) => send({ kind: 'listening', port: listening }),
  (error: NodeJS.ErrnoException) => send({ kind: 'failed', message: error.message, code: error.code ?? '' }),
);
port.on('message', ({ table }: ToDns) => server.setTable(table));
setInterval(() => send({ kind: 'counts', counts: { ...server.counts } }), COUNT_MS).unref();

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

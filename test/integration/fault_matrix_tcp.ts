/**
 * The fault harness over TCP: what the upstream does to a connection its client sees, and nothing else; with mutual TLS on
 * both sides and without.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';
import { staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import type { ClientTls } from '../support/fault_load.ts';
import { FaultProcess, type WireMisdeed } from '../support/fault_process.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { tcpListener } from '../support/tcp_resources.ts';
import { descriptors, MatrixMesh, nothingLeft } from './fault_matrix.ts';

export interface TcpMatrixOptions {
  readonly isMutual: boolean;
  /** Of each misdeed. */
  readonly connections: number;
  readonly log: (line: string) => void;
}

const SENT = 'some bytes';
const FLOOD_BYTES = 1_000_000;
const CONCURRENCY = 6;

/** What came back, and how it ended: open (after all that was wanted), end, or an error's code. */
interface Seen {
  readonly bytes: number;
  readonly text: string;
  readonly end: string;
}

/** What each misdeed may look like. `again`: the way a connection went that the fault left alone. */
const WANTED: Readonly<Record<WireMisdeed | 'killed', (seen: Seen) => boolean>> = {
  fine: echoed,
  half503: echoed,
  slow: echoed,
  stall: ({ bytes, end }) => bytes === 0 && end === 'open',
  reset: (seen) => echoed(seen) || (seen.bytes === 0 && seen.end === 'ECONNRESET'),
  halfClose: ({ bytes, end }) => bytes === 0 && end === 'end',
  corrupt: ({ text, end }) => text === 'noise' && end === 'open',
  flood: ({ bytes, text, end }) => bytes === FLOOD_BYTES + SENT.length && /^f+$/.test(text) && end === 'open',
  // Its process died: what was echoed until then, and an end of some kind. Or there was nobody to connect to.
  killed: (seen) => echoed(seen) || seen.end !== 'open',
};

function echoed({ text, end }: Seen): boolean {
  return text === SENT && end === 'open';
}

/** How much is waited for; 0: as much as comes until a while has passed in silence. */
const BYTES: Readonly<Record<WireMisdeed | 'killed', number>> = {
  fine: SENT.length,
  half503: SENT.length,
  slow: SENT.length,
  stall: 0,
  reset: SENT.length,
  halfClose: SENT.length,
  corrupt: 5,
  flood: FLOOD_BYTES + SENT.length,
  killed: SENT.length,
};
/** Of a stalled connection: nothing comes in that time. */
const SILENCE_MS = 150;

/** Node takes it, its types do not. */
const HALF_OPEN = { allowHalfOpen: true } as ConnectionOptions;

/** One connection, until so much has come. */
export async function talk(port: number, tls: ClientTls | undefined, bytesWanted: number): Promise<Seen> {
  const socket: Socket =
    tls === undefined
      ? connect({ port, host: '127.0.0.1', allowHalfOpen: true })
      : connectTls({ ...HALF_OPEN, port, host: '127.0.0.1', ...tls, checkServerIdentity: () => undefined });
  let text = '';
  const end = await new Promise<string>((resolve) => {
    socket.on('data', (piece: Buffer) => {
      text += piece.toString('latin1');
      if (bytesWanted > 0 && text.length >= bytesWanted) resolve('open');
    });
    socket.on('end', () => resolve('end'));
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
    socket.on('close', () => resolve('close'));
    socket.write(SENT);
    if (bytesWanted === 0) setTimeout(() => resolve('open'), SILENCE_MS);
  });
  if (!socket.destroyed) {
    const closed = once(socket, 'close');
    socket.destroy();
    await closed;
  }
  return { bytes: text.length, text: text.slice(-SENT.length), end };
}

export async function tcpFaultMatrix(scope: Scope, options: TcpMatrixOptions): Promise<void> {
  const { isMutual, connections, log } = options;
  const mesh = isMutual ? new MatrixMesh() : undefined;
  const replica = await FaultProcess.start(scope, { protocol: 'tcp', tls: mesh?.node(mesh.server) });
  const listener = tcpListener('up');
  const proxy = await startTestProxy(
    scope,
    [
      mesh?.downstream(listener, []) ?? listener,
      staticCluster('up', [replica.port], mesh === undefined ? {} : { transport_socket: mesh.upstream([]) }),
    ],
    { concurrency: 2 },
  );
  const tls = mesh?.node(mesh.client);
  const round = async (misdeed: WireMisdeed | 'killed', until: Promise<void>): Promise<void> => {
    let isOver = false;
    void until.finally(() => {
      isOver = true;
    });
    const wrong: Seen[] = [];
    let talked = 0;
    await Promise.all(
      Array.from({ length: CONCURRENCY }, async () => {
        while (talked < connections || !isOver) {
          talked++;
          const seen = await talk(proxy.port(), tls, BYTES[misdeed]);
          if (!WANTED[misdeed](seen)) wrong.push(seen);
        }
      }),
    );
    log(`tcp${isMutual ? ' over mTLS' : ''}, ${misdeed}: ${talked} connections`);
    assert.deepEqual(wrong, [], misdeed);
  };
  await round('fine', Promise.resolve());
  await eventually('they are gone', () => proxy.value('cluster.up.upstream_cx_active') === 0);
  const before = descriptors();
  for (const misdeed of Object.keys(WANTED) as (WireMisdeed | 'killed')[]) {
    // One is about answers, the other comes last.
    if (misdeed === 'half503' || misdeed === 'killed') continue;
    await replica.behave(misdeed);
    await round(misdeed, Promise.resolve());
  }
  await replica.behave('fine');
  await round(
    'killed',
    replica.kill().then(() => replica.restart()),
  );
  await round('fine', Promise.resolve());
  await nothingLeft(proxy, before);
}

/** 1,000 streams whose readers stop: what a proxy process holds for them stays under a bound. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http2 from 'node:http2';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { FrameType, PREFACE } from '../../proxy/http2/constants.ts';
import { bootstrapOf } from '../support/envoy_process.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { frame, GET, uint32 } from '../support/http2_wire.ts';
import { PillionProcess } from '../support/pillion_process.ts';
import type { Scope } from '../support/scope.ts';

const CONNECTIONS = 10;
const STREAMS = 100;
/** A stream's window upstream and its queue downstream, 64 KiB and a frame each, and 40 KiB for all the rest. */
const BOUND_KB = CONNECTIONS * STREAMS * (64 + 64 + 16 + 16 + 40);

/** Every answer goes on for ever, as fast as it is taken. */
async function startEndless(t: Scope): Promise<number> {
  const chunk = Buffer.alloc(65_536, 'x');
  const server = http2.createServer({ settings: { maxConcurrentStreams: 2000 } });
  server.on('session', (session) => {
    session.on('error', () => {});
    t.after(() => session.destroy());
  });
  server.on('stream', (stream: http2.ServerHttp2Stream) => {
    stream.on('error', () => {});
    stream.respond({ ':status': 200 });
    const more = (): void => {
      while (!stream.destroyed && stream.write(chunk));
    };
    stream.on('drain', more);
    more();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return (server.address() as AddressInfo).port;
}

function openStopped(t: Scope, port: number): Socket {
  const socket = connect(port, '127.0.0.1');
  t.after(() => socket.destroy());
  socket.on('error', () => {});
  socket.pause();
  const wide = Buffer.concat([Buffer.from([0, 4]), uint32(0x7fffffff)]);
  const streams = Array.from({ length: STREAMS }, (_, n) => frame(FrameType.HEADERS, 0x5, 2 * n + 1, GET));
  const widen = frame(FrameType.WINDOW_UPDATE, 0, 0, uint32(0x7fff0000 - 65_535));
  socket.write(Buffer.concat([PREFACE, frame(FrameType.SETTINGS, 0, 0, wide), widen, ...streams]));
  return socket;
}

function residentKb(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

test('1,000 streams whose readers stop hold no more memory than their windows and queues', async (t) => {
  if (process.platform !== 'linux') return t.skip('/proc is of Linux');
  const folder = mkdtempSync(join(tmpdir(), 'pillion-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const config = join(folder, 'envoy.json');
  const routes = routeConfig([{ match: { prefix: '/' }, route: { cluster: 'endless', timeout: '0s' } }]);
  const cluster = staticCluster('endless', [await startEndless(t)], {
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
  });
  writeFileSync(config, JSON.stringify(bootstrapOf([httpListener({ routes }), cluster])));
  const free = ['--admin', '127.0.0.1:0', '--status', '127.0.0.1:0', '--metrics', '127.0.0.1:0'];
  const proxy = new PillionProcess(t, ['run', '-c', config, '--concurrency', '1', ...free]);
  const [, port] = await proxy.until(/test listens on 127\.0\.0\.1:(\d+)/);
  const [, adminPort] = await proxy.until(/admin listens on 127\.0\.0\.1:(\d+)/);
  const pid = proxy.child.pid as number;
  const before = residentKb(pid);
  for (let count = 0; count < CONNECTIONS; count++) openStopped(t, Number(port));
  // Until it grows no more: everything that will be held is.
  let grown = 0;
  for (let still = 0; still < 5; ) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    const now = residentKb(pid) - before;
    still = now > grown + 512 ? 0 : still + 1;
    grown = Math.max(grown, now);
  }
  assert.ok(grown > 1000, 'the streams came');
  // Garbage is no holding: on a busy machine more of it lies about, until somebody's work has it collected.
  await eventually(`it holds no more than ${BOUND_KB} kB`, async () => {
    await (await fetch(`http://127.0.0.1:${adminPort}/stats/prometheus`)).arrayBuffer();
    return residentKb(pid) - before < BOUND_KB;
  });
  t.diagnostic(`${CONNECTIONS * STREAMS} stopped streams held ${grown} kB at the most; the bound is ${BOUND_KB} kB`);
});

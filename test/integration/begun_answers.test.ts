/**
 * An answer that had begun when its server died cannot be asked for again, in Envoy neither; one whose head had not come is.
 * Both by the byte: what the server had sent when its connection was reset.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import type { AddressInfo, Socket } from 'node:net';
import { test } from 'node:test';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { answering, RawClient, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { HTTP2, ISTIO_RETRIES } from './nothing_falls_over.ts';

/** When the head is at the client, the test lets the server die. */
interface Dying {
  readonly port: number;
  readonly asked: string[];
  die(): void;
}

type Answer = (stream: ServerHttp2Stream, die: () => void) => void;

/** The first request gets `answer`, the others `ok`. */
async function startHttp2(t: Scope, answer: Answer): Promise<Dying> {
  const sockets = new Set<Socket>();
  const asked: string[] = [];
  const die = (): void => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  const server = createServer();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => sockets.delete(socket));
  });
  server.on('sessionError', () => {});
  server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    stream.on('error', () => {});
    asked.push(String(headers[':path']));
    if (asked.length === 1) answer(stream, die);
    else {
      stream.respond({ ':status': 200, 'content-length': 2 });
      stream.end('ok');
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    die();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, asked, die };
}

function start(t: Scope, port: number, more = {}): Promise<TestProxy> {
  return startTestProxy(t, [
    httpListener({
      routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up', retry_policy: ISTIO_RETRIES } }]),
    }),
    staticCluster('up', [port], more),
  ]);
}

const GET = 'GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n';

const BEFORE: Readonly<Record<string, Answer>> = {
  'nothing of an answer': (_stream, die) => die(),
  'an interim answer': (stream, die) => {
    stream.additionalHeaders({ ':status': 103, link: '</a>' });
    setImmediate(die);
  },
  'a reset of the stream': (stream) => stream.close(2),
  'a farewell (GOAWAY) that leaves the request out': (stream, die) => {
    stream.session?.goaway(0, 0);
    setImmediate(die);
  },
};
for (const [says, answer] of Object.entries(BEFORE)) {
  test(`a request over HTTP/2 whose server had sent ${says} when it died is asked again`, async (t) => {
    const { port, asked } = await startHttp2(t, answer);
    const proxy = await start(t, port, HTTP2);
    const text = await new RawClient(t, proxy.port()).send(GET).toEnd();
    assert.match(text, /HTTP\/1\.1 200 OK\r\n(?:.+\r\n)*\r\nok$/);
    assert.ok(asked.length >= 2);
  });
}

const BEGUN: Readonly<Record<string, Answer>> = {
  'the head': (stream) => stream.respond({ ':status': 200, 'content-length': 2 }),
  'the head and half of the body': (stream) => {
    stream.respond({ ':status': 200, 'content-length': 2 });
    stream.write('o');
  },
};
for (const [says, answer] of Object.entries(BEGUN)) {
  test(`an answer over HTTP/2 of which ${says} was at the client when its server died is cut, and not asked for again`, async (t) => {
    const { port, asked, die } = await startHttp2(t, answer);
    const proxy = await start(t, port, HTTP2);
    const client = new RawClient(t, proxy.port()).send(GET);
    await client.until((text) => text.endsWith(says === 'the head' ? '\r\n\r\n' : '\r\n\r\no'));
    die();
    const text = await client.toEnd();
    assert.match(text, /^HTTP\/1\.1 200 OK\r\n/);
    assert.ok(!text.endsWith('ok'));
    assert.deepEqual(asked, ['/x']);
    assert.equal(proxy.value('cluster.up.upstream_rq_retry'), 0);
  });
}

test('a request over HTTP/1.1 of whose answer half the head had come is asked again, one whose head was whole is not', async (t) => {
  for (const [head, again] of [
    ['HTTP/1.1 200 OK\r\ncontent-len', true],
    ['HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n', false],
  ] as const) {
    let turn = 0;
    const upstream = await RawUpstream.start(t, (received, socket) => {
      if (turn++ > 0) return answering()(received, socket);
      socket.write(head);
      if (again) socket.end();
    });
    const proxy = await start(t, upstream.port);
    const client = new RawClient(t, proxy.port()).send(GET);
    if (!again) {
      await client.until((text) => text.endsWith('\r\n\r\n'));
      upstream.sockets[0]?.resetAndDestroy();
    }
    const text = await client.toEnd();
    assert.equal(text.endsWith('\r\n\r\nok'), again);
    assert.equal(upstream.received.length, again ? 2 : 1);
  }
});

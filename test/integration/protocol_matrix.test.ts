/** Every pairing of what clients and upstreams speak, with Node's own clients and servers on both sides. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { MeshCa, upstreamTls } from '../support/mesh_ca.ts';
import { fileScope, type Scope } from '../support/scope.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';

type Protocol = 'h1' | 'h2';

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, unknown>>;
  readonly body: Buffer;
  readonly trailers: Readonly<Record<string, unknown>>;
}

/** What an upstream saw is in its answer: the body comes back, trailers too, and what was asked as header fields. */
async function startEcho(t: Scope, protocol: Protocol): Promise<number> {
  const handle = (
    request: http.IncomingMessage | http2.Http2ServerRequest,
    response: http.ServerResponse | http2.Http2ServerResponse,
  ): void => {
    const answer = response as http.ServerResponse;
    answer.statusCode = request.url === '/teapot' ? 418 : 200;
    answer.setHeader('x-method', request.method ?? '');
    answer.setHeader('x-path', request.url ?? '');
    answer.setHeader('x-host', request.headers[':authority']?.toString() ?? request.headers['host'] ?? '');
    answer.setHeader('x-version', request.httpVersion);
    answer.setHeader('x-cookie', request.headers.cookie ?? '');
    if (request.method === 'HEAD') return void answer.end();
    answer.setHeader('trailer', 'x-trailer');
    request.on('data', (chunk: Buffer) => answer.write(chunk));
    request.on('end', () => {
      answer.addTrailers({ 'x-trailer': String(request.trailers['x-sum'] ?? 'none') });
      answer.end();
    });
  };
  const server = protocol === 'h1' ? http.createServer(handle) : http2.createServer(handle);
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on('session', (session: http2.ServerHttp2Session) => sessions.add(session));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const session of sessions) session.destroy();
    server.close();
    if ('closeAllConnections' in server) server.closeAllConnections();
  });
  return (server.address() as AddressInfo).port;
}

async function ask(
  protocol: Protocol,
  port: number,
  method: string,
  path: string,
  chunks: readonly Buffer[],
  fields: Record<string, string> = {},
): Promise<Answer> {
  return protocol === 'h1'
    ? askHttp1(port, method, path, chunks, fields)
    : askHttp2(port, method, path, chunks, fields);
}

async function askHttp1(
  port: number,
  method: string,
  path: string,
  chunks: readonly Buffer[],
  fields: Record<string, string>,
): Promise<Answer> {
  const hasBody = chunks.length > 0;
  const request = http.request({
    port,
    host: '127.0.0.1',
    method,
    path,
    headers: { host: 'shop.example', ...(hasBody && { trailer: 'x-sum' }), ...fields },
    agent: false,
  });
  for (const chunk of chunks) request.write(chunk);
  if (hasBody) request.addTrailers({ 'x-sum': String(chunks.length) });
  request.end();
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  const body: Buffer[] = [];
  for await (const chunk of response) body.push(chunk as Buffer);
  return {
    status: response.statusCode ?? 0,
    headers: response.headers,
    body: Buffer.concat(body),
    trailers: response.trailers,
  };
}

async function askHttp2(
  port: number,
  method: string,
  path: string,
  chunks: readonly Buffer[],
  fields: Record<string, string>,
): Promise<Answer> {
  const session = http2.connect(`http://127.0.0.1:${port}`);
  const request = session.request(
    { ':method': method, ':path': path, ':authority': 'shop.example', ...fields },
    { endStream: chunks.length === 0, waitForTrailers: true },
  );
  request.on('wantTrailers', () => request.sendTrailers({ 'x-sum': String(chunks.length) }));
  let trailers: Record<string, unknown> = {};
  request.on('trailers', (given: Record<string, unknown>) => {
    trailers = given;
  });
  const responded = once(request, 'response');
  if (chunks.length > 0) {
    for (const chunk of chunks) request.write(chunk);
    request.end();
  }
  const [headers] = (await responded) as [http2.IncomingHttpHeaders & { ':status': number }];
  const body: Buffer[] = [];
  for await (const chunk of request) body.push(chunk as Buffer);
  session.close();
  return { status: headers[':status'], headers, body: Buffer.concat(body), trailers };
}

const CLUSTERS: Readonly<Record<Protocol, Json>> = {
  h1: {},
  h2: options({ explicit_http_config: { http2_protocol_options: {} } }),
};

function options(config: Json): Json {
  return {
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        ...config,
      },
    },
  };
}

const scope = fileScope();
const upstreams: Record<Protocol, number> = { h1: await startEcho(scope, 'h1'), h2: await startEcho(scope, 'h2') };
const proxies: Record<Protocol, TestProxy> = { h1: await start('h1'), h2: await start('h2') };

function start(upstream: Protocol): Promise<TestProxy> {
  return startTestProxy(scope, [
    httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'upstream' } }]) }),
    staticCluster('upstream', [upstreams[upstream]], CLUSTERS[upstream]),
  ]);
}

for (const downstream of ['h1', 'h2'] as const) {
  for (const upstream of ['h1', 'h2'] as const) {
    const pair = `${downstream} and the upstream speaks ${upstream}`;
    const port = (): number => proxies[upstream].port();

    test(`a request and its answer pass when the client speaks ${pair}`, async () => {
      const { status, headers, body } = await ask(downstream, port(), 'GET', '/a?b=c', []);
      assert.equal(status, 200);
      assert.equal(headers['x-method'], 'GET');
      assert.equal(headers['x-path'], '/a?b=c');
      assert.equal(headers['x-host'], 'shop.example');
      assert.equal(headers['x-version'], upstream === 'h1' ? '1.1' : '2.0');
      assert.equal(headers['server'], 'envoy');
      assert.equal(body.length, 0);
    });

    test(`a body of 3 MB and trailers come back byte for byte when the client speaks ${pair}`, async () => {
      const chunks = Array.from({ length: 48 }, (_, index) =>
        Buffer.alloc(65_000 + index, String.fromCharCode(65 + index)),
      );
      const { status, body, trailers } = await ask(downstream, port(), 'POST', '/echo', chunks);
      assert.equal(status, 200);
      assert.ok(body.equals(Buffer.concat(chunks)), `${body.length} bytes came back`);
      assert.equal(trailers['x-trailer'], '48');
    });

    test(`HEAD and an odd status pass when the client speaks ${pair}`, async () => {
      const head = await ask(downstream, port(), 'HEAD', '/', []);
      assert.equal(head.status, 200);
      assert.equal(head.headers['x-method'], 'HEAD');
      assert.equal((await ask(downstream, port(), 'GET', '/teapot', [])).status, 418);
    });

    test(`cookies are one field for the upstream when the client speaks ${pair}`, async () => {
      const { headers } = await ask(downstream, port(), 'GET', '/', [], { cookie: 'a=1; b=2' });
      assert.equal(headers['x-cookie'], 'a=1; b=2');
    });

    test(`200 requests at once get their own answers when the client speaks ${pair}`, async () => {
      const answers = await Promise.all(
        Array.from({ length: 200 }, (_, index) =>
          ask(downstream, port(), 'POST', `/${index}`, [Buffer.from(`body ${index}`)]),
        ),
      );
      for (const [index, { body, headers }] of answers.entries()) {
        assert.equal(body.toString(), `body ${index}`);
        assert.equal(headers['x-path'], `/${index}`);
      }
    });
  }
}

test('a cluster with use_downstream_protocol_config speaks what the client speaks', async (t) => {
  const both = options({ use_downstream_protocol_config: { http_protocol_options: {}, http2_protocol_options: {} } });
  for (const protocol of ['h1', 'h2'] as const) {
    const proxy = await startTestProxy(t, [
      httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'upstream' } }]) }),
      staticCluster('upstream', [upstreams[protocol]], both),
    ]);
    const { headers } = await ask(protocol, proxy.port(), 'GET', '/', []);
    assert.equal(headers['x-version'], protocol === 'h1' ? '1.1' : '2.0');
    assert.equal(proxy.value(`cluster.upstream.upstream_cx_http${protocol === 'h1' ? 1 : 2}_total`), 1);
    assert.equal(proxy.value(`http.test.downstream_cx_http${protocol === 'h1' ? 1 : 2}_total`), 1);
  }
});

test('a cluster with auto_config speaks what ALPN chooses, HTTP/1.1 without', async (t) => {
  const ca = new MeshCa();
  const { chain, key } = ca.issue('spiffe://cluster.local/ns/shop/sa/backend');
  const answer = (request: http.IncomingMessage | http2.Http2ServerRequest, response: http.ServerResponse): void => {
    response.setHeader('x-version', request.httpVersion);
    response.end();
  };
  for (const [version, server] of [
    ['2.0', http2.createSecureServer({ cert: chain, key, allowHTTP1: true }, answer as never)],
    ['1.1', https.createServer({ cert: chain, key }, answer)],
  ] as const) {
    server.on('session', (session: http2.ServerHttp2Session) => t.after(() => session.destroy()));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.after(() => server.close());
    const { port } = server.address() as AddressInfo;
    const proxy = await startTestProxy(t, [
      httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'upstream' } }]) }),
      staticCluster('upstream', [port], {
        ...options({ auto_config: { http2_protocol_options: {} } }),
        transport_socket: upstreamTls({ roots: ca.pem, alpn: ['h2', 'http/1.1'] }),
      }),
    ]);
    const answers = await Promise.all(Array.from({ length: 5 }, () => ask('h2', proxy.port(), 'GET', '/', [])));
    assert.deepEqual([...new Set(answers.map(({ headers }) => headers['x-version']))], [version]);
    await proxy.counted();
    const counter = `cluster.upstream.upstream_cx_http${version === '2.0' ? 2 : 1}_total`;
    assert.ok(proxy.value(counter) >= 1, counter);
  }
});

/** Real clients and servers through the proxy: bodies, trailers, interim answers, pipelining, timeouts, back-pressure. */
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { Agent, createServer, type IncomingMessage, request as httpRequest } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { promisify } from 'node:util';
import type { Json } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { RawClient, RawUpstream } from '../support/raw_peers.ts';
import { LogFile, startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';

const scope = fileScope();
const withoutCurl =
  spawnSync('curl', ['--version']).status === 0 ? false : 'curl is not installed: apt-get install curl';
let proxy: TestProxy;
let log: LogFile;

before(async () => {
  log = new LogFile(scope);
  const server = createServer((request, response) => {
    const hash = createHash('sha256');
    let size = 0;
    request.on('data', (chunk: Buffer) => {
      hash.update(chunk);
      size += chunk.length;
    });
    request.on('end', () => {
      if (request.url === '/trailers') {
        response.writeHead(200, { trailer: 'x-sum' });
        response.write('some');
        response.addTrailers({ 'x-sum': String(size), 'x-got': String(request.trailers['x-in'] ?? '') });
        response.end('thing');
      } else if (request.url?.startsWith('/bytes/')) {
        response.end(Buffer.alloc(Number(request.url.slice(7)), 'y'));
      } else if (request.url === '/early') {
        response.writeEarlyHints({ link: '</style.css>; rel=preload' }, () => response.end('late'));
      } else
        response.end(
          JSON.stringify({ size, hash: hash.digest('hex'), method: request.method, headers: request.headers }),
        );
    });
  });
  server.keepAliveTimeout = 60_000;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  scope.after(() => server.closeAllConnections());
  scope.after(() => server.close());
  const { port } = server.address() as { port: number };

  const folder = mkdtempSync(join(tmpdir(), 'pillion-unix-'));
  scope.after(() => rmSync(folder, { recursive: true, force: true }));
  const unixPath = join(folder, 'app.sock');
  const overUnix = createServer((_request, response) => response.end('over unix'));
  overUnix.listen(unixPath);
  await once(overUnix, 'listening');
  scope.after(() => overUnix.close());
  const overIpv6 = createServer((_request, response) => response.end('over ipv6'));
  const ipv6 = await new Promise<boolean>((resolve) => {
    overIpv6.once('error', () => resolve(false));
    overIpv6.listen(0, '::1', () => resolve(true));
  });
  scope.after(() => overIpv6.close());

  const endless = await RawUpstream.start(scope, (received, socket) => {
    if (received.includes('/until-close')) socket.end('HTTP/1.1 200 OK\r\n\r\nall of it');
    else if (received.includes('/http10')) socket.end('HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok');
  });
  const silent = await RawUpstream.start(scope, () => {});
  const address = (json: Json): Json => ({
    load_assignment: { cluster_name: 'x', endpoints: [{ lb_endpoints: [{ endpoint: { address: json } }] }] },
  });
  const routes = (): Json =>
    routeConfig([
      { match: { prefix: '/until-close' }, route: { cluster: 'raw' } },
      { match: { prefix: '/http10' }, route: { cluster: 'raw' } },
      { match: { prefix: '/silent' }, route: { cluster: 'silent', timeout: '0s' } },
      { match: { prefix: '/unix' }, route: { cluster: 'unix' } },
      { match: { prefix: '/ipv6' }, route: { cluster: 'ipv6' } },
      { match: { prefix: '/original' }, route: { cluster: 'original' } },
      { match: { prefix: '/idle-route' }, route: { cluster: 'silent', timeout: '0s', idle_timeout: '0.05s' } },
      { match: { prefix: '/' }, route: { cluster: 'node', timeout: '0s' } },
    ]);
  proxy = await startTestProxy(scope, [
    httpListener({
      routes: routes(),
      manager: {
        proxy_100_continue: true,
        access_log: [log.config('%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n')],
      },
    }),
    httpListener({ name: 'stream-idle', routes: routes(), manager: { stream_idle_timeout: '0.05s' } }),
    httpListener({ name: 'request-timeout', routes: routes(), manager: { request_timeout: '0.05s' } }),
    httpListener({ name: 'headers-timeout', routes: routes(), manager: { request_headers_timeout: '0.05s' } }),
    httpListener({
      name: 'idle',
      routes: routes(),
      manager: { common_http_protocol_options: { idle_timeout: '1s' } },
    }),
    httpListener({
      name: 'lifetime',
      routes: routes(),
      manager: { common_http_protocol_options: { max_connection_duration: '1s' }, drain_timeout: '0.05s' },
    }),
    httpListener({
      name: 'two-requests',
      routes: routes(),
      manager: { common_http_protocol_options: { max_requests_per_connection: 2 } },
    }),
    httpListener({
      name: 'stream-max',
      routes: routes(),
      manager: { common_http_protocol_options: { max_stream_duration: '0.05s' } },
    }),
    staticCluster('node', [port]),
    staticCluster('raw', [endless.port]),
    staticCluster('silent', [silent.port]),
    resource('cluster', { name: 'unix', type: 'STATIC', ...address({ pipe: { path: unixPath } }) }),
    resource('cluster', {
      name: 'ipv6',
      type: 'STATIC',
      ...address({
        socket_address: { address: '::1', port_value: ipv6 ? (overIpv6.address() as { port: number }).port : 1 },
      }),
    }),
    resource('cluster', {
      name: 'original',
      type: 'ORIGINAL_DST',
      lb_policy: 'CLUSTER_PROVIDED',
      original_dst_lb_config: { use_http_header: true },
    }),
  ]);
  originalHost = `127.0.0.1:${port}`;
});

let originalHost = '';

const url = (path: string, listener = 'test'): string => `http://127.0.0.1:${proxy.port(listener)}${path}`;

test('the proxy carries 40 MB up and 40 MB down unchanged', async () => {
  const body = Buffer.alloc(40_000_000);
  for (let i = 0; i < body.length; i += 4096) body.writeUInt32BE(i, i);
  const up = await fetch(url('/up'), { method: 'POST', body });
  assert.deepEqual(
    ((await up.json()) as { size: number; hash: string }).hash,
    createHash('sha256').update(body).digest('hex'),
  );
  const down = await fetch(url('/bytes/40000000'));
  const got = Buffer.from(await down.arrayBuffer());
  assert.equal(got.length, 40_000_000);
  assert.ok(got.every((byte) => byte === 121));
});

test('the proxy stops reading from the upstream when the client reads nothing', async () => {
  const request = httpRequest(url('/bytes/200000000'));
  request.end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  response.pause();
  const rss = (): number => process.memoryUsage().rss;
  const start = rss();
  // The upstream fills what kernel and proxy hold, then waits: let it.
  await new Promise((resolve) => setTimeout(resolve, 300));
  // 200 MB are in this process already, as the upstream's buffer; a proxy that queued them would double that.
  assert.ok(rss() - start < 100_000_000, `grew by ${rss() - start} bytes`);
  request.destroy();
});

test('the proxy carries trailers both ways when bodies are chunked', async () => {
  const request = httpRequest(url('/trailers'), {
    method: 'POST',
    headers: { trailer: 'x-in', 'transfer-encoding': 'chunked' },
  });
  request.write('abc');
  request.addTrailers({ 'x-in': 'there' });
  request.end('de');
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  let body = '';
  for await (const chunk of response) body += chunk;
  assert.equal(body, 'something');
  assert.equal(response.trailers['x-sum'], '5');
  assert.equal(response.trailers['x-got'], 'there');
});

test('the proxy passes 100 Continue and waits for it when the client asks', async () => {
  const request = httpRequest(url('/continue'), {
    method: 'POST',
    headers: { expect: '100-continue', 'content-length': 4 },
  });
  request.flushHeaders();
  await once(request, 'continue');
  request.end('body');
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  let body = '';
  for await (const chunk of response) body += chunk;
  assert.equal((JSON.parse(body) as { size: number }).size, 4);
});

test('the proxy passes 103 Early Hints before the answer', async () => {
  const request = httpRequest(url('/early'));
  const responded = once(request, 'response');
  request.end();
  const [hints] = (await once(request, 'information')) as [{ statusCode: number; headers: Record<string, string> }];
  assert.equal(hints.statusCode, 103);
  assert.equal(hints.headers['link'], '</style.css>; rel=preload');
  const [response] = (await responded) as [IncomingMessage];
  response.resume();
  assert.equal(response.statusCode, 200);
});

test('the proxy answers pipelined requests in order', async (t) => {
  const client = new RawClient(t, proxy.port());
  let text = '';
  for (let i = 1; i <= 20; i++) text += `GET /bytes/${i} HTTP/1.1\r\nhost: a\r\n\r\n`;
  client.send(text);
  const received = await client.until((all) => all.split('HTTP/1.1 200').length === 21 && all.endsWith('y'.repeat(20)));
  const lengths = [...received.matchAll(/content-length: (\d+)/gi)].map(([, length]) => Number(length));
  assert.deepEqual(
    lengths,
    Array.from({ length: 20 }, (_, i) => i + 1),
  );
});

test('the proxy reads to the end when an upstream announces no length', async () => {
  const response = await fetch(url('/until-close'));
  assert.equal(await response.text(), 'all of it');
  assert.equal(response.headers.get('transfer-encoding'), 'chunked');
});

test('the proxy takes answers of HTTP/1.0 upstreams', async () => {
  assert.equal(await (await fetch(url('/http10'))).text(), 'ok');
});

test('the proxy reaches unix sockets, IPv6 and original destinations', async (t) => {
  assert.equal(await (await fetch(url('/unix'))).text(), 'over unix');
  const ipv6 = await fetch(url('/ipv6'));
  if (ipv6.status === 503) t.diagnostic('this machine has no ::1');
  else assert.equal(await ipv6.text(), 'over ipv6');
  const original = await fetch(url('/original'), { headers: { 'x-envoy-original-dst-host': originalHost } });
  assert.equal(original.status, 200);
});

test('the proxy keeps connections alive to both sides', async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const before = proxy.value('cluster.node.upstream_cx_total');
  const downstream = proxy.value('http.test.downstream_cx_total');
  for (let i = 0; i < 10; i++) {
    const request = httpRequest(url('/x'), { agent });
    request.end();
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    response.resume();
    await once(response, 'end');
  }
  agent.destroy();
  assert.ok(proxy.value('cluster.node.upstream_cx_total') - before <= 1);
  assert.equal(proxy.value('http.test.downstream_cx_total') - downstream, 1);
});

test('curl gets what it asks for: GET, HEAD, POST, chunked upload, a 304', { skip: withoutCurl }, async () => {
  const curl = async (...args: string[]): Promise<string> =>
    (await promisify(execFile)('curl', ['-sS', ...args])).stdout;
  assert.match(await curl('-i', url('/x')), /^HTTP\/1\.1 200 OK\r\n/);
  assert.match(await curl('-I', url('/x')), /^HTTP\/1\.1 200 OK\r\n/);
  assert.match(await curl('-d', 'abc', url('/x')), /"size":3/);
  assert.match(await curl('-H', 'Transfer-Encoding: chunked', '-d', 'abcd', url('/x')), /"size":4/);
  assert.equal(await curl('-x', url('/'), 'http://any.example/bytes/3'), 'yyy');
});

test('a request that says nothing for the stream idle timeout is answered 408, one that waits 504', async (t) => {
  const dumb = new RawClient(t, proxy.port('stream-idle'));
  dumb.send('POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf');
  assert.match(await dumb.toEnd(), /^HTTP\/1\.1 408 [\s\S]*stream timeout$/);
  const waiting = new RawClient(t, proxy.port('stream-idle'));
  waiting.send('GET /silent HTTP/1.1\r\nhost: a\r\n\r\n');
  assert.match(await waiting.toEnd(), /^HTTP\/1\.1 504 [\s\S]*stream timeout$/);
});

test("a route's idle timeout replaces that of the connection manager", async (t) => {
  const client = new RawClient(t, proxy.port());
  client.send('GET /idle-route HTTP/1.1\r\nhost: a\r\n\r\n');
  assert.match(await client.toEnd(), /^HTTP\/1\.1 504 [\s\S]*stream timeout$/);
});

test('a request that is not complete within the request timeout is answered 408', async (t) => {
  const client = new RawClient(t, proxy.port('request-timeout'));
  client.send('POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf');
  assert.match(await client.toEnd(), /^HTTP\/1\.1 408 [\s\S]*request timeout$/);
});

test('a head that is not complete within the headers timeout is answered 408', async (t) => {
  const client = new RawClient(t, proxy.port('headers-timeout'));
  client.send('GET / HTTP/1.1\r\nhost: ');
  assert.match(await client.toEnd(), /^HTTP\/1\.1 408 /);
});

test('a stream that lasts longer than max_stream_duration is answered 408 when nothing was sent yet', async (t) => {
  const client = new RawClient(t, proxy.port('stream-max'));
  client.send('GET /silent HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n');
  assert.match(await client.toEnd(), /^HTTP\/1\.1 (?:408|504) /);
});

test('an idle connection is closed after the idle timeout, and one that is too old after its answer', async (t) => {
  const idle = new RawClient(t, proxy.port('idle'));
  idle.send('GET /bytes/1 HTTP/1.1\r\nhost: a\r\n\r\n');
  assert.match(await idle.toEnd(), /\r\n\r\ny$/);
  const old = new RawClient(t, proxy.port('lifetime'));
  old.send('GET /bytes/1 HTTP/1.1\r\nhost: a\r\n\r\n');
  assert.match(await old.toEnd(), /\r\n\r\ny$/);
});

test('the last request that a connection may carry is answered with Connection: close', async (t) => {
  const client = new RawClient(t, proxy.port('two-requests'));
  client.send(
    'GET /bytes/1 HTTP/1.1\r\nhost: a\r\n\r\nGET /bytes/1 HTTP/1.1\r\nhost: a\r\n\r\nGET /bytes/1 HTTP/1.1\r\nhost: a\r\n\r\n',
  );
  const received = await client.toEnd();
  assert.equal(received.split('HTTP/1.1 200').length - 1, 2);
  assert.match(received, /connection: close/);
});

/** What clients and the access log get when something is wrong: statuses, flags, details, bodies of the failure table. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { answering, RawClient, RawUpstream } from '../support/raw_peers.ts';
import { fileScope } from '../support/scope.ts';
import { LogFile, startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { REFUSED_PORT } from '../support/free_port.ts';
import { eventually } from '../support/eventually.ts';

const suite = fileScope();
let proxy: TestProxy;
let log: LogFile;
let silent: RawUpstream;
let lines = 0;

before(async () => {
  log = new LogFile(suite);
  const fine = await RawUpstream.start(suite, answering());
  silent = await RawUpstream.start(suite, () => {});
  const rude = await RawUpstream.start(suite, (_received, socket) => socket.destroy());
  const resetting = await RawUpstream.start(suite, (_received, socket) => socket.resetAndDestroy());
  const garbled = await RawUpstream.start(suite, (_received, socket) => socket.write('NONSENSE\r\n\r\n'));
  const splitting = await RawUpstream.start(suite, (_received, socket) =>
    socket.write('HTTP/1.1 200 OK\r\nx: a\rb\r\ncontent-length: 0\r\n\r\n'),
  );
  const half = await RawUpstream.start(suite, (_received, socket) =>
    socket.end('HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf'),
  );
  const to = (cluster: string, more = {}) => ({
    name: cluster,
    match: { path: `/${cluster}` },
    route: { cluster, ...more },
  });
  const none = { circuit_breakers: { thresholds: [{ max_pending_requests: 0 }] } };
  proxy = await startTestProxy(suite, [
    httpListener({
      routes: routeConfig([
        to('fine'),
        to('missing'),
        {
          name: 'missing-404',
          match: { path: '/missing-404' },
          route: { cluster: 'gone', cluster_not_found_response_code: 'NOT_FOUND' },
        },
        to('empty'),
        to('refusing'),
        to('silent', { timeout: '0.05s' }),
        { name: 'left', match: { path: '/left' }, route: { cluster: 'silent', timeout: '0s' } },
        to('rude'),
        to('resetting'),
        to('garbled'),
        to('splitting'),
        to('half'),
        to('overflow'),
        {
          name: 'direct',
          match: { path: '/direct' },
          direct_response: { status: 418, body: { inline_string: 'teapot' } },
        },
        {
          name: 'redirect',
          match: { path: '/redirect' },
          redirect: { host_redirect: 'other.example', response_code: 'FOUND' },
        },
        { name: 'split', match: { prefix: '/split/' }, redirect: { host_redirect: 'other.example' } },
      ]),
      manager: {
        access_log: [
          log.config('%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %ROUTE_NAME% %UPSTREAM_CLUSTER_RAW%\n'),
        ],
      },
    }),
    staticCluster('fine', [fine.port]),
    staticCluster('empty', []),
    staticCluster('refusing', [REFUSED_PORT]),
    staticCluster('silent', [silent.port]),
    staticCluster('rude', [rude.port]),
    staticCluster('resetting', [resetting.port]),
    staticCluster('garbled', [garbled.port]),
    staticCluster('splitting', [splitting.port]),
    staticCluster('half', [half.port]),
    staticCluster('overflow', [fine.port], none),
  ]);
});

const cases: readonly (readonly [path: string, status: number, body: RegExp, log: string])[] = [
  ['/fine', 200, /^ok$/, '200 - via_upstream fine fine'],
  ['/nowhere', 404, /^$/, '404 NR route_not_found - -'],
  ['/missing', 503, /^$/, '503 NC cluster_not_found missing -'],
  ['/missing-404', 404, /^$/, '404 NC cluster_not_found missing-404 -'],
  ['/empty', 503, /^no healthy upstream$/, '503 UH no_healthy_upstream empty empty'],
  [
    '/refusing',
    503,
    /reset before headers\. reset reason: remote connection failure/,
    '503 UF upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused} refusing refusing',
  ],
  ['/silent', 504, /^upstream request timeout$/, '504 UT response_timeout silent silent'],
  [
    '/rude',
    503,
    /reset reason: connection termination$/,
    '503 UC upstream_reset_before_response_started{connection_termination} rude rude',
  ],
  [
    '/resetting',
    503,
    /reset reason: connection termination$/,
    '503 UC upstream_reset_before_response_started{connection_termination} resetting resetting',
  ],
  [
    '/garbled',
    502,
    /reset reason: protocol error$/,
    '502 UPE upstream_reset_before_response_started{protocol_error} garbled garbled',
  ],
  [
    '/splitting',
    502,
    /reset reason: protocol error$/,
    '502 UPE upstream_reset_before_response_started{protocol_error} splitting splitting',
  ],
  [
    '/overflow',
    503,
    /reset reason: overflow$/,
    '503 UO upstream_reset_before_response_started{overflow} overflow overflow',
  ],
  ['/direct', 418, /^teapot$/, '418 - direct_response direct -'],
  ['/redirect', 302, /^$/, '302 - direct_response redirect -'],
];

for (const [path, status, body, logged] of cases) {
  test(`the proxy answers ${status} and logs "${logged}" when ${path} is asked for`, async () => {
    const response = await fetch(`http://127.0.0.1:${proxy.port()}${path}`, { redirect: 'manual' });
    assert.equal(response.status, status);
    assert.match(await response.text(), body);
    assert.equal(response.headers.get('server'), 'envoy');
    const all = await log.lines(++lines);
    assert.equal(all.at(-1), logged);
  });
}

test('a gRPC client gets 200 and grpc-status when the proxy answers itself', async () => {
  const response = await fetch(`http://127.0.0.1:${proxy.port()}/empty`, {
    method: 'POST',
    headers: { 'content-type': 'application/grpc' },
  });
  lines++;
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('grpc-status'), '14');
  assert.equal(response.headers.get('grpc-message'), 'no healthy upstream');
  assert.equal(await response.text(), '');
});

test('a response that ends early is cut, never completed, when the upstream closes within the body', async (t) => {
  const client = new RawClient(t, proxy.port());
  client.send('GET /half HTTP/1.1\r\nhost: a\r\n\r\n');
  const received = await client.toEnd();
  lines++;
  assert.match(received, /^HTTP\/1\.1 200 OK\r\n/);
  assert.match(received, /\r\n\r\nhalf$/);
});

test('a redirect whose location would hold CR or LF is never written when a path tries', async (t) => {
  const client = new RawClient(t, proxy.port());
  client.send('GET /split/%0d%0aset-cookie:x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n');
  const received = await client.toEnd();
  lines++;
  assert.doesNotMatch(received, /\r\nset-cookie/);
});

test('the access log counts a client that left before the answer as code 0 with flag DC', async (t) => {
  const silentAgain = new RawClient(t, proxy.port());
  const seen = (await log.lines(lines)).length;
  silentAgain.send('GET /left HTTP/1.1\r\nhost: a\r\n\r\n');
  await eventually('the upstream has it', () => silent.all.includes('GET /left '));
  silentAgain.socket.destroy();
  const all = await log.lines(seen + 1);
  assert.match(all.at(-1) as string, /^0 DC downstream_remote_disconnect left silent$/);
});

/** The fault filter through a running proxy: delays, aborts, slow answers, by route and by header, and what it refuses. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { before, test } from 'node:test';
import filter from '../../filters/fault.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import type { Json } from '../../config/resources.ts';
import { httpListener, staticCluster } from '../support/envoy_resources.ts';
import { LogFile, startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { eventually } from '../support/eventually.ts';

const NAME = 'envoy.filters.http.fault';
const FAULT = 'type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault';
const ALL = { numerator: 100 };
const scope = fileScope();
const log = new LogFile(scope);
let proxy: TestProxy;
let served = 0;

const ROUTES: Readonly<Record<string, Json>> = {
  abort: { abort: { http_status: 418, percentage: ALL } },
  grpc: { abort: { grpc_status: 14, percentage: ALL } },
  delay: { delay: { fixed_delay: '0.1s', percentage: ALL } },
  both: { delay: { fixed_delay: '0.05s', percentage: ALL }, abort: { http_status: 503, percentage: ALL } },
  never: { delay: { fixed_delay: '60s', percentage: {} }, abort: { http_status: 503 } },
  some: { abort: { http_status: 503, percentage: { numerator: 250_000, denominator: 'MILLION' } } },
  slow: { response_rate_limit: { fixed_limit: { limit_kbps: 100 }, percentage: ALL } },
  asked: {
    delay: { header_delay: {}, percentage: ALL },
    abort: { header_abort: {}, percentage: ALL },
    response_rate_limit: { header_limit: {}, percentage: ALL },
  },
  header: {
    abort: { http_status: 503, percentage: ALL },
    headers: [{ name: 'x-user', string_match: { exact: 'jason' } }],
  },
  cluster: { abort: { http_status: 503, percentage: ALL }, upstream_cluster: 'other' },
  one: { max_active_faults: 1, delay: { fixed_delay: '1.5s', percentage: ALL } },
  long: { delay: { fixed_delay: '3600s', percentage: ALL } },
};

before(async () => {
  const server = createServer((request, response) => {
    served++;
    request.resume();
    response.end(
      request.url?.startsWith('/slow') === true || request.headers['x-big'] !== undefined
        ? Buffer.alloc(30_000, 'x')
        : 'ok',
    );
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  scope.after(() => server.close());
  proxy = await startTestProxy(scope, [
    httpListener({
      filters: [{ name: NAME, typed_config: { '@type': FAULT } }],
      routes: {
        name: 'r',
        virtual_hosts: [
          {
            name: 'v',
            domains: ['*'],
            routes: [
              ...Object.entries(ROUTES).map(([name, fault]) => ({
                match: { prefix: `/${name}` },
                route: { cluster: 'up', timeout: '0.5s' },
                typed_per_filter_config: { [NAME]: { '@type': FAULT, ...fault } },
              })),
              { match: { prefix: '/' }, route: { cluster: 'up' } },
            ],
          },
        ],
      },
      manager: { access_log: [log.config('%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS%\n')] },
    }),
    staticCluster('up', [(server.address() as { port: number }).port]),
  ]);
});

async function ask(path: string, headers: Record<string, string> = {}) {
  const startMs = performance.now();
  const response = await fetch(`http://127.0.0.1:${proxy.port()}/${path}`, { headers });
  const text = await response.text();
  return { status: response.status, text, grpc: response.headers.get('grpc-status'), ms: performance.now() - startMs };
}

async function logged(path: string): Promise<string> {
  for (let count = 1; ; count++) {
    const found = (await log.lines(count)).find((line) => line.startsWith(`/${path} `));
    if (found !== undefined) return found;
  }
}

test('an abort answers with its status and says FI', async () => {
  const { status, text } = await ask('abort');
  assert.deepEqual([status, text], [418, 'fault filter abort']);
  assert.equal(await logged('abort'), '/abort 418 FI fault_filter_abort');
  assert.ok(proxy.value('http.test.fault.aborts_injected') >= 1);
});

test('a gRPC abort is a gRPC status for gRPC and an HTTP status for others', async () => {
  const grpc = await ask('grpc', { 'content-type': 'application/grpc' });
  assert.deepEqual([grpc.status, grpc.grpc], [200, '14']);
  assert.equal((await ask('grpc')).status, 503);
});

test('a delay comes before the upstream is asked, and says DI', async () => {
  const { status, text, ms } = await ask('delay');
  assert.deepEqual([status, text], [200, 'ok']);
  assert.ok(ms >= 95, `${ms} ms`);
  assert.equal(await logged('delay'), '/delay 200 DI via_upstream');
});

test('delay and abort together: first the one, then the other, and nothing reaches the upstream', async () => {
  const servedBefore = served;
  const { status, ms } = await ask('both');
  assert.equal(status, 503);
  assert.ok(ms >= 45, `${ms} ms`);
  assert.equal(served, servedBefore);
  assert.equal(await logged('both'), '/both 503 DI,FI fault_filter_abort');
});

test('without a percentage nothing happens', async () => {
  assert.equal((await ask('never')).status, 200);
});

test('a share of requests is aborted', async () => {
  let aborted = 0;
  for (let i = 0; i < 200; i++) if ((await ask('some')).status === 503) aborted++;
  assert.ok(aborted > 20 && aborted < 90, `${aborted} of 200`);
});

test('answers come at the rate that is set, whole', async () => {
  const { text, ms } = await ask('slow');
  assert.equal(text.length, 30_000);
  // 30,000 bytes at 5,120 a tick: the first tick at once, five more to wait for.
  assert.ok(ms >= 240, `${ms} ms`);
});

test('headers say what happens, where that is allowed', async () => {
  assert.equal((await ask('asked')).status, 200);
  assert.equal((await ask('asked', { 'x-envoy-fault-abort-request': '507' })).status, 507);
  assert.equal((await ask('asked', { 'x-envoy-fault-abort-request': '999' })).status, 200);
  assert.equal(
    (await ask('asked', { 'x-envoy-fault-abort-request': '507', 'x-envoy-fault-abort-request-percentage': '0' }))
      .status,
    200,
  );
  assert.ok((await ask('asked', { 'x-envoy-fault-delay-request': '80' })).ms >= 75);
  const slow = await ask('asked', { 'x-envoy-fault-throughput-response': '200', 'x-big': '1' });
  assert.equal(slow.text.length, 30_000);
  assert.ok(slow.ms >= 90, `${slow.ms} ms`);
  // Elsewhere they mean nothing.
  assert.equal((await ask('other', { 'x-envoy-fault-abort-request': '507' })).status, 200);
});

test('matchers and clusters narrow a fault', async () => {
  assert.equal((await ask('header')).status, 200);
  assert.equal((await ask('header', { 'x-user': 'jason' })).status, 503);
  assert.equal((await ask('cluster')).status, 200);
});

test('no more faults at a time than max_active_faults', async () => {
  let answered = 0;
  const asked = [1, 2, 3].map(() => ask('one').finally(() => answered++));
  await eventually('two pass while one waits', () => answered === 2);
  assert.equal(proxy.value('http.test.fault.active_faults'), 1);
  assert.equal(proxy.value('http.test.fault.faults_overflow'), 2);
  assert.equal((await Promise.all(asked)).filter(({ ms }) => ms >= 1490).length, 1);
});

test('a client that leaves during a delay leaves nothing behind', async () => {
  const abort = new AbortController();
  const asked = fetch(`http://127.0.0.1:${proxy.port()}/long`, { signal: abort.signal });
  while (proxy.value('http.test.fault.active_faults') < 1) await new Promise((resolve) => setTimeout(resolve, 5));
  abort.abort();
  await assert.rejects(asked);
  while (proxy.value('http.test.fault.active_faults') > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.match(await logged('long'), /^\/long 0 DI,DC /);
});

test('what makes no sense is refused with its field', () => {
  for (const [json, path] of [
    [{ delay: { percentage: ALL } }, 'delay.fixed_delay'],
    [{ delay: { fixed_delay: '0s' } }, 'delay.fixed_delay'],
    [{ abort: {} }, 'abort.http_status'],
    [{ abort: { http_status: 199 } }, 'abort.http_status'],
    [{ abort: { http_status: 500, percentage: { numerator: -1 } } }, 'abort.percentage.numerator'],
    [{ response_rate_limit: {} }, 'response_rate_limit.fixed_limit'],
    [{ response_rate_limit: { fixed_limit: { limit_kbps: 0 } } }, 'response_rate_limit.fixed_limit.limit_kbps'],
  ] as const) {
    assert.throws(
      () => filter.parse(json),
      (error) => error instanceof ConfigError && error.path === path,
    );
  }
});

/** The agent port before real applications: what kubelet and Prometheus see of them. */
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { describe, it } from 'node:test';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { startProxy } from '../../../proxy/main.ts';
import type { RunningProxy } from '../../../proxy/proxy_options.ts';
import { httpListener, staticCluster } from '../../support/envoy_resources.ts';
import type { Scope } from '../../support/scope.ts';
import { StaticSource } from '../../support/static_source.ts';

interface Environment {
  readonly probers?: Readonly<Record<string, unknown>> | string;
  readonly prometheus?: unknown;
}

async function start(
  t: Scope,
  { probers = {}, prometheus }: Environment = {},
): Promise<{ running: RunningProxy; url: string; errors: string[]; quit: Promise<void> }> {
  const errors: string[] = [];
  const quit = Promise.withResolvers<void>();
  const running = startProxy({
    concurrency: 1,
    sources: [new StaticSource([httpListener({ routes: { virtual_hosts: [] } }), staticCluster('app', [1])])],
    admin: undefined,
    status: undefined,
    metrics: undefined,
    agent: {
      address: { ip: '127.0.0.1', port: 0 },
      environment: {
        probers: typeof probers === 'string' ? probers : JSON.stringify(probers),
        prometheus: prometheus === undefined ? '' : JSON.stringify(prometheus),
        podIp: '127.0.0.1',
      },
    },
    log: {
      enabled: () => true,
      log: (level, component, message) => void (level !== 'info' && errors.push(`${component}: ${message}`)),
    },
    node: { id: '', cluster: '', metadata: {} },
    commandLine: {},
    drainTimeMs: 100,
    onQuit: () => quit.resolve(),
  });
  t.after(() => running.stop('now'));
  await running.ready;
  return { running, url: `http://127.0.0.1:${running.addresses.get('agent')?.port}`, errors, quit: quit.promise };
}

async function application(t: Scope, listener: RequestListener): Promise<number> {
  const server = createServer(listener);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => void server.close());
  t.after(() => server.closeAllConnections());
  return (server.address() as AddressInfo).port;
}

describe('the agent port', () => {
  it('asks the application what kubelet asked, and gives its answer', async (t) => {
    const seen: IncomingMessage[] = [];
    let from: string | undefined;
    const port = await application(t, (request, response) => {
      seen.push(request);
      from = request.socket.remoteAddress;
      if (request.url === '/old') response.writeHead(302, { location: '/new' }).end();
      else response.writeHead(request.url === '/down' ? 503 : 200, { 'content-type': 'text/x' }).end('how it is');
    });
    const { url } = await start(t, {
      probers: {
        '/app-health/web/livez': {
          httpGet: {
            path: '/live',
            port,
            httpHeaders: [
              { name: 'X-Probe', value: 'yes' },
              { name: 'Host', value: 'app.example' },
            ],
          },
        },
        '/app-health/web/readyz': { httpGet: { path: 'down', port } },
        '/app-health/web/startupz': { httpGet: { path: '/old', port } },
      },
    });
    const live = await fetch(`${url}/app-health/web/livez`, { headers: { 'user-agent': 'kube-probe/1.30' } });
    assert.equal(live.status, 200);
    assert.equal(await live.text(), 'how it is');
    assert.equal(live.headers.get('content-type'), 'text/x');
    const [first] = seen;
    assert.equal(first?.url, '/live');
    assert.deepEqual(
      ['host', 'x-probe', 'user-agent', 'connection'].map((name) => first?.headers[name]),
      ['app.example', 'yes', 'kube-probe/1.30', 'close'],
    );
    assert.equal(from, '127.0.0.6');
    assert.equal((await fetch(`${url}/app-health/web/readyz`)).status, 503);
    assert.equal((await fetch(`${url}/app-health/web/startupz`)).status, 200);
    assert.equal(seen.at(-1)?.url, '/new');
    assert.equal((await fetch(`${url}/app-health/other/livez`)).status, 404);
  });

  it('gives 10 KB of a long body, and 500 when the application does not answer in time or is not there', async (t) => {
    const port = await application(t, (request, response) => {
      if (request.url === '/long') response.end('x'.repeat(100_000));
    });
    const { url } = await start(t, {
      probers: {
        '/app-health/a/livez': { httpGet: { path: '/long', port } },
        '/app-health/a/readyz': { httpGet: { path: '/never', port }, timeoutSeconds: 0.2 },
        '/app-health/b/livez': { httpGet: { path: '/', port: 1 } },
      },
    });
    assert.equal((await (await fetch(`${url}/app-health/a/livez`)).text()).length, 10 * 1024);
    const slow = await fetch(`${url}/app-health/a/readyz`);
    assert.equal(slow.status, 500);
    assert.match(await slow.text(), /no answer from 127\.0\.0\.1:\d+ in time/);
    assert.equal((await fetch(`${url}/app-health/b/livez`)).status, 500);
  });

  it('probes a TCP port, and a gRPC service by its health', async (t) => {
    const tcp = createTcpServer((socket) => void socket.end()).listen(0, '127.0.0.1');
    t.after(() => void tcp.close());
    const grpc = new Server();
    const identity = (bytes: Buffer): Buffer => bytes;
    grpc.addService(
      {
        Check: {
          path: '/grpc.health.v1.Health/Check',
          requestStream: false,
          responseStream: false,
          requestSerialize: identity,
          requestDeserialize: identity,
          responseSerialize: identity,
          responseDeserialize: identity,
        },
      },
      {
        // SERVING to `ok`, NOT_SERVING to any other.
        Check: ({ request }: { request: Buffer }, answer: (error: null, value: Buffer) => void) =>
          answer(null, Buffer.from([0x08, request.subarray(2).toString() === 'ok' ? 1 : 2])),
      },
    );
    const port = await new Promise<number>((resolve, reject) =>
      grpc.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      ),
    );
    t.after(() => grpc.forceShutdown());
    const { url } = await start(t, {
      probers: {
        '/app-health/a/livez': { tcpSocket: { port: (tcp.address() as AddressInfo).port } },
        '/app-health/a/readyz': { tcpSocket: { port: 1 } },
        '/app-health/b/livez': { grpc: { port, service: 'ok' } },
        '/app-health/b/readyz': { grpc: { port, service: 'other' } },
      },
    });
    const status = async (path: string): Promise<number> => (await fetch(`${url}/app-health/${path}`)).status;
    assert.deepEqual(
      await Promise.all(['a/livez', 'a/readyz', 'b/livez', 'b/readyz'].map(status)),
      [200, 500, 200, 500],
    );
  });

  it("answers one scrape with the proxy's metrics and then the application's", async (t) => {
    const accepts: (string | undefined)[] = [];
    const port = await application(t, (request, response) => {
      accepts.push(request.headers.accept);
      if (request.url === '/m') response.end('# TYPE app_total counter\napp_total 7\n# EOF\n');
      else response.writeHead(500).end();
    });
    const { url } = await start(t, { prometheus: { scrape: 'true', port: String(port), path: '/m' } });
    const text = await (await fetch(`${url}/stats/prometheus`)).text();
    assert.match(text, /envoy_server_live/);
    assert.ok(text.endsWith('# TYPE app_total counter\napp_total 7\n'));
    assert.deepEqual(accepts, ['text/plain;version=0.0.4']);
    const failing = await start(t, { prometheus: { scrape: 'true', port: String(port) } });
    assert.match(await (await fetch(`${failing.url}/stats/prometheus`)).text(), /envoy_server_live/);
    assert.match(failing.errors.join('\n'), /Cannot scrape the application at port \d+: it answered 500/);
  });

  it('ends the proxy for a POST of the pod itself only', async (t) => {
    const { url, quit } = await start(t);
    assert.equal((await fetch(`${url}/quitquitquit`)).status, 405);
    assert.equal((await fetch(`${url}/healthz/ready`)).status, 200);
    assert.equal((await fetch(`${url}/quitquitquit`, { method: 'POST' })).status, 200);
    await quit;
  });

  it('says what it cannot read of its environment, and serves the rest', async (t) => {
    const { url, errors } = await start(t, { probers: '{', prometheus: { scrape: 'true', port: 'x' } });
    assert.equal((await fetch(`${url}/healthz/ready`)).status, 200);
    assert.match(
      errors.join('\n'),
      /Cannot read ISTIO_KUBE_APP_PROBERS[\s\S]*Cannot read ISTIO_PROMETHEUS_ANNOTATIONS: port "x" is none/,
    );
    const bad = await start(t, { probers: { '/app-health/a/livez': { httpGet: {} } } });
    assert.match(bad.errors.join('\n'), /Cannot use ISTIO_KUBE_APP_PROBERS "\/app-health\/a\/livez"/);
  });
});

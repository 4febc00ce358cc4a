/** What a real istiod pushed routes as the YAML beside it says: each pod is an address of loopback that answers who it is. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { createServer as createHttp2Server, type Http2ServerRequest, type Http2ServerResponse } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { describe, test } from 'node:test';
import type { Json } from '../../../config/resources.ts';
import { AdsServer } from '../../support/ads_server.ts';
import { type Dump, meshSecrets, readDump, skipWithoutDumps } from '../../support/istiod_dumps.ts';
import { grpcCluster, startPushedProxy } from '../../support/pushed_proxy.ts';
import type { Scope } from '../../support/scope.ts';

interface Asked {
  readonly path?: string;
  readonly method?: string;
  readonly host: string;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Seen {
  readonly status: number;
  /** `10.44.3.1`; '' when no pod answered. */
  readonly pod: string;
  readonly url: string;
  readonly received: Readonly<Record<string, string | string[] | undefined>>;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

/** Every pod 10.x.y.z is 127.x.y.z here, in plaintext, on one port. */
async function startPods(t: Scope, protocol: 'http1' | 'http2'): Promise<number> {
  const answer = (
    asked: IncomingMessage | Http2ServerRequest,
    response: ServerResponse | Http2ServerResponse,
  ): void => {
    const pod = asked.socket.localAddress?.replace(/^127\./, '10.');
    response.setHeader('x-pod', pod ?? '');
    response.end(JSON.stringify({ url: asked.url, received: asked.headers }));
  };
  const server = protocol === 'http1' ? createServer(answer) : createHttp2Server(answer);
  server.listen(0, '0.0.0.0');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    if ('closeAllConnections' in server) server.closeAllConnections();
  });
  return (server.address() as AddressInfo).port;
}

type Mutable = Record<string, unknown>;

/** Endpoints on loopback and without the mark of a sidecar, whose mutual TLS they would want. */
function onLoopback(assignment: Json, port: number): Json {
  const copy = structuredClone(assignment) as { endpoints?: { lb_endpoints?: Mutable[] }[] };
  for (const group of copy.endpoints ?? []) {
    for (const item of group.lb_endpoints ?? []) {
      const endpoint = item['endpoint'] as { address: { socket_address?: Mutable } };
      const socket = endpoint.address.socket_address;
      if (socket === undefined) continue;
      socket['address'] = String(socket['address']).replace(/^10\./, '127.');
      socket['port_value'] = port;
      delete item['metadata'];
    }
  }
  return copy as Json;
}

/** Listeners that traffic is redirected to get a port of their own. */
function bound(listener: Json): Json {
  const address = { socket_address: { address: '127.0.0.1', port_value: 0 } };
  return { ...listener, address, bind_to_port: true };
}

async function serve(t: Scope, name: string, only: readonly string[], protocol: 'http1' | 'http2' = 'http1') {
  const dump: Dump = readDump(name);
  const port = await startPods(t, protocol);
  const ads = await AdsServer.start(t);
  const { proxy, ready } = await startPushedProxy(t, {
    ads,
    first: {
      // One of them has 30 ms: too little for a machine that runs tests side by side.
      clusters: dump.clusters.map((cluster) => ({ ...cluster, connect_timeout: '5s' })),
      endpoints: dump.endpoints.map((assignment) => onLoopback(assignment, port)),
      listeners: dump.listeners.filter((listener) => only.includes(String(listener['name']))).map(bound),
      routes: dump.routes,
      secrets: meshSecrets(),
    },
    statics: [grpcCluster('sds-grpc', ads.port)],
  });
  await ready;
  assert.deepEqual(
    ads.answers.flatMap(({ error }) => error ?? []),
    [],
  );
  return async (
    listener: string,
    { path = '/', method = 'GET', host, headers = {} }: Asked,
    signal?: AbortSignal,
  ): Promise<Seen> => {
    // fetch() names its own host.
    const sent = request({
      host: '127.0.0.1',
      port: proxy.port(listener),
      path,
      method,
      agent: false,
      headers: { ...headers, host },
      ...(signal !== undefined && { signal }),
    });
    sent.end();
    const [response] = (await once(sent, 'response')) as [IncomingMessage];
    let text = '';
    for await (const piece of response.setEncoding('utf8')) text += piece as string;
    const pod = String(response.headers['x-pod'] ?? '');
    const seen = pod === '' ? { url: '', received: {} } : (JSON.parse(text) as Pick<Seen, 'url' | 'received'>);
    return { status: response.statusCode ?? 0, pod, ...seen, headers: response.headers, text };
  };
}

/** Which pods answer `count` times, and how often each. */
async function share(count: number, ask: () => Promise<Seen>): Promise<Map<string, number>> {
  const found = new Map<string, number>();
  for (let i = 0; i < count; i++) {
    const { pod } = await ask();
    found.set(pod, (found.get(pod) ?? 0) + 1);
  }
  return found;
}

const [REVIEWS_V1, REVIEWS_V2, REVIEWS_V3] = ['10.44.3.1', '10.44.4.1', '10.44.5.1'];
const CART_V1 = ['10.44.2.1', '10.44.2.2'];
const CART_V2 = '10.44.3.1';
const PAY = ['10.44.4.1', '10.44.4.2'];

describe('istiod’s pushes route', { skip: skipWithoutDumps, concurrency: 2 }, () => {
  test('bookinfo: a service goes to all its pods', async (t) => {
    const ask = await serve(t, 'bookinfo/productpage-v1-0', ['0.0.0.0_9080']);
    const pods = await share(60, () => ask('0.0.0.0_9080', { host: 'reviews:9080' }));
    assert.deepEqual([...pods.keys()].sort(), [REVIEWS_V1, REVIEWS_V2, REVIEWS_V3]);
    for (const host of ['details', 'details.default', 'details.default.svc.cluster.local:9080', '10.96.0.1:9080']) {
      assert.equal((await ask('0.0.0.0_9080', { host })).pod, '10.44.1.1', host);
    }
  });

  test('bookinfo-90-10: nine in ten to v1, the rest to v2', async (t) => {
    const ask = await serve(t, 'bookinfo-90-10/productpage-v1-0', ['0.0.0.0_9080']);
    const pods = await share(300, () => ask('0.0.0.0_9080', { host: 'reviews' }));
    assert.deepEqual([...pods.keys()].sort(), [REVIEWS_V1, REVIEWS_V2]);
    const minority = pods.get(REVIEWS_V2 as string) ?? 0;
    // 30 are expected; six standard deviations.
    assert.ok(minority > 0 && minority < 62, `${minority} of 300`);
  });

  test('bookinfo-jason-delay: jason goes to v2, and waits for ratings', async (t) => {
    const ask = await serve(t, 'bookinfo-jason-delay/reviews-v2-0', ['0.0.0.0_9080']);
    const jason = { 'end-user': 'jason' };
    assert.equal((await ask('0.0.0.0_9080', { host: 'reviews', headers: jason })).pod, REVIEWS_V2);
    assert.equal((await ask('0.0.0.0_9080', { host: 'reviews' })).pod, REVIEWS_V3);
    assert.equal((await ask('0.0.0.0_9080', { host: 'ratings' })).pod, '10.44.2.1');
    const delayed = ask('0.0.0.0_9080', { host: 'ratings', headers: jason }, AbortSignal.timeout(500));
    await assert.rejects(delayed, { name: 'AbortError' });
  });

  test('virtual-service: every match, rewrite, redirect and direct response', async (t) => {
    const ask = await serve(t, 'virtual-service/web-v1-0', ['0.0.0.0_8000', '0.0.0.0_80']);
    const cart = (asked: Omit<Asked, 'host'>): Promise<Seen> => ask('0.0.0.0_8000', { ...asked, host: 'cart' });
    assert.ok(CART_V1.includes((await cart({ path: '/status' })).pod), 'exact path');
    assert.ok(CART_V1.includes((await cart({ path: '/hEALTH' })).pod), 'exact path in any case');
    const matching = { 'x-user': 'jason', 'x-role': 'admin', 'x-any': '1' };
    assert.equal((await cart({ method: 'POST', headers: matching })).pod, CART_V2, 'headers and method');
    const query = await cart({ path: '/items/42?debug=true&v=bc' });
    assert.deepEqual([query.pod, query.url], [CART_V2, '/by-id?debug=true&v=bc']);
    const named = await ask('0.0.0.0_8000', { host: 'cart.shop:8000' });
    assert.equal(named.received['x-dest'], 'one', 'authority, scheme and port');
    const prefix = await cart({ path: '/api/v1/a/b' });
    assert.deepEqual([prefix.url, prefix.received['host']], ['/a/b', 'cart.internal']);
    assert.equal((await cart({ path: '/old/x/y/z' })).url, '/new/y/z/x');
    const gone = await cart({ path: '/go/away' });
    assert.deepEqual([gone.status, gone.headers['location']], [308, 'https://example.com/gone']);
    const teapot = await cart({ path: '/teapot/1' });
    assert.deepEqual([teapot.status, teapot.text, teapot.headers['x-from']], [418, 'short and stout', 'proxy']);
    assert.equal((await cart({ path: '/once' })).status, 503, 'a subset that does not exist');
    assert.ok([...CART_V1, CART_V2].includes((await cart({ path: '/other' })).pod));
    for (const path of ['/refund/fast', '/refund', '/']) {
      const seen = await ask('0.0.0.0_8000', { host: 'pay.ops', path, headers: { 'x-canary': '1' } });
      assert.ok(PAY.includes(seen.pod), `pay ${path}`);
    }
    assert.equal(
      (await ask('0.0.0.0_80', { host: 'web' })).pod,
      '10.44.1.1',
      'rules for a gateway are not for a sidecar',
    );
  });

  test('virtual-service: TCP goes to the pods of its port', async (t) => {
    const ask = await serve(t, 'virtual-service/web-v1-0', ['10.96.0.2_7000']);
    const pods = await share(30, () => ask('10.96.0.2_7000', { host: 'whatever', headers: { connection: 'close' } }));
    assert.ok(
      [...pods.keys()].every((pod) => [...CART_V1, CART_V2].includes(pod)),
      [...pods.keys()].join(),
    );
  });

  test('gateway-api-mesh: an HTTPRoute’s matches, rewrites, headers and redirect', async (t) => {
    const ask = await serve(t, 'gateway-api-mesh/web-v1-0', ['0.0.0.0_8000']);
    const cart = (asked: Omit<Asked, 'host'>): Promise<Seen> => ask('0.0.0.0_8000', { ...asked, host: 'cart' });
    const canary = await cart({ path: '/v2/x', headers: { 'x-canary': 'yes', 'x-gone': '1', 'x-set': 'old' } });
    assert.equal(canary.status, 200);
    assert.deepEqual(
      [
        canary.url,
        canary.received['host'],
        canary.received['x-set'],
        canary.received['x-add'],
        canary.received['x-gone'],
      ],
      ['/two/x', 'cart.rewritten', 'a', 'b', undefined],
    );
    const moved = await cart({ path: '/moved/1' });
    assert.deepEqual([moved.status, moved.headers['location']], [301, 'https://moved.example:8443/there']);
    assert.ok([...CART_V1, CART_V2].includes((await cart({ path: '/mirror' })).pod));
    assert.ok([...CART_V1, CART_V2].includes((await cart({ path: '/v2/x' })).pod), 'no canary: as it came');
  });

  test('sidecar: what its registry does not name is answered 502', async (t) => {
    const ask = await serve(t, 'sidecar/web-v1-0', ['0.0.0.0_8000']);
    assert.ok([...CART_V1, CART_V2].includes((await ask('0.0.0.0_8000', { host: 'cart' })).pod));
    assert.equal((await ask('0.0.0.0_8000', { host: 'pay.ops' })).status, 502);
  });

  test('service-entry: addresses outside of Kubernetes', async (t) => {
    const ask = await serve(t, 'service-entry/web-v1-0', ['0.0.0.0_8080', '0.0.0.0_80']);
    const pods = await share(80, () => ask('0.0.0.0_8080', { host: 'vm.shop.internal:8080' }));
    assert.deepEqual([...pods.keys()].sort(), ['10.55.0.1', '10.55.0.2']);
    assert.ok((pods.get('10.55.0.1') ?? 0) > (pods.get('10.55.0.2') ?? 0), 'weights 3 and 1');
  });

  test('destination-rule: a header keeps to one pod, and mutual TLS is never left out', async (t) => {
    const ask = await serve(t, 'destination-rule/web-v1-0', ['0.0.0.0_8000'], 'http2');
    const of = (user: string) => share(4, () => ask('0.0.0.0_8000', { host: 'cart', headers: { 'x-user': user } }));
    const pods: Map<string, number>[] = [];
    // Hashed with the pods' ports, which are random: so many that they do not all meet on one pod by chance.
    for (const user of 'abcdefghijklmnopqrst') pods.push(await of(user));
    assert.deepEqual(
      pods.map((seen) => seen.size),
      pods.map(() => 1),
      JSON.stringify(pods.map((seen) => [...seen])),
    );
    assert.ok(new Set(pods.flatMap((seen) => [...seen.keys()])).size > 1, 'not all users on one pod');
    const { status, pod } = await ask('0.0.0.0_8000', { host: 'pay.ops' });
    assert.deepEqual([status, pod], [503, ''], 'ISTIO_MUTUAL towards a pod in plaintext');
  });

  for (const name of ['telemetry/web-v1-0', 'security/web-v1-0', 'protocols/web-v1-0']) {
    test(`${name}: services go to their pods`, async (t) => {
      const ask = await serve(t, name, ['0.0.0.0_8000']);
      const { pod, status } = await ask('0.0.0.0_8000', { host: 'pay.ops' });
      assert.ok(PAY.includes(pod), `${pod} ${status}`);
    });
  }
});

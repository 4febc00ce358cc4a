/** Each load shed point under the same pressure in Pillion and Envoy: the same answers, ends and statistics. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { LOAD_SHED_POINTS, type LoadShedPoint, parseOverload } from '../../proxy/overload/overload_config.ts';
import { startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { exchangeThrough } from '../support/http1_exchange.ts';
import { type Frame, frame, parseFrames } from '../support/http2_wire.ts';
import { Pressure } from '../support/pressure.ts';
import { answering, RawClient, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';

interface Side {
  readonly port: number;
  readonly pressure: Pressure;
  readonly upstream: RawUpstream;
  statistic(name: string): Promise<number>;
}

const scope = fileScope();
const skip = withoutEnvoy();
let theirs: Side;
let ours: Side;

before(async () => {
  if (skip !== false) return;
  const side = async (
    start: (resources: ReturnType<typeof resourcesFor>, overload: Json) => Promise<Pick<Side, 'port' | 'statistic'>>,
  ): Promise<Side> => {
    const pressure = new Pressure(scope, LOAD_SHED_POINTS);
    const upstream = await RawUpstream.start(scope, answering());
    const overload = {
      refresh_interval: '0.02s',
      resource_monitors: pressure.monitors,
      loadshed_points: LOAD_SHED_POINTS.map((name) => ({
        name: `envoy.load_shed_points.${name}`,
        triggers: [{ name, threshold: { value: 0.9 } }],
      })),
    };
    return { pressure, upstream, ...(await start(resourcesFor(upstream.port), overload)) };
  };
  theirs = await side(async (resources, overload) => {
    const envoy = await startEnvoy(scope, resources, { overload_manager: overload });
    return {
      port: envoy.port('test'),
      async statistic(name) {
        const text = await (await fetch(`http://127.0.0.1:${envoy.adminPort}/stats?filter=^${name}$`)).text();
        return Number(/: (\d+)/.exec(text)?.[1] ?? 0);
      },
    };
  });
  ours = await side(async (resources, overload) => {
    const proxy = await startTestProxy(scope, resources, { overloadConfig: parseOverload(overload, undefined) });
    return {
      port: proxy.port(),
      async statistic(name) {
        await proxy.counted();
        return proxy.value(name);
      },
    };
  });
});

function resourcesFor(upstreamPort: number) {
  return [
    httpListener({
      routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]),
    }),
    // Each request wants a connection of its own.
    staticCluster('up', [upstreamPort], {
      typed_extension_protocol_options: {
        'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
          '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
          common_http_protocol_options: { max_requests_per_connection: 1 },
          explicit_http_config: { http_protocol_options: {} },
        },
      },
    }),
  ];
}

/** Where Pillion differs on purpose: what sheds requests ends their connections, so that the client goes elsewhere. */
const CLOSES: ReadonlySet<LoadShedPoint> = new Set(['http_connection_manager_decode_headers']);
const STATISTICS = [
  'http.test.downstream_rq_overload_close',
  'http.test.rq_overload_local_reply',
  'cluster.up.upstream_rq_503',
];

/** What a request gets over each protocol, and what is counted. */
async function shed({ port, pressure, upstream, statistic }: Side, point: LoadShedPoint): Promise<unknown> {
  const prefix = `overload.envoy.load_shed_points.${point}`;
  const before = await Promise.all(STATISTICS.map(statistic));
  pressure.set(0.95, point);
  await eventually(`${point} is up`, async () => (await statistic(`${prefix}.scale_percent`)) === 100);
  const { response, forwarded } = await exchangeThrough(
    scope,
    port,
    upstream,
    'GET / HTTP/1.1\r\nhost: shop.example\r\n\r\n',
  );
  const http1 = response.filter((line) => !CLOSES.has(point) || line !== 'connection: close');
  const client = new RawClient(scope, port).send(PREFACED_REQUEST);
  // An answer over HTTP/2, or the end of the connection.
  await client.until((text) => bodyOf(text) !== '').catch(() => '');
  const frames = framesOf(client.received);
  client.socket.destroy();
  const count = await statistic(`${prefix}.shed_load_count`);
  pressure.set(0, point);
  await eventually(`${point} is down`, async () => (await statistic(`${prefix}.scale_percent`)) === 0);
  const after = await Promise.all(STATISTICS.map(statistic));
  return {
    http1,
    forwarded: forwarded[0],
    goAway: frames.some(({ type }) => type === 7),
    answered: bodyOf(client.received),
    shed: count > 0,
    counted: after.map((value, index) => value - (before[index] as number)),
  };
}

function framesOf(received: string): Frame[] {
  const bytes = Buffer.from(received, 'latin1');
  let end = 0;
  while (end + 9 <= bytes.length && end + 9 + bytes.readUIntBE(end, 3) <= bytes.length) {
    end += 9 + bytes.readUIntBE(end, 3);
  }
  return parseFrames(bytes.subarray(0, end));
}

/** What came in DATA. */
function bodyOf(received: string): string {
  return framesOf(received)
    .filter(({ type }) => type === 0)
    .map(({ payload }) => `${payload}`)
    .join('');
}

/** GET / as a client with prior knowledge sends it: preface, SETTINGS, HEADERS. */
const PREFACED_REQUEST = Buffer.concat([
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  frame(4, 0, 0),
  frame(1, 5, 1, '\x82\x84\x86\x41\x01a'),
]).toString('latin1');

for (const point of LOAD_SHED_POINTS) {
  test(`${point}: as Envoy`, { skip }, async () => {
    const [envoy, pillion] = await Promise.all([shed(theirs, point), shed(ours, point)]);
    assert.deepEqual(pillion, envoy);
  });
}

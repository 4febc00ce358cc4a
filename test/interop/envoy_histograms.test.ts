/** What /stats says of histograms, last interval and all, beside Envoy after the same requests. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { ask } from '../support/admin_client.ts';
import { startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { httpListener, routeConfig } from '../support/envoy_resources.ts';
import { exchange } from '../support/raw_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';

const BOOTSTRAP = { stats_flush_interval: '1.5s' };
const HISTOGRAM = 'http.test.downstream_rq_time';
const QUANTILES = 'P0 P25 P50 P75 P90 P95 P99 P99.5 P99.9 P100'.split(' ');

type Read = (body: string) => string;
interface View {
  readonly query: string;
  /** What the two proxies can share of an answer. */
  readonly read: Read;
  /** Of an interval in which nothing was recorded, after one with the request. */
  readonly over: RegExp;
}

const VIEWS = {
  buckets: {
    query: 'histogram_buckets=cumulative',
    read: (body) => /B3.6e\+06\((\d+,\d+)\)/.exec(body)?.[1] ?? body,
    over: /^0,1$/,
  },
  quantiles: {
    query: 'usedonly',
    read: (body) =>
      body.replace(/\((nan|[\d.e+]+),([\d.e+]+)\)/g, (_, of: string) => (of === 'nan' ? '(nan,N)' : '(N,N)')),
    over: /nan/,
  },
  'JSON quantiles': { query: 'format=json', read: withKeys(/"interval":\d/), over: /^nothing/ },
  'JSON cumulative': {
    query: 'format=json&histogram_buckets=cumulative',
    read: withKeys(/"interval":[1-9]/),
    over: /^nothing/,
  },
  'JSON disjoint': {
    query: 'format=json&histogram_buckets=disjoint',
    read: withKeys(/"interval":[1-9]/),
    over: /^nothing/,
  },
  'JSON detailed': {
    query: 'format=json&histogram_buckets=detailed',
    read: withKeys(/"intervals":\[\{/),
    over: /^nothing/,
  },
} as const satisfies Readonly<Record<string, View>>;
type ViewName = keyof typeof VIEWS;

const scope = fileScope();
const skip = withoutEnvoy();
let envoys: Record<ViewName, string[]>;
let ours: Record<ViewName, string[]>;

before(async () => {
  if (skip !== false) return;
  const resources = [
    httpListener({
      routes: routeConfig([{ match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'x' } } }]),
    }),
  ];
  const envoy = await startEnvoy(scope, resources, BOOTSTRAP);
  const proxy = await startTestProxy(scope, resources, { bootstrap: BOOTSTRAP });
  [envoys, ours] = await Promise.all([
    changes(envoy.port('test'), envoy.adminPort),
    changes(proxy.port(), proxy.port('admin')),
  ]);
});

/** Each view's answers, as `read` sees them, each change once, from a request on until its interval is over. */
async function changes(port: number, adminPort: number): Promise<Record<ViewName, string[]>> {
  const watch = async ({ query, read, over }: View): Promise<string[]> => {
    const seen: string[] = [];
    for (const untilMs = performance.now() + 30_000; performance.now() < untilMs; ) {
      const now = read((await ask(adminPort, `/stats?filter=${HISTOGRAM.replaceAll('.', '\\.')}&${query}`)).body);
      if (now !== seen.at(-1)) seen.push(now);
      if (seen.length > 2 && over.test(now)) break;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return seen;
  };
  const watches = Object.entries(VIEWS).map(async ([name, view]) => [name, await watch(view)] as const);
  await exchange(scope, port, 'GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n');
  return Object.fromEntries(await Promise.all(watches)) as Record<ViewName, string[]>;
}

/** Names and types of everything in the histogram's JSON, and whether the interval holds something. */
function withKeys(recent: RegExp): Read {
  return (body) => {
    const { stats } = JSON.parse(body) as { stats: unknown[] };
    return `${recent.test(body) ? 'something' : 'nothing'} of late ${JSON.stringify(keys(stats.at(-1)))}`;
  };
}

function keys(value: unknown): unknown {
  if (Array.isArray(value)) return value.slice(0, 1).map(keys);
  if (value === null || typeof value !== 'object') return typeof value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, item]) => [key, keys(item)]));
}

test('buckets have the last interval and all; the interval is empty when its time is over', { skip }, () => {
  for (const { buckets } of [envoys, ours]) assert.deepEqual(buckets.slice(-2), ['1,1', '0,1']);
});

test('quantiles have the last interval where something was recorded in it, else nan', { skip }, () => {
  const line = (values: string): string => `${HISTOGRAM}: ${QUANTILES.map((name) => `${name}(${values})`).join(' ')}\n`;
  for (const { quantiles } of [envoys, ours]) assert.deepEqual(quantiles.slice(-2), [line('N,N'), line('nan,N')]);
});

for (const view of Object.keys(VIEWS).filter((name) => name.startsWith('JSON')) as ViewName[]) {
  test(`${view} has the fields that Envoy's has, in an interval with a request and in the one after`, { skip }, () => {
    assert.match(ours[view].at(-2) ?? '', /^something/);
    assert.deepEqual(ours[view].slice(-2), envoys[view].slice(-2));
  });
}

/** Statistics in shared memory: caps, expiry, threads that die. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import istioStats from '../../../filters/istio_stats.ts';
import type { FilterContext, FilterDeps } from '../../../proxy/http/filter.ts';
import { RequestHeaders } from '../../../proxy/http/headers.ts';
import { StreamInfo } from '../../../proxy/http/stream_info.ts';
import { plainConnection, socketAddress } from '../../../proxy/net/connection_info.ts';
import { Deadlines } from '../../../proxy/net/deadlines.ts';
import { Aggregate } from '../../../proxy/telemetry/aggregate.ts';
import { MAX_LABEL_SETS, OVERFLOW_COUNTER, SlabStatistics } from '../../../proxy/telemetry/slab.ts';

/** A thread's statistics, as the control thread sees them. */
function thread(aggregate: Aggregate): { statistics: SlabStatistics; died: () => void } {
  const { message, died } = aggregate.addSlab();
  return { statistics: new SlabStatistics(message), died };
}

test('label sets beyond the cap share a series that says so, and are counted', () => {
  const aggregate = new Aggregate();
  const { statistics } = thread(aggregate);
  for (let i = 0; i < MAX_LABEL_SETS + 500; i++) statistics.counter('istio_requests_total', { peer: `p${i}` }).inc();
  assert.equal(aggregate.value('istio_requests_total', { peer: 'p0' }), 1);
  assert.equal(aggregate.value('istio_requests_total', { peer: `p${MAX_LABEL_SETS}` }), 0);
  assert.equal(aggregate.value('istio_requests_total', { overflow: 'true' }), 500);
  assert.equal(aggregate.value(OVERFLOW_COUNTER), 500);
});

test('a labelled series that stands still expires, and its slots are used again, from zero', () => {
  const aggregate = new Aggregate();
  const { statistics } = thread(aggregate);
  const labels = { peer: 'a' };
  statistics.counter('istio_requests_total', labels).add(7);
  statistics.histogram('istio_request_bytes', labels).record(3);
  statistics.counter('cluster.a.upstream_rq_total').inc();
  const before = aggregate.seriesCount;
  statistics.expire(0, 1000);
  statistics.expire(500, 1000);
  assert.equal(aggregate.value('istio_requests_total', labels), 7);
  const generation = statistics.expirations;
  statistics.expire(2000, 1000);
  assert.notEqual(statistics.expirations, generation);
  assert.equal(aggregate.seriesCount, before - 2);
  assert.equal(aggregate.value('cluster.a.upstream_rq_total'), 1);
  statistics.expire(2001, 1000);
  statistics.counter('istio_requests_total', { peer: 'b' }).inc();
  statistics.histogram('istio_request_bytes', { peer: 'b' }).record(3);
  assert.equal(aggregate.value('istio_requests_total', { peer: 'b' }), 1);
  assert.equal(aggregate.value('istio_request_bytes', { peer: 'b' }), 1);
  assert.equal(aggregate.value('istio_requests_total', labels), 0);
});

test('expiry leaves room below the cap, and what is still counting stays', () => {
  const aggregate = new Aggregate();
  const { statistics } = thread(aggregate);
  for (let i = 0; i < MAX_LABEL_SETS; i++) statistics.counter('m', { peer: `p${i}` }).inc();
  statistics.expire(0, 1000);
  const busy = statistics.counter('m', { peer: 'p1' });
  busy.inc();
  statistics.expire(1500, 1000);
  busy.inc();
  assert.equal(aggregate.value('m', { peer: 'p1' }), 3);
  assert.equal(aggregate.value('m', { peer: 'p2' }), 0);
  statistics.counter('m', { peer: 'new' }).inc();
  assert.equal(aggregate.value('m', { peer: 'new' }), 1);
});

test('a series that one thread dropped keeps what it counted while another counts on', () => {
  const aggregate = new Aggregate();
  const [first, second] = [thread(aggregate), thread(aggregate)];
  first.statistics.counter('m', { peer: 'a' }).add(5);
  const counter = second.statistics.counter('m', { peer: 'a' });
  counter.add(2);
  first.statistics.expire(0, 10);
  first.statistics.expire(5, 10);
  first.statistics.expire(20, 10);
  assert.equal(aggregate.value('m', { peer: 'a' }), 7);
  counter.inc();
  assert.equal(aggregate.value('m', { peer: 'a' }), 8);
});

test('a thread that dies leaves its counts and takes its gauges; what nobody counts in any more goes', () => {
  const aggregate = new Aggregate();
  const { statistics, died } = thread(aggregate);
  statistics.counter('m', { peer: 'a' }).add(5);
  statistics.counter('plain').add(4);
  statistics.gauge('active').set(3);
  died();
  assert.equal(aggregate.value('m', { peer: 'a' }), 5);
  assert.equal(aggregate.value('plain'), 4);
  assert.equal(aggregate.value('active'), 0);
  aggregate.expire(1, 1000);
  aggregate.expire(1002, 1000);
  assert.equal(aggregate.value('m', { peer: 'a' }), 0);
  assert.equal(aggregate.value('plain'), 4);
});

test('series that stats_matcher keeps out are never made, and cost one object', () => {
  const aggregate = new Aggregate();
  const { message } = aggregate.addSlab();
  const statistics = new SlabStatistics(message, {
    accepts: (name) => !name.startsWith('http.'),
    bounds: () => [1, 2],
  });
  const before = aggregate.seriesCount;
  statistics.counter('http.a.rq').inc();
  statistics.histogram('http.a.time').record(5);
  statistics.gauge('http.a.active').set(9);
  assert.equal(aggregate.seriesCount, before);
  statistics.histogram('cluster.a.time').record(5);
  const value = [...aggregate.values()].find(({ name }) => name === 'cluster.a.time');
  const histogram = value?.read().histogram;
  assert.deepEqual(histogram?.bounds, [1, 2]);
  assert.deepEqual(histogram?.buckets, [0, 0, 1]);
});

test('istio.stats does not count in the slots of a series that has expired', () => {
  const aggregate = new Aggregate();
  const { statistics } = thread(aggregate);
  const deadlines = new Deadlines(() => 0);
  const info = new StreamInfo(
    plainConnection(1, socketAddress('10.0.0.1', 80), socketAddress('10.0.0.2', 4000), 0),
    0,
    0,
  );
  info.responseCode = 200;
  // Only what the filter looks at.
  const deps = { statistics, deadlines, direction: 'outbound', node: { id: '', cluster: '', metadata: {} } };
  const filter = istioStats.create(istioStats.parse({}), deps as unknown as FilterDeps);
  const requestHeaders = new RequestHeaders();
  requestHeaders.authority = 'web';
  const ctx = { info, connection: info.connection, requestHeaders } as unknown as FilterContext;
  filter.onDestroy?.(ctx);
  const total = (): number =>
    [...aggregate.values()]
      .filter(({ name }) => name === 'istio_requests_total')
      .reduce((sum, series) => sum + series.read().value, 0);
  assert.equal(total(), 1);
  statistics.expire(0, 10);
  statistics.expire(20, 10);
  statistics.expire(21, 10);
  assert.equal(total(), 0);
  // Its slots are somebody else's now.
  statistics.counter('other', { a: 'b' }).add(5);
  filter.onDestroy?.(ctx);
  assert.equal(total(), 1);
  assert.equal(aggregate.value('other', { a: 'b' }), 5);
});

/** Tables of consistent hashing: what is in them, who builds them, and what is chosen meanwhile. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildHashTable, type HashTableSpec } from '../../../proxy/load_balancers/hash_table.ts';
import type { HashTables } from '../../../proxy/load_balancers/hash_tables.ts';
import type { LoadBalancerContext } from '../../../proxy/load_balancers/load_balancer.ts';
import { type hash, NumberedHashes, xxHash64, xxHash64OfText } from '../../../proxy/load_balancers/xx_hash64.ts';
import { SlabStatistics } from '../../../proxy/telemetry/slab.ts';
import type { Gauge } from '../../../proxy/telemetry/statistics.ts';
import { DEFAULT_SESSION_HEALTH } from '../../../proxy/upstream/host.ts';
import { ClusterHosts } from '../../../proxy/upstream/cluster_hosts.ts';
import { HashTableBuilder } from '../../../proxy/upstream/hash_table_builder.ts';
import type { Endpoint } from '../../../proxy/upstream/load_assignment.ts';
import { plainEndpoint } from '../../../proxy/upstream/load_assignment.ts';
import { SharedHashTables } from '../../../proxy/upstream/shared_hash_tables.ts';
import { eventually } from '../../support/eventually.ts';

// ── XXH64 as its specification has it, in BigInt ────────────────────────────────────────────────────────────────────

const MASK = (1n << 64n) - 1n;
const [P1, P2, P3, P4, P5] = [
  0x9e3779b185ebca87n,
  0xc2b2ae3d27d4eb4fn,
  0x165667b19e3779f9n,
  0x85ebca77c2b2ae63n,
  0x27d4eb2f165667c5n,
] as const;
const turn = (value: bigint, bits: bigint): bigint => ((value << bits) | (value >> (64n - bits))) & MASK;
const round = (acc: bigint, input: bigint): bigint => (turn((acc + input * P2) & MASK, 31n) * P1) & MASK;

function reference(bytes: Buffer, seed: bigint): bigint {
  let at = 0;
  let acc = (seed + P5) & MASK;
  if (bytes.length >= 32) {
    const lanes = [(seed + P1 + P2) & MASK, (seed + P2) & MASK, seed, (seed - P1) & MASK];
    for (; at + 32 <= bytes.length; at += 32) {
      lanes.forEach((lane, index) => {
        lanes[index] = round(lane, bytes.readBigUInt64LE(at + index * 8));
      });
    }
    acc = [1n, 7n, 12n, 18n].reduce((sum, bits, index) => (sum + turn(lanes[index] as bigint, bits)) & MASK, 0n);
    for (const lane of lanes) acc = ((acc ^ round(0n, lane)) * P1 + P4) & MASK;
  }
  acc = (acc + BigInt(bytes.length)) & MASK;
  for (; at + 8 <= bytes.length; at += 8) {
    acc = (turn(acc ^ round(0n, bytes.readBigUInt64LE(at)), 27n) * P1 + P4) & MASK;
  }
  if (at + 4 <= bytes.length) {
    acc = (turn(acc ^ ((BigInt(bytes.readUInt32LE(at)) * P1) & MASK), 23n) * P2 + P3) & MASK;
    at += 4;
  }
  for (; at < bytes.length; at++) acc = (turn(acc ^ ((BigInt(bytes[at] as number) * P5) & MASK), 11n) * P1) & MASK;
  acc = ((acc ^ (acc >> 33n)) * P2) & MASK;
  acc = ((acc ^ (acc >> 29n)) * P3) & MASK;
  return acc ^ (acc >> 32n);
}

const wide = ({ high, low }: typeof hash): bigint => (BigInt(high) << 32n) | BigInt(low);

test('xxHash64 is as specified for every length and seed', () => {
  assert.equal(wide(xxHash64OfText('')), 0xef46db3751d8e999n);
  for (let length = 0; length < 200; length++) {
    const bytes = Buffer.from(Array.from({ length }, (_, index) => (index * 151 + length * 31) & 0xff));
    for (const seed of [0, 1, 0x9e3779b1, 0xffffffff]) {
      assert.equal(wide(xxHash64(bytes, seed)), reference(bytes, BigInt(seed)), `${length} bytes, seed ${seed}`);
    }
  }
  const long = Buffer.alloc(100_000, 'long');
  assert.equal(wide(xxHash64(long)), reference(long, 0n));
  const numbered = new NumberedHashes();
  numbered.begin('10.0.0.1:80 é');
  for (let i = 0; i < 1200; i++)
    assert.equal(wide(numbered.next()), reference(Buffer.from(`10.0.0.1:80 é_${i}`), 0n), `${i}`);
});

// ── the tables ──────────────────────────────────────────────────────────────────────────────────────────────────────

function spec(kind: HashTableSpec['kind'], size: number, count: number, weightOf: (index: number) => number) {
  const indices = Array.from({ length: count }, (_, index) => index);
  return {
    kind,
    size,
    maximum: 8_388_608,
    keys: indices.map((index) => `10.0.${index >> 8}.${index & 255}:8080`),
    weights: indices.map(weightOf),
  } satisfies HashTableSpec;
}

/** Point by point, as Envoy's comments say it. */
function plainRing({ size, maximum, keys, weights }: HashTableSpec): bigint[][] {
  const total = weights.reduce((sum, weight) => sum + weight);
  const shares = weights.map((weight) => weight / total);
  const least = Math.min(...shares);
  const scale = Math.min(Math.ceil(least * size) / least, maximum);
  const points: bigint[][] = [];
  let target = 0;
  keys.forEach((key, owner) => {
    target += scale * (shares[owner] as number);
    for (let i = 0; points.length < target; i++)
      points.push([reference(Buffer.from(`${key}_${i}`), 0n), BigInt(owner)]);
  });
  return points.sort(([a], [b]) => ((a as bigint) < (b as bigint) ? -1 : 1));
}

for (const [count, size, weightOf] of [
  [1, 1, () => 1],
  [3, 1024, () => 1],
  [50, 1024, (index) => 1 + (index % 7)],
  [2000, 1024, () => 3],
] as const satisfies readonly (readonly [number, number, (index: number) => number])[]) {
  test(`a ring of ${count} hosts and ${size} points is what Envoy makes`, () => {
    const given = spec('ring', size, count, weightOf);
    const ring = buildHashTable(given);
    const points = ring.length / 3;
    const found = Array.from({ length: points }, (_, at) => [
      (BigInt(ring[at] as number) << 32n) | BigInt(ring[points + at] as number),
      BigInt(ring[2 * points + at] as number),
    ]);
    assert.deepEqual(found, plainRing(given));
  });
}

test('each host has its share of a Maglev table, by weight, and no entry is left', () => {
  const table = buildHashTable(spec('maglev', 65_537, 10, (index) => (index < 5 ? 1 : 2)));
  const counts = new Array<number>(10).fill(0);
  for (const owner of table) (counts[owner] as number)++;
  counts.forEach((count, index) => {
    const wanted = (65_537 * (index < 5 ? 1 : 2)) / 15;
    assert.ok(Math.abs(count - wanted) < wanted * 0.01 + 2, `${index}: ${count}, wanted ${wanted}`);
  });
});

// ── who builds them ─────────────────────────────────────────────────────────────────────────────────────────────────

function builder() {
  const gauges = new Map<string, number>();
  const statistics = new SlabStatistics(() => {});
  statistics.gauge = (name: string): Gauge => ({
    inc: () => {},
    dec: () => {},
    set: (value) => void gauges.set(name, value),
  });
  return { builder: new HashTableBuilder(statistics), gauges };
}

const LARGE = spec('ring', 300_000, 1000, () => 1);

test('all threads get one and the same table, built elsewhere, which goes when the last lets go', async (t) => {
  const { builder: subject, gauges } = builder();
  t.after(() => subject.stop());
  const threads = [{}, {}];
  const answers: (SharedArrayBuffer | undefined)[] = [];
  const text = JSON.stringify(LARGE);
  for (const thread of threads) subject.wanted(thread, 1, text, (memory) => answers.push(memory));
  assert.equal(answers.length, 0, 'it takes its time');
  await eventually('both are answered', () => answers.length === 2);
  assert.equal(answers[0], answers[1]);
  assert.deepEqual(new Uint32Array(answers[0] as SharedArrayBuffer), buildHashTable(LARGE));
  assert.equal(gauges.get('server.hash_tables'), 1);
  assert.equal(gauges.get('server.hash_tables_bytes'), answers[0]?.byteLength);
  // A thread that comes later, or anew, has it at once.
  subject.wanted({}, 1, text, (memory) => answers.push(memory));
  assert.equal(answers[2], answers[0]);
  subject.letGo(threads[0] as object, 1);
  subject.forget(threads[1] as object);
  assert.equal(gauges.get('server.hash_tables'), 1);
});

test('a small table is there at once, and its memory goes with its last user', () => {
  const { builder: subject, gauges } = builder();
  const thread = {};
  let memory: SharedArrayBuffer | undefined;
  subject.wanted(thread, 7, JSON.stringify(spec('ring', 1024, 3, () => 1)), (built) => {
    memory = built;
  });
  assert.ok(memory !== undefined);
  subject.letGo(thread, 7);
  subject.letGo(thread, 7);
  assert.equal(gauges.get('server.hash_tables'), 0);
  assert.equal(gauges.get('server.hash_tables_bytes'), 0);
});

test('a thread asks once for what it has, and builds itself what nobody could build', async () => {
  const asked: number[] = [];
  const tables = new SharedHashTables({ wanted: (id) => asked.push(id), letGo: () => {} });
  const small = spec('ring', 64, 3, () => 1);
  const first = tables.want(small);
  assert.equal(tables.want({ ...small }), first);
  assert.deepEqual(asked, [1]);
  const { ready } = first;
  tables.arrived(1, undefined);
  await ready;
  assert.equal(first.ready, undefined);
  assert.deepEqual(first.now(), buildHashTable(small));
});

// ── what is chosen meanwhile ────────────────────────────────────────────────────────────────────────────────────────

const endpoint = (index: number): Endpoint => plainEndpoint(`10.0.0.${index + 1}`, 80);

function context(hashLow: number): LoadBalancerContext {
  return {
    hashHigh: Math.imul(hashLow, 0x9e3779b1) >>> 0,
    hashLow,
    hasHash: true,
    attempt: 0,
    metadataMatch: undefined,
    shouldSkip: () => false,
  };
}

for (const policy of ['ring_hash', 'maglev'] as const) {
  test(`${policy}: the former table serves until the new one is there, without hosts that are gone`, async () => {
    const waiting = new Map<number, HashTableSpec>();
    const shared: SharedHashTables = new SharedHashTables({
      wanted: (id, text) => void waiting.set(id, JSON.parse(text) as HashTableSpec),
      letGo: () => {},
    });
    const arrive = (): void => {
      for (const [id, wanted] of waiting) shared.arrived(id, buildHashTable(wanted).buffer);
      waiting.clear();
    };
    const hosts = subject(policy, shared);
    const update = (...indices: number[]) =>
      hosts.update({ clusterName: 'c', endpoints: indices.map(endpoint), overprovisioningFactor: 140 });
    const choices = () => Array.from({ length: 300 }, (_, index) => hosts.choose(context(index))?.address.ip);
    update(0, 1, 2);
    const first = hosts.ready(context(0));
    assert.ok(first !== undefined, 'the first table is waited for');
    arrive();
    await first;
    assert.equal(hosts.ready(context(0)), undefined);
    const before = choices();
    // One goes, one comes: nobody waits, the one that is gone gets nothing, its keys alone move.
    update(0, 1, 3);
    assert.equal(hosts.ready(context(0)), undefined);
    const between = choices();
    assert.ok(!between.includes('10.0.0.3') && !between.includes('10.0.0.4'));
    before.forEach((ip, index) => {
      if (ip !== '10.0.0.3') assert.equal(between[index], ip);
    });
    arrive();
    await new Promise(setImmediate);
    const after = choices();
    const fresh = subject(policy, undefined);
    fresh.update({ clusterName: 'c', endpoints: [0, 1, 3].map(endpoint), overprovisioningFactor: 140 });
    assert.deepEqual(
      after,
      Array.from({ length: 300 }, (_, index) => fresh.choose(context(index))?.address.ip),
    );
    assert.ok(after.includes('10.0.0.4'));
  });
}

function subject(policy: 'ring_hash' | 'maglev', tables: HashTables | undefined): ClusterHosts {
  return new ClusterHosts(
    {
      loadBalancer:
        policy === 'maglev'
          ? { policy, tableSize: 65_537, useHostnameForHashing: false }
          : {
              policy,
              minimumRingSize: 1024,
              maximumRingSize: 8_388_608,
              hashFunction: 'xx_hash',
              useHostnameForHashing: false,
            },
      slowStart: undefined,
      panicThresholdPercent: 50,
      failOnPanic: false,
      localityWeighted: false,
      sessionHealth: DEFAULT_SESSION_HEALTH,
      subsets: undefined,
      random: Math.random,
      nowMs: () => 0,
      ...(tables !== undefined && { tables }),
    },
    new Map(),
  );
}

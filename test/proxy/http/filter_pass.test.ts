import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Filter, FilterStatus } from '../../../proxy/http/filter.ts';
import { FilterPass, type FilterSlot, type PassOwner } from '../../../proxy/http/filter_pass.ts';
import { Headers, RequestHeaders } from '../../../proxy/http/headers.ts';

/** Records what comes out of a pass. */
class Recorder implements PassOwner {
  readonly states: unknown[] = [];
  readonly events: string[] = [];
  currentSlot: FilterSlot | undefined = undefined;

  headersPassed(_pass: FilterPass, endStream: boolean): void {
    this.events.push(endStream ? 'headers end' : 'headers');
  }
  dataPassed(_pass: FilterPass, bytes: Buffer, endStream: boolean): void {
    this.events.push(`data ${bytes.toString()}${endStream ? ' end' : ''}`);
  }
  trailersPassed(): void {
    this.events.push('trailers');
  }
  readingPaused(_pass: FilterPass, paused: boolean): void {
    this.events.push(paused ? 'paused' : 'resumed');
  }
  hookFailed(pass: FilterPass, slot: FilterSlot): void {
    pass.stop();
    this.events.push(`failed ${slot.name}`);
  }
  bufferFull(): void {
    this.events.push('full');
  }
}

function setUp(filters: Filter<unknown>[], limit = 1000) {
  const owner = new Recorder();
  const slots = filters.map((filter, stateIndex) => ({ filter, name: `f${stateIndex}`, stateIndex, disabled: false }));
  return { owner, slots, pass: new FilterPass(owner, true, slots, limit) };
}

test('FilterPass passes headers, data and trailers in order when all filters continue', () => {
  const seen: string[] = [];
  const filter: Filter<unknown> = {
    decodeHeaders: () => {
      seen.push('h');
      return 'continue';
    },
    decodeData: (_ctx, body) => {
      seen.push(body.bytes.toString());
      return 'continue';
    },
    decodeTrailers: () => {
      seen.push('t');
      return 'continue';
    },
  };
  const { owner, pass } = setUp([filter, {}]);
  pass.start(new RequestHeaders(), false);
  pass.data(Buffer.from('ab'), false);
  pass.trailers(new Headers());
  assert.deepEqual(seen, ['h', 'ab', 't']);
  assert.deepEqual(owner.events, ['headers', 'data ab', 'trailers']);
});

test('FilterPass holds headers and copies of the body when a filter buffers, and releases all when it continues', () => {
  let chunks = 0;
  const { owner, pass } = setUp([
    { decodeHeaders: () => 'buffer', decodeData: () => (++chunks === 3 ? 'continue' : 'buffer') },
  ]);
  const shared = Buffer.from('xx');
  pass.start(new RequestHeaders(), false);
  for (const text of ['aa', 'bb', 'cc']) {
    shared.write(text);
    pass.data(shared, text === 'cc');
    shared.fill(0xdd);
  }
  assert.deepEqual(owner.events, ['headers', 'data aa', 'data bb', 'data cc end']);
});

test('FilterPass releases what a filter without a data hook holds when the message ends', () => {
  const { owner, pass } = setUp([{ decodeHeaders: () => 'buffer' }]);
  pass.start(new RequestHeaders(), false);
  pass.data(Buffer.from('a'), false);
  assert.deepEqual(owner.events, []);
  pass.data(Buffer.from('b'), true);
  assert.deepEqual(owner.events, ['headers', 'data a', 'data b end']);
});

test('FilterPass releases a held message when trailers end it', () => {
  const { owner, pass } = setUp([{ decodeHeaders: () => 'buffer' }]);
  pass.start(new RequestHeaders(), false);
  pass.data(Buffer.from('a'), false);
  pass.trailers(new Headers());
  assert.deepEqual(owner.events, ['headers', 'data a', 'trailers']);
});

test('FilterPass goes on at once when a filter buffers a message without a body', () => {
  const { owner, pass } = setUp([{ decodeHeaders: () => 'buffer' }]);
  pass.start(new RequestHeaders(), true);
  assert.deepEqual(owner.events, ['headers end']);
});

test('FilterPass reports a full buffer and stops when a held body passes the limit', () => {
  const { owner, pass } = setUp([{ decodeHeaders: () => 'buffer' }], 3);
  pass.start(new RequestHeaders(), false);
  pass.data(Buffer.from('abc'), false);
  pass.data(Buffer.from('d'), true);
  pass.data(Buffer.from('e'), true);
  assert.deepEqual(owner.events, ['full']);
});

test('FilterPass pauses reading while a promise is pending and goes on in order when it settles', async () => {
  const { promise, resolve } = Promise.withResolvers<FilterStatus>();
  const { owner, pass } = setUp([{ decodeHeaders: () => promise }, {}]);
  pass.start(new RequestHeaders(), false);
  pass.data(Buffer.from('a'), false);
  pass.data(Buffer.from('b'), true);
  assert.deepEqual(owner.events, ['paused']);
  resolve('continue');
  await promise;
  assert.deepEqual(owner.events, ['paused', 'resumed', 'headers', 'data a', 'data b end']);
});

test('FilterPass lets nothing through when it was stopped while a promise was pending', async () => {
  const { promise, resolve } = Promise.withResolvers<FilterStatus>();
  const { owner, pass } = setUp([{ decodeHeaders: () => promise }]);
  pass.start(new RequestHeaders(), true);
  pass.stop();
  resolve('continue');
  await promise;
  assert.deepEqual(owner.events, ['paused']);
});

test('FilterPass reports the filter when a hook throws or its promise rejects', async () => {
  const thrown = setUp([
    {
      decodeHeaders() {
        throw new Error('x');
      },
    },
  ]);
  thrown.pass.start(new RequestHeaders(), true);
  assert.deepEqual(thrown.owner.events, ['failed f0']);
  const rejection = Promise.reject(new Error('x'));
  const rejected = setUp([{}, { decodeHeaders: () => rejection }]);
  rejected.pass.start(new RequestHeaders(), true);
  await rejection.catch(() => {});
  assert.deepEqual(rejected.owner.events, ['paused', 'failed f1']);
});

test('FilterPass gives later filters the body that an earlier one replaced', () => {
  const { owner, pass } = setUp([
    {
      decodeData(_ctx, body) {
        body.bytes = Buffer.from(body.bytes.toString().toUpperCase());
        return 'continue';
      },
    },
  ]);
  pass.start(new RequestHeaders(), false);
  pass.data(Buffer.from('abc'), true);
  assert.deepEqual(owner.events, ['headers', 'data ABC end']);
});

test('FilterPass hands injected data to the filters behind the injecting one', () => {
  const behind: string[] = [];
  const { owner, slots, pass } = setUp([
    { decodeData: () => assert.fail('must not see what it injected itself') },
    {
      decodeData: (_ctx, body) => {
        behind.push(body.bytes.toString());
        return 'continue';
      },
    },
  ]);
  pass.start(new RequestHeaders(), false);
  pass.inject(slots[0] as FilterSlot, Buffer.from('made'), true);
  assert.deepEqual(behind, ['made']);
  assert.deepEqual(owner.events, ['headers', 'data made end']);
});

test('FilterPass holds at a second filter what a first one released', () => {
  const { owner, pass } = setUp([
    { decodeHeaders: () => 'buffer', decodeData: (_ctx, _body, end) => (end ? 'continue' : 'buffer') },
    { decodeHeaders: () => 'buffer', decodeData: (_ctx, _body, end) => (end ? 'continue' : 'buffer') },
  ]);
  pass.start(new RequestHeaders(), false);
  pass.data(Buffer.from('a'), false);
  pass.data(Buffer.from('b'), true);
  assert.deepEqual(owner.events, ['headers', 'data a', 'data b end']);
});

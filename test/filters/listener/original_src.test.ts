import assert from 'node:assert/strict';
import { test } from 'node:test';
import originalSrc from '../../../filters/listener/original_src.ts';
import { socketAddress } from '../../../proxy/net/connection_info.ts';
import { originalSource } from '../../../proxy/net/original_source.ts';
import { CountedFilter, newFacts } from '../../support/listener_filters.ts';

test('original_src has connections to hosts come from the client, with the mark', () => {
  const { verdict, facts } = new CountedFilter(originalSrc, { mark: 1337 }).inspect(Buffer.alloc(0));
  assert.equal(verdict, 'done');
  assert.deepEqual(originalSource(facts.filterState), { ip: '10.0.0.9', mark: 1337 });
});

test('original_src leaves clients of unix sockets alone', () => {
  const facts = { ...newFacts(), remoteAddress: socketAddress('/run/x', 0) };
  new CountedFilter(originalSrc).inspect(Buffer.alloc(0), 1, facts);
  assert.equal(facts.filterState, undefined);
});

test('original_src refuses by name to take the port of the client too', () => {
  assert.throws(() => new CountedFilter(originalSrc, { bind_port: true }), /bind_port/);
});

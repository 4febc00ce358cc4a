import assert from 'node:assert/strict';
import { test } from 'node:test';
import originalDst from '../../../filters/listener/original_dst.ts';
import { CountedFilter, newFacts } from '../../support/listener_filters.ts';

const inspect = (original?: { ip: string; port: number }) =>
  new CountedFilter(originalDst).inspect(Buffer.alloc(0), 1, newFacts(original));

test('original_dst restores the address when the connection was redirected', () => {
  const { verdict, facts } = inspect({ ip: '10.9.8.7', port: 5432 });
  assert.equal(verdict, 'done');
  assert.equal(facts.localAddress.text, '10.9.8.7:5432');
  assert.equal(facts.localAddressRestored, true);
});

for (const [says, original] of [
  ['netfilter knows nothing of it', undefined],
  ['somebody dialled the listener itself', { ip: '10.0.0.1', port: 8080 }],
] as const) {
  test(`original_dst leaves the address alone when ${says}`, () => {
    const { verdict, facts } = inspect(original);
    assert.equal(verdict, 'done');
    assert.equal(facts.localAddress.text, '10.0.0.1:8080');
    assert.equal(facts.localAddressRestored, false);
  });
}

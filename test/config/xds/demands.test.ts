/** Names that clients make the proxy ask for: as many as there may be, and let go when the server has none. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Push } from '../../../config/xds/discovery_messages.ts';
import { Demands, MAX_DEMANDED, withoutEmpty } from '../../../config/xds/demands.ts';
import { VIRTUAL_HOST } from '../../../config/xds/resource_types.ts';

const push = (resources: Push['resources']): Push => ({
  typeUrl: VIRTUAL_HOST.url,
  version: '1',
  nonce: 'n',
  resources,
  removed: [],
  isComplete: false,
  controlPlane: '',
});

test('what clients ask for is bounded, and a name that there is not makes room for another', () => {
  const names = new Set<string>();
  const absent: string[] = [];
  let full = 0;
  const demands = new Demands(() => full++);
  const stream = {
    start: () => {},
    subscribe: (_: unknown, name: string) => void names.add(name),
    unsubscribe: (_: unknown, name: string) => void names.delete(name),
  };
  const ask = (host: string): boolean =>
    demands.demand(
      { kind: 'host', routes: 'r', host },
      {},
      () => stream,
      () => absent.push(host),
    );
  for (let index = 0; index < MAX_DEMANDED; index++) ask(`h${index}`);
  assert.equal(names.size, MAX_DEMANDED);
  ask('more');
  assert.deepEqual([names.size, full, absent.splice(0)], [MAX_DEMANDED, 1, ['more']]);
  demands.answered(VIRTUAL_HOST, push([]), ['r/h0', 'r/h1']);
  assert.deepEqual(absent.splice(0), ['h0', 'h1']);
  ask('more');
  assert.equal(names.has('r/more'), true);
  // What is there stays subscribed to; asked for again, nobody is told that it is absent.
  demands.answered(
    VIRTUAL_HOST,
    push([{ name: 'r/x', version: '1', typeUrl: 't', bytes: Buffer.from('x'), aliases: ['r/more'] }]),
    [],
  );
  assert.equal(names.has('r/more'), true);
  assert.deepEqual(absent, []);
  demands.stop();
});

test('what no source can be asked for is refused at once', () => {
  const demands = new Demands(() => {});
  assert.equal(
    demands.demand(
      { kind: 'cluster', name: 'c', configSource: {} },
      {},
      () => undefined,
      () => {},
    ),
    false,
  );
});

test('a resource without content does not exist, under any of its names', () => {
  const given = push([
    { name: 'r/a', version: '1', typeUrl: '', bytes: Buffer.alloc(0), aliases: ['r/b'] },
    { name: 'r/c', version: '1', typeUrl: VIRTUAL_HOST.url, bytes: Buffer.alloc(0) },
  ]);
  const { resources, removed } = withoutEmpty(given);
  assert.deepEqual([resources.map(({ name }) => name), removed], [['r/c'], ['r/a', 'r/b']]);
});

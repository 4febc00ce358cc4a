/** Load assignments of many endpoints are read some at a time, and come out as if they had been read at once. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { inspectResource } from '../../../config/build/check.ts';
import { readMessage } from '../../../config/envoy/messages.ts';
import type { Json } from '../../../config/resources.ts';
import { encodeMessage, type PushedResource } from '../../../config/xds/discovery_messages.ts';
import { readInParts } from '../../../config/xds/large_assignments.ts';
import { readResources } from '../../../config/xds/pushed_resources.ts';
import { namedType } from '../../../config/xds/resource_types.ts';
import { ConfigError } from '../../../proxy/config_error.ts';

const TYPE = namedType('endpoint');

const endpoint = (index: number, port = 8080): Json => ({
  endpoint: {
    address: {
      socket_address: { address: `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`, port_value: port },
    },
  },
  metadata: { filter_metadata: { istio: { workload: `web-${index};shop;web;v1;Kubernetes` } } },
});

/** `sizes`: endpoints of each locality. */
function assignment(
  sizes: readonly number[],
  spoil: (locality: number, index: number) => Json | undefined = () => undefined,
): Json {
  return {
    cluster_name: 'c',
    endpoints: sizes.map((size, locality) => ({
      locality: { region: 'r', zone: `z${locality}` },
      lb_endpoints: Array.from({ length: size }, (_, index) => spoil(locality, index) ?? endpoint(index)),
      load_balancing_weight: locality + 1,
    })),
    policy: { overprovisioning_factor: 150 },
  };
}

const pushed = (json: Json, name = 'c'): PushedResource => ({
  name,
  version: '1',
  typeUrl: TYPE.url,
  bytes: encodeMessage(TYPE.message, json),
});

interface Turns {
  /** Endpoints that were built between two turns. */
  readonly between: number[];
}

/** Of a source that is asked for everything. */
const ANY = 'any';

async function read(resource: PushedResource, names: readonly string[] | typeof ANY = ['c']) {
  const turns: Turns = { between: [0] };
  const result = await readResources(
    {
      typeUrl: TYPE.url,
      version: '1',
      nonce: '',
      resources: [resource],
      removed: [],
      isComplete: false,
      controlPlane: '',
    },
    {
      type: TYPE,
      names: names === ANY ? undefined : new Set(names),
      origin: 'test',
      known: new Map(),
      complete: (json) => json,
      check(resource) {
        const groups = (resource.json['endpoints'] ?? []) as readonly { readonly lb_endpoints?: readonly Json[] }[];
        const count = groups.reduce((sum, group) => sum + (group.lb_endpoints?.length ?? 0), 0);
        turns.between[turns.between.length - 1] = (turns.between.at(-1) ?? 0) + count;
        const found = inspectResource(resource);
        return found instanceof ConfigError ? found.message : undefined;
      },
      pause() {
        turns.between.push(0);
        return Promise.resolve();
      },
    },
  );
  return { ...result, turns };
}

function localities([first]: readonly { readonly json: Json }[]): readonly {
  readonly lb_endpoints: readonly unknown[];
}[] {
  return (first?.json['endpoints'] ?? []) as readonly { readonly lb_endpoints: readonly unknown[] }[];
}

describe('a load assignment', () => {
  test('of 10,000 endpoints leaves the control thread a turn every few hundred', async () => {
    const { changed, bad, turns } = await read(pushed(assignment([10_000])));
    assert.deepEqual(bad, []);
    assert.equal(localities(changed)[0]?.lb_endpoints.length, 10_000);
    assert.equal(
      turns.between.reduce((sum, count) => sum + count, 0),
      10_000,
    );
    assert.ok(Math.max(...turns.between) <= 400, `${Math.max(...turns.between)} endpoints in one turn`);
  });

  test('of a thousand localities too', async () => {
    const { changed, bad, turns } = await read(pushed(assignment(Array.from({ length: 1000 }, () => 5))));
    assert.deepEqual(bad, []);
    assert.equal(localities(changed).length, 1000);
    assert.ok(Math.max(...turns.between) <= 400, `${Math.max(...turns.between)} endpoints in one turn`);
  });

  for (const sizes of [[3000], [1, 3000, 2], [400, 400, 400], [3000, 1, 3000], Array.from({ length: 900 }, () => 2)]) {
    test(`with localities of ${sizes.slice(0, 3).join(', ')} reads as it does at once`, async () => {
      const json = assignment(sizes);
      const bytes = encodeMessage(TYPE.message, json);
      const whole = readMessage(TYPE.message, json, { unknownFields: 'refuse' }).json;
      const { changed } = await read(pushed(json));
      assert.deepEqual(changed[0]?.json, JSON.parse(JSON.stringify(whole)));
      assert.ok(bytes.length > 65_536, 'large enough to be cut');
    });
  }

  test('is refused by the index that a bad endpoint has in the whole', async () => {
    const noAddress = assignment([10, 9000], (locality, index) =>
      locality === 1 && index === 7777 ? { endpoint: {} } : undefined,
    );
    const { bad, changed } = await read(pushed(noAddress));
    assert.deepEqual(changed, []);
    assert.match(
      bad[0]?.reason ?? '',
      /^Cannot use endpoint "c" \(test\): endpoints\[1\]\.lb_endpoints\[7777\]\.endpoint\.address: is required$/,
    );
    const badPort = assignment([9000], (_, index) => (index === 4321 ? endpoint(1, 70_000) : undefined));
    assert.match(
      (await read(pushed(badPort))).bad[0]?.reason ?? '',
      /^Cannot use endpoint "c" \(test\): endpoints\[0\]\.lb_endpoints\[4321\]\.endpoint\.address\.socket_address\.port_value/,
    );
  });

  test('under another name, or that nobody asked for, is refused or passed over', async () => {
    const resource = pushed(assignment([9000]), 'd');
    assert.match((await read(resource, ['d'])).bad[0]?.reason ?? '', /"d" \(test\): its own name is "c"/);
    const passed = await read(resource, ['e']);
    assert.deepEqual([passed.bad, passed.changed], [[], []]);
  });

  test('whose bytes end too early is refused', async () => {
    const { bytes, ...rest } = pushed(assignment([9000]));
    const { bad } = await read({ ...rest, bytes: bytes.subarray(0, bytes.length - 5) });
    assert.match(bad[0]?.reason ?? '', /Cannot use endpoint "c" \(test\): the bytes end in the middle of a field/);
  });

  test('is cut where other fields are small only: they stand in each part', async () => {
    const json = { ...assignment([3000]), named_endpoints: { ['x'.repeat(40_000)]: { hostname: 'h' } } };
    let parts = 0;
    await readInParts(
      encodeMessage(TYPE.message, json),
      () => {
        parts++;
        return { cluster_name: 'c' };
      },
      () => undefined,
    );
    assert.equal(parts, 1);
  });
});

test('a large assignment without any name is refused for that', async () => {
  const { cluster_name: _, ...nameless } = assignment([2000]);
  const result = await read(pushed(nameless, ''), ANY);
  assert.deepEqual(
    result.bad.map(({ reason }) => reason),
    ['Cannot use endpoint "" (test): it has no name'],
  );
});

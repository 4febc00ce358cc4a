/** What is written piece by piece is what JSON.stringify writes in one go, less the secrets. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { Json, Resource } from '../../../config/resources.ts';
import { jsonChildren, objectsNamed } from '../../../proxy/admin/json_ranges.ts';
import { joined, PackedAny, writeJson } from '../../../proxy/admin/json_writer.ts';
import { packResources } from '../../../proxy/distribution.ts';
import { HeldResource } from '../../../proxy/held_resource.ts';
import { redactJson } from '../../../proxy/telemetry/redaction.ts';
import { Slices } from '../../../proxy/telemetry/slices.ts';
import { resource } from '../../support/static_source.ts';

async function written(value: unknown, depth = 0): Promise<string> {
  let text = '';
  for await (const piece of joined(writeJson(value, depth, new Slices()))) text += piece;
  return text;
}

const inOneGo = (value: unknown): string => JSON.stringify(redactJson(value), undefined, 1);

async function packed(json: Json): Promise<HeldResource> {
  const given: Resource = resource('cluster', { name: 'c', ...json });
  const held = new HeldResource(given, [], 0);
  await packResources([held]);
  return held;
}

/** A list long enough to be written in many pieces, with what is hard to find one's way in. */
const large = (more: Json = {}): Json => ({
  odd: ['"', '\\', '\\"', '{[', ']}', ',:', 'ä 😀 \u2028', '', '\u0000\n'],
  hosts: Array.from({ length: 3000 }, (_, index) => ({
    name: `host ${index} "quoted" \\ {[,:]}`,
    routes: [{ weight: index, nothing: null, empty: {}, none: [], yes: true }],
    headers: [
      { header: { key: 'Authorization', value: `Bearer secret-${index}` } },
      { header: { key: 'x-plain', value: 'shown' } },
    ],
  })),
  ...more,
});

test('values of any form are written as JSON.stringify writes them', async () => {
  await fc.assert(
    fc.asyncProperty(fc.jsonValue({ maxDepth: 5 }), async (value) => {
      assert.equal(await written(value), inOneGo(value));
    }),
    { numRuns: 300 },
  );
});

test('a large value is written as JSON.stringify writes it, behind any indentation', async () => {
  const json = large();
  assert.equal(await written(json), inOneGo(json));
  const prefix = '    ';
  assert.equal(await written(json, 4), prefix + inOneGo(json).replaceAll('\n', `\n${prefix}`));
});

test('what is packed is written from its bytes, with its type before all', async () => {
  for (const json of [large(), { small: 1 }, large({ nested: { deep: large() } })]) {
    const held = await packed(json);
    const any = PackedAny.of('type.googleapis.com/t', held);
    const plain = { '@type': 'type.googleapis.com/t', name: 'c', ...json };
    assert.equal(await written({ before: 1, any, after: [2] }), inOneGo({ before: 1, any: plain, after: [2] }));
    assert.deepEqual(any.toJSON(), redactJson(plain));
  }
});

test('no secret is in any piece, however large it is and wherever it lies', async () => {
  const text = 'S3CR3T'.repeat(10_000);
  const secrets: Json = {
    tls_certificates: [{ private_key: { inline_string: text, filename: '/kept' } }],
    password: { inline_bytes: 'S3CR3T' },
    generic_secret: { secrets: Array.from({ length: 1000 }, () => ({ inline_string: text.slice(0, 100) })) },
    plain: 'Authorization: Bearer S3CR3T-in-a-text',
    header: { value: `session=${text}`, key: 'cookie' },
  };
  for (const value of [large(secrets), PackedAny.of('t', await packed(large(secrets)))]) {
    const out = await written(value);
    assert.ok(!out.includes('S3CR3T'));
    assert.ok(out.includes('/kept'));
  }
});

test('parts of a JSON text are found as they lie', () => {
  const object = large({
    list: [1, 'a,b', { c: [2] }, []],
    'k"ey': { route_config: { name: 'r}' }, x: '"route_config":{' },
  });
  const bytes = Buffer.from(JSON.stringify(object));
  const found = [...jsonChildren(bytes, 0, bytes.length)].flatMap((range) => (range === undefined ? [] : [range]));
  assert.deepEqual(
    Object.fromEntries(found.map(({ key, start, end }) => [key, JSON.parse(bytes.toString('utf8', start, end))])),
    object,
  );
  const routes = [...objectsNamed(bytes, 'route_config')].map(({ start, end }) => bytes.toString('utf8', start, end));
  assert.deepEqual(routes, ['{"name":"r}"}']);
  assert.deepEqual([...jsonChildren(Buffer.from('[]'), 0, 2)], []);
  assert.deepEqual([...jsonChildren(Buffer.from('{}'), 0, 2)], []);
});

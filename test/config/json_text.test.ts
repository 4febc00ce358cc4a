/** JSON files are read fast, and complain as YAML does. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigError } from '../../proxy/config_error.ts';
import { JsonPlaces, parseJson } from '../../config/json_text.ts';
import { parseDocuments } from '../../config/yaml_documents.ts';

const TEXT = `{
  "a": {"x:y": [1, {"b": "}]:,\\""}, [true, null]], "empty": {}},
  "__proto__": 1,
  "c\\u0064" : -1.5e3
}
`;

test('parseJson reads what JSON.parse reads, odd strings included', () => {
  const json = parseJson(TEXT);
  assert.deepEqual(Object.keys(json ?? {}), ['a', '__proto__', 'cd']);
  assert.equal(JSON.stringify(json), JSON.stringify(JSON.parse(TEXT)));
});

for (const [says, text] of [
  ['the same key stands twice', '{"a": 1, "b": {"c": 1, "c": 2}}'],
  ['it is YAML in flow style', '{a: 1}'],
  ['something follows', '{"a": 1} x'],
  ['it is a list', '[{"a": 1}]'],
] as const) {
  test(`parseJson leaves the word to the YAML parser when ${says}`, () => assert.equal(parseJson(text), undefined));
}

test('a key that stands twice in a JSON file is refused with its place', () => {
  assert.throws(
    () => parseDocuments('{"a": 1,\n "a": 2}', 'x.json'),
    (error) => error instanceof ConfigError && /x\.json:2:2: the same key stands twice/.test(error.message),
  );
});

test('JsonPlaces says of every path what the YAML parser says', () => {
  // A comment makes it YAML without moving anything.
  const [yaml] = parseDocuments(`${TEXT}# no JSON`, 'f');
  const [json] = parseDocuments(TEXT, 'f');
  const paths: (string | number)[][] = [[]];
  const walk = (value: unknown, path: (string | number)[]): void => {
    if (value === null || typeof value !== 'object') return;
    for (const key of Object.keys(value)) {
      const step = Array.isArray(value) ? Number(key) : key;
      paths.push([...path, step], [...path, step, 'none']);
      walk((value as Record<string, unknown>)[key], [...path, step]);
    }
  };
  walk(JSON.parse(TEXT), []);
  assert.ok(paths.length > 15);
  for (const path of paths) assert.equal(json?.source.locate(path), yaml?.source.locate(path), path.join('.'));
  assert.equal(json?.source.line, yaml?.source.line);
  assert.equal(new JsonPlaces(TEXT).offsetOf(['a', 'x:y', 1, 'b']), TEXT.indexOf('"b"'));
});

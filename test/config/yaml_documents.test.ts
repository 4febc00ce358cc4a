/** YAML and JSON as files hold them: positions, caps, and what tries to harm (attacks.md rows 33-34). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAX_DEPTH, parseDocuments } from '../../config/yaml_documents.ts';
import { ConfigError } from '../../proxy/config_error.ts';

/** The complaint, with its place in front. */
function complaint(text: string): string {
  try {
    parseDocuments(text, 'mesh.yaml');
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return `${error.origin ?? ''} | ${error.message}`;
  }
  return '';
}

test('documents are cut at markers, and empty ones left out', () => {
  const text = '---\na: 1\n---\n\n---\n# nothing\n--- \nb: 2\ntext: |\n  ---\n  inside\n...\n---\nc: 3\n';
  assert.deepEqual(
    parseDocuments(text, 'mesh.yaml').map(({ json }) => ({ ...json })),
    [{ a: 1 }, { b: 2, text: '---\ninside\n' }, { c: 3 }],
  );
});

test('JSON, a byte order mark and CRLF are read', () => {
  assert.deepEqual({ ...parseDocuments('\ufeff{"a": [1, 2]}', 'x.json')[0]?.json }, { a: [1, 2] });
  assert.deepEqual({ ...parseDocuments('a: 1\r\nb: 2\r\n', 'x.yaml')[0]?.json }, { a: 1, b: 2 });
});

test('a field’s place is its own line and column, in the second document too', () => {
  const [, second] = parseDocuments('a: 1\n---\nspec:\n  hosts:\n    - one\n    - two\n', 'mesh.yaml');
  assert.equal(second?.source.locate(['spec', 'hosts', 1]), 'mesh.yaml:6:7');
  assert.equal(second?.source.locate(['spec', 'hosts']), 'mesh.yaml:4:3');
  // What is not there is where it would be.
  assert.match(second?.source.locate(['spec', 'nothing']) ?? '', /^mesh\.yaml:\d+:\d+$/);
});

const broken: readonly (readonly [says: string, text: string, complaint: RegExp])[] = [
  ['a sequence does not end', 'a: 1\nb: [1, 2\n', /^mesh\.yaml:\d+:\d+ \|/],
  ['a key stands twice', 'a: 1\na: 2\n', /^mesh\.yaml:2:1 \|/],
  ['a tab indents', 'a:\n\tb: 1\n', /^mesh\.yaml:2:\d+ \|/],
  ['the fault is in the third document', 'a: 1\n---\nb: 1\n---\nc: "x\n', /^mesh\.yaml:[5-6]:\d+ \|/],
  ['a document is a list', '- 1\n', /^mesh\.yaml:1:1 \|/],
  ['an alias has no anchor', 'a: *nowhere\n', /^mesh\.yaml:1:\d+ \|/],
];
for (const [says, text, expected] of broken) {
  test(`the complaint names file, line and column when ${says}`, () => assert.match(complaint(text), expected));
}

/** Of this thread since: others on the machine do not count. */
function cpuMs(started: NodeJS.CpuUsage): number {
  const { user, system } = process.threadCpuUsage(started);
  return (user + system) / 1000;
}

test('100,000 levels of nesting are refused at once', () => {
  const started = process.threadCpuUsage();
  for (const deep of [
    `a: ${'['.repeat(100_000)}${']'.repeat(100_000)}`,
    `{"a":${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}}`,
    Array.from({ length: 2000 }, (_, level) => `${' '.repeat(level)}a:`).join('\n'),
    `a:\n  ${'- '.repeat(100_000)}1`,
  ]) {
    assert.match(complaint(deep), /deep|nested|levels/i);
  }
  assert.ok(cpuMs(started) < 2000);
  assert.equal(complaint(`a: ${'['.repeat(MAX_DEPTH - 5)}${']'.repeat(MAX_DEPTH - 5)}`), '');
});

test('aliases that multiply are refused at once', () => {
  const started = process.threadCpuUsage();
  let bomb = 'a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n';
  for (let i = 1; i < 12; i++)
    bomb += `a${i}: &a${i} [${Array(10)
      .fill(`*a${i - 1}`)
      .join(', ')}]\n`;
  assert.notEqual(complaint(bomb), '');
  assert.ok(cpuMs(started) < 2000);
});

test('names that objects have by nature are names like others', () => {
  const [document] = parseDocuments(
    '__proto__: { polluted: yes }\nconstructor: { prototype: 1 }\ntoString: x\n',
    'mesh.yaml',
  );
  assert.equal(({} as Record<string, unknown>)['polluted'], undefined);
  const json = document?.json as Record<string, unknown>;
  assert.ok(Object.hasOwn(json, '__proto__'));
  assert.equal(json['toString'], 'x');
});

test('what a file must not be is refused: too large, or not text', () => {
  assert.match(complaint('x'.repeat(64 * 1024 * 1024 + 1)), /at most 67108864/);
  assert.notEqual(complaint('\u0000\u0001'), '');
});

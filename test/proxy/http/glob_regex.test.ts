/** Regexes without a regex engine: the same answers as RE2, for those that are simple enough. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { RE2JS } from 're2js';
import { globOf } from '../../../proxy/http/glob_regex.ts';
import { Regex } from '../../../proxy/http/matchers.ts';

test('a glob regex answers as RE2 does', () => {
  const piece = fc.constantFrom('a', 'b', '/', '.*', '.+', '\\.', '\\-', 'ab', 'ns/');
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '/', '.', '-', 'n', 's', '\n'), maxLength: 9 });
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 7 }), fc.array(text, { minLength: 8 }), (pieces, texts) => {
      const pattern = pieces.join('');
      assert.notEqual(globOf(pattern), undefined);
      const regex = new Regex(pattern, 'p');
      for (const one of texts)
        assert.equal(regex.matches(one), RE2JS.compile(pattern).testExact(one), `${pattern} on ${one}`);
    }),
    { seed: 1, numRuns: 400 },
  );
});

test('what has more to it stays with RE2', () => {
  for (const pattern of [
    'a*',
    'a+b',
    '(a)',
    '[ab]',
    'a|b',
    '\\d',
    '.',
    '.?',
    '.*?',
    '.{2}',
    '^a',
    'a$',
    '\\.*',
    '(?i)a',
    'a?',
  ]) {
    assert.equal(globOf(pattern), undefined, pattern);
  }
});

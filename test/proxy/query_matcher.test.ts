/** Query parameters that a route or a rate limit asks for. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Fields } from '../../proxy/resource_fields.ts';
import { parseQueryMatcher, queryMatches } from '../../proxy/router/route_match.ts';

const CASES: readonly (readonly [json: Record<string, unknown>, path: string, matches: boolean])[] = [
  [{}, '/?q=1', true],
  [{}, '/?r=1', false],
  [{ present_match: true }, '/?q', true],
  [{ present_match: true }, '/', false],
  [{ present_match: false }, '/?q=1', false],
  [{ present_match: false }, '/?r=1', true],
  [{ string_match: { exact: '1' } }, '/?q=1', true],
  [{ string_match: { exact: '1' } }, '/?q=2', false],
  [{ string_match: { exact: '' } }, '/', false],
];

for (const [json, path, matches] of CASES) {
  test(`the parameter q with ${JSON.stringify(json)} ${matches ? 'matches' : 'does not match'} ${path}`, () => {
    assert.equal(queryMatches(parseQueryMatcher(new Fields({ name: 'q', ...json })), path), matches);
  });
}

/** DNS names of certificates that look like the one that is wanted (attacks.md row 54). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matchesDnsName } from '../../../proxy/net/tls/dns_names.ts';

const cases: readonly (readonly [name: string, host: string, wanted: boolean])[] = [
  ['shop.example', 'shop.example', true],
  ['SHOP.example', 'shop.EXAMPLE', true],
  ['*.shop.example', 'a.shop.example', true],
  ['*.shop.example', 'a.b.shop.example', false],
  ['*.shop.example', 'shop.example', false],
  ['*.shop.example', '.shop.example', false],
  ['*.*.example', 'a.b.example', false],
  ['a.*.example', 'a.b.example', false],
  ['a*.shop.example', 'ab.shop.example', false],
  ['*a.shop.example', 'ba.shop.example', false],
  ['*', 'example', false],
  ['*.example', 'shop.example', false],
  ['shop.example\0.evil', 'shop.example', false],
  ['shop.example\0', 'shop.example', false],
  ['shop\u3002example', 'shop.example', false],
  ['shop\uff0eexample', 'shop.example', false],
  ['shop.example.', 'shop.example', false],
  ['xn--shop.example', 'shop.example', false],
  [' shop.example', 'shop.example', false],
  ['', '', false],
];
for (const [name, host, wanted] of cases) {
  test(`the DNS name ${JSON.stringify(name)} ${wanted ? 'is' : 'is not'} ${host}`, () => {
    assert.equal(matchesDnsName(name, host), wanted);
  });
}

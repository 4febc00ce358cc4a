/** Many regexes asked at once say what each says by itself; what clients' texts may cost has its limits. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ConfigError } from '../../../proxy/config_error.ts';
import { Regex } from '../../../proxy/http/matchers.ts';
import { type Guard, guard, regexGuards } from '../../../proxy/policy/guard.ts';
import { LiteralSearch } from '../../../proxy/policy/literal_search.ts';
import {
  FREE_STATES,
  LONGEST_TEXT,
  MOST_INSTRUCTIONS,
  PAUSE_TEXTS,
  RegexSet,
} from '../../../proxy/policy/regex_set.ts';
import { parseRbacRules } from '../../../proxy/policy/rbac.ts';
import { TextIndex } from '../../../proxy/policy/text_index.ts';
import { Fields } from '../../../proxy/resource_fields.ts';
import { subject } from '../../support/policy_subject.ts';

const PIECES = ['a', 'b', 'ab', 'abc', '/api/', '-x', 'é', '\n', ' ', '7', 'thing', 'K'] as const;

/** Regexes of most of RE2's syntax over few letters, so that they meet each other and the texts. */
const pattern: fc.Arbitrary<string> = fc
  .letrec<{ node: string }>((tie) => ({
    node: fc.oneof(
      { maxDepth: 4, withCrossShrink: true },
      fc.constantFrom('a', 'b', 'abc', '/api/', 'thing', '\\-x', 'é', '\\n', '7', 'K'),
      fc.constantFrom('.', '.*', '.+', '[ab]', '[^a]', '\\d', '\\w+', '[[:alpha:]]', '(?s:.)', '\\pL', '[a-z]{2,3}'),
      fc.constantFrom('^', '$', '\\b', '\\B', '(?i:abc)', '(?i:k)', '\\Qa.b\\E', '', '(?m:^a$)', '\\A', '\\z'),
      fc.array(tie('node'), { minLength: 2, maxLength: 4 }).map((parts) => parts.join('')),
      fc.array(tie('node'), { minLength: 2, maxLength: 3 }).map((parts) => `(${parts.join('|')})`),
      fc.tuple(tie('node'), fc.constantFrom('*', '+', '?', '{2}', '{1,3}', '*?')).map(([of, how]) => `(?:${of})${how}`),
    ),
  }))
  .node.filter((text) => {
    try {
      return new Regex(text, '').pattern === text;
    } catch {
      return false;
    }
  });
const text = fc.array(fc.constantFrom(...PIECES), { maxLength: 8 }).map((parts) => parts.join(''));

function matching(each: (found: (index: number, carry: number[]) => number[]) => number[]): number[] {
  return each((index, carry) => [...carry, index]).sort((a, b) => a - b);
}

describe('many regexes', () => {
  it('say together what each says by itself: 21,000 random sets and texts', () => {
    let pairs = 0;
    let matches = 0;
    fc.assert(
      fc.property(
        fc.array(pattern, { minLength: 1, maxLength: 16 }),
        fc.array(text, { minLength: 20, maxLength: 20 }),
        (patterns, texts) => {
          const regexes = patterns.map((one) => new Regex(one, ''));
          const set = new RegexSet(regexes);
          for (const one of texts) {
            pairs++;
            const alone = regexes.flatMap((regex, index) => (regex.matches(one) ? [index] : []));
            matches += alone.length;
            assert.deepEqual(
              matching((found) => set.each(one, found, [])),
              alone,
              JSON.stringify({ patterns, one }),
            );
            for (const index of alone) {
              for (const literals of (regexes[index] as Regex).requiredLiterals) {
                assert.ok(
                  literals.some((literal) => one.includes(literal)),
                  JSON.stringify({ patterns, one, literals }),
                );
              }
            }
          }
        },
      ),
      { seed: 47, numRuns: 1050 },
    );
    assert.ok(pairs >= 20_000);
    assert.ok(matches > 5_000, `only ${matches} matches: the texts have to meet the patterns`);
  });

  it('filed by their literals, or together, are all asked that may match', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(pattern, fc.nat(3)), { minLength: 1, maxLength: 16 }),
        fc.array(text, { minLength: 10, maxLength: 10 }),
        (rules, texts) => {
          const regexes = rules.map(([one]) => new Regex(one, ''));
          let asked = new Set<number>();
          const index = new TextIndex((some, limit) => {
            for (const rule of some) asked.add(rule);
            return limit;
          });
          rules.forEach(([, choice], rule) => {
            const lists = regexGuards(regexes[rule] as Regex, { place: 'path' });
            for (const one of lists[choice % lists.length] as readonly Guard[]) index.file(one, rule);
          });
          index.finish();
          for (const one of texts) {
            asked = new Set();
            index.find(one, Number.MAX_SAFE_INTEGER);
            regexes.forEach((regex, rule) => {
              if (regex.matches(one)) assert.ok(asked.has(rule), JSON.stringify({ pattern: regex.pattern, one }));
            });
          }
        },
      ),
      { seed: 48, numRuns: 300 },
    );
  });

  it('that share nothing are still found among 1,500, by one automaton or several', () => {
    const regexes = Array.from({ length: 1500 }, (_, index) => new Regex(`[a-c]${index}[x-z]`, ''));
    const set = new RegexSet(regexes);
    for (const index of [0, 1023, 1024, 1499]) {
      assert.deepEqual(
        matching((found) => set.each(`b${index}y`, found, [])),
        [index],
      );
    }
  });

  it('whose automaton would be too large are several, or asked by themselves', () => {
    const patterns = Array.from(
      { length: 12 },
      (_, index) => `${'[a-z]{1,900}[0-9]'.repeat(index === 5 ? 30 : 4)}${'xyz'[index % 3]}`,
    );
    const regexes = patterns.map((one) => new Regex(one, ''));
    const sizes = regexes.map(({ programSize }) => programSize);
    assert.ok((sizes[5] ?? 0) > MOST_INSTRUCTIONS && (sizes[0] ?? 0) * 11 > MOST_INSTRUCTIONS, sizes.join(' '));
    const set = new RegexSet(regexes);
    const found = (one: string) => matching((hit) => set.each(one, hit, []));
    assert.deepEqual(found(`${'a1'.repeat(4)}y`), [1, 4, 7, 10]);
    assert.deepEqual(found(`${'a1'.repeat(30)}z`), [5]);
  });
});

describe('texts of clients', () => {
  const bomb = Array.from({ length: 60 }, (_, index) => new Regex(`[ab]*${'ab'[index % 2]}[ab]{${index % 15}}`, ''));
  const next = ((state: number) => () => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return state >>> 16;
  })(7);
  const random = (length: number): string => Array.from({ length }, () => 'ab'[next() % 2] as string).join('');
  const alone = (one: string): number[] => bomb.flatMap((regex, index) => (regex.matches(one) ? [index] : []));

  it('that make an automaton grow without end pause it, and the answers stay right', () => {
    const set = new RegexSet(bomb);
    let texts = 0;
    while (!set.paused && texts < FREE_STATES) {
      const one = random(200);
      assert.deepEqual(
        matching((found) => set.each(one, found, [])),
        alone(one),
      );
      texts++;
    }
    assert.ok(set.paused, `${texts} texts made no more than ${FREE_STATES} states`);
    for (let i = 0; i < PAUSE_TEXTS; i++) {
      assert.ok(set.paused, String(i));
      set.each('aba', () => 0, 0);
    }
    assert.ok(!set.paused);
    const one = random(200);
    assert.deepEqual(
      matching((found) => set.each(one, found, [])),
      alone(one),
    );
  });

  it('that are long are asked about one by one, and answered right', () => {
    const set = new RegexSet(bomb);
    for (const length of [LONGEST_TEXT, LONGEST_TEXT + 1, 1000]) {
      const one = `${random(length - 1)}a`;
      assert.deepEqual(
        matching((found) => set.each(one, found, [])),
        alone(one),
      );
    }
  });

  it('that hold a literal many times ask its rules once', () => {
    const search = new LiteralSearch(
      new Map([
        ['a', 1],
        ['aa', 2],
        ['aab', 4],
        ['b', 8],
        ['c', 16],
      ]),
    );
    const calls: number[] = [];
    search.each('aaaaaaabaaaaab', (value) => calls.push(value), 0);
    assert.deepEqual(
      calls.sort((a, b) => a - b),
      [1, 2, 4, 8],
    );
  });
});

it('a literal search finds exactly the literals that a text holds', () => {
  const literal = fc
    .array(fc.constantFrom('a', 'b', 'c', 'é', '\u{1f600}'), { minLength: 1, maxLength: 4 })
    .map((parts) => parts.join(''));
  fc.assert(
    fc.property(
      fc.array(literal, { minLength: 1, maxLength: 20 }),
      fc.array(literal, { maxLength: 10 }),
      (literals, parts) => {
        const search = new LiteralSearch(new Map(literals.map((one) => [one, one])));
        const one = parts.join('');
        const found = search.each<string[]>(one, (value, carry) => [...carry, value], []);
        assert.deepEqual(found.sort(), [...new Set(literals)].filter((wanted) => one.includes(wanted)).sort());
      },
    ),
    { seed: 49, numRuns: 2000 },
  );
});

it('literals of a regex are known, and short ones are not filed by', () => {
  const literals = (one: string) => new Regex(one, '').requiredLiterals;
  assert.deepEqual(literals('/api/v[0-9]+/thing-7'), [['/api/v'], ['/thing-7']]);
  assert.deepEqual(literals('.*/ns/shop/.*'), [['/ns/shop/']]);
  assert.deepEqual(literals('(?:first|second)/x'), [['first', 'second'], ['/x']]);
  assert.deepEqual(literals('(?i)admin'), []);
  assert.deepEqual(literals('[a-z]+'), []);
  const spot = { place: 'path' } as const;
  assert.deepEqual(
    regexGuards(new Regex('/x[0-9]+/thing', ''), spot).map(([one]) => one?.key),
    ['/thing', '/x[0-9]+/thing'],
  );
  assert.deepEqual(regexGuards(new Regex('/x[0-9]+', ''), spot)[0]?.[0]?.how, 'regex');
  assert.equal(guard(spot, 'exact', 'a').name, '');
});

it('a regex of more than 1,024 characters is refused (attacks.md row 47)', () => {
  const policies = (length: number) => ({
    p: {
      permissions: [{ url_path: { path: { safe_regex: { regex: 'a'.repeat(length) } } } }],
      principals: [{ any: true }],
    },
  });
  const engine = parseRbacRules(new Fields({ policies: policies(1024) }));
  assert.equal(engine.decide(subject({ path: 'a'.repeat(1024) })).allowed, true);
  assert.throws(
    () => parseRbacRules(new Fields({ policies: policies(1025) })),
    (error) => error instanceof ConfigError && /1025 characters; at most 1024/.test(error.message),
  );
});

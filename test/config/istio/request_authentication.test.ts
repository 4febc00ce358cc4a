/** RequestAuthentication: which tokens are believed, whose keys are asked for, and what is refused. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  jwtFilter,
  parseRequestAuthentication,
  type WantedKeys,
} from '../../../config/istio/request_authentication.ts';
import { ConfigError } from '../../../proxy/config_error.ts';
import filter from '../../../filters/jwt_authn.ts';
import { kubeObjects } from '../../support/kube_objects.ts';
import { KEY_SET } from '../../support/tokens.ts';
import { dig, digList } from './compiled.ts';

function policies(...rules: string[]) {
  const yaml = rules.map(
    (rule, index) =>
      `---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: { name: a${index} }\nspec: { jwtRules: [${rule}] }\n`,
  );
  return kubeObjects(yaml.join('')).map((object) =>
    parseRequestAuthentication(object, { object, path: [], allowUnknown: false }),
  );
}

describe('RequestAuthentication', () => {
  it('believes a token of its issuer or none', () => {
    const made = jwtFilter(policies(`{ issuer: a, jwks: '${KEY_SET}' }`), () => undefined);
    assert.deepEqual(dig(made, 'typed_config', 'rules', 0, 'requires'), {
      requires_any: { requirements: [{ provider_name: 'origins-0' }, { allow_missing: {} }] },
    });
  });

  it('with several issuers, of several objects, allows the absence of each by itself', () => {
    const made = jwtFilter(
      policies(`{ issuer: b, jwks: '${KEY_SET}' }`, `{ issuer: a, jwks: '${KEY_SET}' }`),
      () => undefined,
    );
    assert.equal(dig(made, 'typed_config', 'providers', 'origins-0', 'issuer'), 'a');
    const missing = { allow_missing: {} };
    const orMissing = (provider_name: string) => ({ requires_any: { requirements: [{ provider_name }, missing] } });
    assert.deepEqual(dig(made, 'typed_config', 'rules', 0, 'requires'), {
      requires_any: {
        requirements: [
          { provider_name: 'origins-0' },
          { provider_name: 'origins-1' },
          { requires_all: { requirements: [orMissing('origins-0'), orMissing('origins-1')] } },
        ],
      },
    });
    assert.ok(filter.parse(dig(made, 'typed_config')));
  });

  it('asks for keys that stand elsewhere, and believes nothing until they are known', () => {
    const asked: WantedKeys[] = [];
    const all = policies(
      '{ issuer: https://a.example, timeout: 2s }',
      '{ issuer: b, jwksUri: "https://b.example/keys" }',
    );
    const made = jwtFilter(all, (wanted) => {
      asked.push(wanted);
      return wanted.issuer === 'b' ? KEY_SET : undefined;
    });
    assert.deepEqual(
      asked.map(({ issuer, url, timeoutMs }) => [issuer, url, timeoutMs]),
      [
        ['b', 'https://b.example/keys', 5000],
        ['https://a.example', undefined, 2000],
      ],
    );
    assert.match(asked[0]?.origin ?? '', /^test\.yaml:\d+:\d+$/);
    const inline = (index: number) =>
      dig(made, 'typed_config', 'providers', `origins-${index}`, 'local_jwks', 'inline_string');
    assert.deepEqual([inline(0), inline(1)], [KEY_SET, '{"keys":[]}']);
  });

  it('asks for a token where presence is REQUIRED', () => {
    const made = jwtFilter(policies(`{ issuer: a, jwks: '${KEY_SET}', presence: REQUIRED }`), () => undefined);
    assert.deepEqual(dig(made, 'typed_config', 'rules', 0, 'requires'), { provider_name: 'origins-0' });
  });

  it('adds its own space-delimited claims to those that always are', () => {
    const made = jwtFilter(
      policies(`{ issuer: a, jwks: '${KEY_SET}', spaceDelimitedClaims: [scope, roles] }`),
      () => undefined,
    );
    const provider = dig(made, 'typed_config', 'providers', 'origins-0');
    assert.deepEqual(digList(provider, 'normalize_payload_in_metadata', 'space_delimited_claims'), [
      'permission',
      'scope',
      'roles',
    ]);
  });

  it('is refused with its place when it cannot be meant', () => {
    const wrong: readonly (readonly [string, RegExp])[] = [
      ['{}', /an issuer is required/],
      ['{ issuer: a, jwks: "{" }', /a JSON Web Key Set/],
      ['{ issuer: a, jwks: "{}" }', /a JSON Web Key Set/],
      ['{ issuer: a, jwksUri: "file:///etc/passwd" }', /an http:\/\/ or https:\/\/ URL/],
      ['{ issuer: a, jwksURI: "https://a" }', /did you mean "jwksUri"/],
      ['{ issuer: a, fromHeaders: [{ prefix: x }] }', /a name is required/],
      ['{ issuer: a, outputClaimToHeaders: [{ header: ":path", claim: a }] }', /a header name/],
      ['{ issuer: a, outputClaimToHeaders: [{ header: x }] }', /header and claim/],
    ];
    for (const [rule, message] of wrong) {
      assert.throws(
        () => policies(rule),
        (error: unknown) => {
          assert.ok(error instanceof ConfigError);
          assert.match(error.message, message);
          assert.match(error.origin ?? '', /^test\.yaml:\d+:\d+$/);
          return true;
        },
        rule,
      );
    }
  });
});

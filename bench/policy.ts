/** The whole policy chain as istiod configures it: a token, 25 DENY rules, 25 ALLOW rules of which the last one holds. */
import { generateKeyPairSync, sign } from 'node:crypto';

const TYPE = 'type.googleapis.com/envoy.extensions.filters.http.';
const ISSUER = 'https://issuer.example';

const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const encode = (json: object): string => Buffer.from(JSON.stringify(json)).toString('base64url');
const signed = `${encode({ alg: 'RS256', kid: 'k' })}.${encode({ iss: ISSUER, sub: 'me', exp: 4_000_000_000, groups: ['users'] })}`;

/** Good for ever; in the query, where every load generator can put it. */
export const TOKEN_PATH = `/small?access_token=${signed}.${sign('sha256', Buffer.from(signed), privateKey).toString('base64url')}`;

/** HTTP filters, in Istio's order. Envoy is told to remember tokens too, which it does not by itself. */
export function policyFilters(): object[] {
  const rules = Array.from({ length: 25 }, (_, index) => index);
  const named = (kind: string, make: (index: number) => object): object =>
    Object.fromEntries(rules.map((index) => [`ns[a]-policy[${kind}]-rule[${index}]`, make(index)]));
  const claim = (value: string): object => ({
    metadata: {
      filter: 'envoy.filters.http.jwt_authn',
      path: [{ key: 'payload' }, { key: 'groups' }],
      value: { list_match: { one_of: { string_match: { exact: value } } } },
    },
  });
  return [
    {
      name: 'envoy.filters.http.jwt_authn',
      typed_config: {
        '@type': `${TYPE}jwt_authn.v3.JwtAuthentication`,
        providers: {
          'origins-0': {
            issuer: ISSUER,
            forward: true,
            payload_in_metadata: 'payload',
            jwt_cache_config: { jwt_cache_size: 1000 },
            local_jwks: {
              inline_string: JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'k' }] }),
            },
          },
        },
        rules: [
          {
            match: { prefix: '/' },
            requires: { requires_any: { requirements: [{ provider_name: 'origins-0' }, { allow_missing: {} }] } },
          },
        ],
      },
    },
    rbac({
      action: 'DENY',
      policies: named('deny', (index) => ({
        permissions: [
          { and_rules: { rules: [{ or_rules: { rules: [{ url_path: { path: { prefix: `/admin-${index}/` } } }] } }] } },
        ],
        principals: [
          {
            and_ids: {
              ids: [
                {
                  not_id: {
                    or_ids: {
                      ids: [
                        { authenticated: { principal_name: { exact: `spiffe://cluster.local/ns/a/sa/${index}` } } },
                      ],
                    },
                  },
                },
              ],
            },
          },
        ],
      })),
    }),
    rbac({
      policies: named('allow', (index) => ({
        permissions: [
          {
            and_rules: {
              rules: [
                {
                  or_rules: { rules: [{ url_path: { path: { exact: index === 24 ? '/small' : `/other-${index}` } } }] },
                },
              ],
            },
          },
        ],
        principals: [{ and_ids: { ids: [claim(index === 24 ? 'users' : `group-${index}`)] } }],
      })),
    }),
  ];
}

function rbac(rules: object): object {
  return { name: 'envoy.filters.http.rbac', typed_config: { '@type': `${TYPE}rbac.v3.RBAC`, rules } };
}

/** Paths that mean one thing to a policy and another to somebody behind it, unless one normal form serves all (attacks.md rows 35 to 38). */
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from './envoy_resources.ts';

/** Istio's pathNormalization, as the connection manager has it. */
export const MODES: Readonly<Record<string, Json>> = {
  NONE: { normalize_path: false },
  BASE: { normalize_path: true, path_with_escaped_slashes_action: 'KEEP_UNCHANGED' },
  MERGE: { normalize_path: true, merge_slashes: true, path_with_escaped_slashes_action: 'KEEP_UNCHANGED' },
  DECODE: { normalize_path: true, merge_slashes: true, path_with_escaped_slashes_action: 'UNESCAPE_AND_FORWARD' },
};

export const RBAC_TYPE = 'type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC';
export const rbacFilter = (rules: Json): Json => ({
  name: 'envoy.filters.http.rbac',
  typed_config: { '@type': RBAC_TYPE, rules },
});
const admin = { url_path: { path: { prefix: '/admin' } } };
const policy = (permission: Json): Json => ({ p: { permissions: [permission], principals: [{ any: true }] } });

/** For each mode: a policy that denies /admin, one that allows all else, and routing that sets it apart. */
export function pathListeners(upstreamPort: number): Resource[] {
  const everything = { match: { prefix: '/' }, route: { cluster: 'up' } };
  return [
    ...Object.entries(MODES).flatMap(([mode, manager]) => [
      httpListener({
        name: `deny-${mode}`,
        manager,
        filters: [rbacFilter({ action: 'DENY', policies: policy(admin) })],
        routes: routeConfig([everything]),
      }),
      httpListener({
        name: `allow-${mode}`,
        manager,
        filters: [rbacFilter({ policies: policy({ not_rule: admin }) })],
        routes: routeConfig([everything]),
      }),
      httpListener({
        name: `route-${mode}`,
        manager,
        routes: routeConfig([{ match: { prefix: '/admin' }, direct_response: { status: 403 } }, everything]),
      }),
    ]),
    staticCluster('up', [upstreamPort]),
  ];
}

type Wanted = 'denied' | 'bad' | { readonly forwarded: string };
const as = (forwarded: string): Wanted => ({ forwarded });

/** Request target; what becomes of it in BASE, MERGE and DECODE. */
export const ATTACK_PATHS: readonly (readonly [target: string, base: Wanted, merge: Wanted, decode: Wanted])[] = [
  ['/admin', 'denied', 'denied', 'denied'],
  ['/public', as('/public'), as('/public'), as('/public')],
  ['//admin', as('//admin'), 'denied', 'denied'],
  ['/a/..//admin', as('//admin'), 'denied', 'denied'],
  ['/./admin', 'denied', 'denied', 'denied'],
  ['/a/../admin', 'denied', 'denied', 'denied'],
  ['/../admin', 'denied', 'denied', 'denied'],
  ['/%2e%2e/admin', 'denied', 'denied', 'denied'],
  ['/%2E/admin', 'denied', 'denied', 'denied'],
  ['/%61dmin', 'denied', 'denied', 'denied'],
  ['/\\admin', as('//admin'), 'denied', 'denied'],
  ['/a\\..\\admin', 'denied', 'denied', 'denied'],
  ['/%2fadmin', as('/%2fadmin'), as('/%2fadmin'), 'denied'],
  ['/%5cadmin', as('/%5cadmin'), as('/%5cadmin'), 'denied'],
  ['/a%2f..%2fadmin', as('/a%2f..%2fadmin'), as('/a%2f..%2fadmin'), 'denied'],
  ['/%252fadmin', as('/%252fadmin'), as('/%252fadmin'), as('/%252fadmin')],
  ['/%252e%252e/admin', as('/%252e%252e/admin'), as('/%252e%252e/admin'), as('/%252e%252e/admin')],
  ['/admin%00', 'bad', 'bad', 'bad'],
  ['/%00admin', 'bad', 'bad', 'bad'],
  ['/%zzadmin', as('/%zzadmin'), as('/%zzadmin'), as('/%zzadmin')],
  ['/%c0%afadmin', as('/%c0%afadmin'), as('/%c0%afadmin'), as('/%c0%afadmin')],
  ['/admin;x=y', 'denied', 'denied', 'denied'],
  ['/user/..;a=b/admin', 'denied', 'denied', 'denied'],
  ['/user/.;a/..;b/admin', 'denied', 'denied', 'denied'],
  ['/admin#x', 'bad', 'bad', 'bad'],
  ['/public#/admin', 'bad', 'bad', 'bad'],
  ['/admin?', 'denied', 'denied', 'denied'],
  ['/admin?/public', 'denied', 'denied', 'denied'],
  ['/public?/admin', as('/public?/admin'), as('/public?/admin'), as('/public?/admin')],
  ['/public?a=/../admin//x', as('/public?a=/../admin//x'), as('/public?a=/../admin//x'), as('/public?a=/../admin//x')],
  ['/ADMIN', as('/ADMIN'), as('/ADMIN'), as('/ADMIN')],
  ['http://shop.example/admin', 'denied', 'denied', 'denied'],
  ['http://shop.example//admin', as('//admin'), 'denied', 'denied'],
  ['http://shop.example/a/../admin', 'denied', 'denied', 'denied'],
];

/** What the connection manager's configuration refuses, and how; what it does is tested in test/integration. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkResource } from '../../../config/build/check.ts';
import type { Json } from '../../../config/resources.ts';
import { httpListener, routeConfig } from '../../support/envoy_resources.ts';

const complaint = (manager: Json): string => {
  const routes = routeConfig([{ match: { prefix: '/' }, direct_response: { status: 200 } }]);
  return checkResource(httpListener({ routes, manager }))?.message ?? '';
};

const cases: readonly (readonly [says: string, manager: Json, complaint: RegExp])[] = [
  ['nothing is wrong', {}, /^$/],
  [
    'the last filter is not the router',
    { http_filters: [] },
    /http_filters: the last filter must be envoy\.filters\.http\.router/,
  ],
  [
    'a filter is unknown',
    {
      http_filters: [
        { name: 'lua', typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua' } },
        { name: 'r', typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router' } },
      ],
    },
    /http_filters\[0\]\.typed_config: filter "lua" has type envoy\.extensions\.filters\.http\.lua\.v3\.Lua, which this version does not execute/,
  ],
  ['no stat_prefix is given', { stat_prefix: '' }, /stat_prefix: is required/],
  ['HTTP/3 is wanted', { codec_type: 'HTTP3' }, /codec_type: HTTP3 is not supported/],
  [
    'a duration is none',
    { stream_idle_timeout: '5 minutes' },
    /stream_idle_timeout: a duration such as "1\.5s" is wanted, got "5 minutes"/,
  ],
  [
    'scoped routes have no name',
    { route_config: undefined, scoped_routes: {} } as unknown as Json,
    /scoped_routes\.name: is required/,
  ],
  [
    'a head may be larger than any',
    { max_request_headers_kb: 9000 },
    /max_request_headers_kb: must be 1 to 8192, got 9000/,
  ],
  [
    'a regex is not RE2',
    { route_config: routeConfig([{ match: { safe_regex: { regex: '(?=a)' } }, direct_response: { status: 200 } }]) },
    /safe_regex\.regex: "\(\?=a\)" is not a valid RE2 regex/,
  ],
];

for (const [says, manager, expected] of cases) {
  test(`the connection manager's configuration is ${expected.source === '^$' ? 'accepted' : 'refused with its field'} when ${says}`, () => {
    assert.match(complaint(manager), expected);
  });
}

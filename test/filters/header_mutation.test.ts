/** The header_mutation filter through a running proxy: both directions, trailers, levels, and what it refuses. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import filter from '../../filters/header_mutation.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import { httpListener, staticCluster } from '../support/envoy_resources.ts';
import { RawClient, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';

const TYPE = 'type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.';
const NAME = 'envoy.filters.http.header_mutation';
const scope = fileScope();
let proxy: TestProxy;
let upstream: RawUpstream;

const append = (key: string, value: string, append_action = 'OVERWRITE_IF_EXISTS_OR_ADD') => ({
  append: { header: { key, value }, append_action },
});

before(async () => {
  upstream = await RawUpstream.start(scope, (received, socket) => {
    if (/\r\n0\r\n[\s\S]*\r\n\r\n$/.test(received) || /^GET[\s\S]*\r\n\r\n$/.test(received)) {
      socket.write(
        'HTTP/1.1 200 OK\r\nx-secret: 1\r\nx-internal-a: 1\r\nx-internal-b: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-end: 1\r\n\r\n',
      );
    }
  });
  const listener = (name: string, specificWins: boolean) =>
    httpListener({
      name,
      filters: [
        {
          name: NAME,
          typed_config: {
            '@type': `${TYPE}HeaderMutation`,
            most_specific_header_mutations_wins: specificWins,
            mutations: {
              request_mutations: [append('x-path', '%REQ(:PATH)%'), { remove: 'x-gone' }, append('x-level', 'filter')],
              request_trailers_mutations: [append('x-t2', 'added')],
              response_mutations: [
                { remove: 'X-Secret' },
                { remove_on_match: { key_matcher: { prefix: 'x-internal-' } } },
                append('x-code', '%RESPONSE_CODE%'),
              ],
              response_trailers_mutations: [append('x-end2', 'added')],
            },
          },
        },
      ],
      routes: {
        name: 'r',
        virtual_hosts: [
          {
            name: 'v',
            domains: ['*'],
            typed_per_filter_config: {
              [NAME]: {
                '@type': `${TYPE}HeaderMutationPerRoute`,
                mutations: { request_mutations: [append('x-level', 'host')] },
              },
            },
            routes: [
              {
                match: { prefix: '/' },
                route: { cluster: 'up' },
                typed_per_filter_config: {
                  [NAME]: {
                    '@type': `${TYPE}HeaderMutationPerRoute`,
                    mutations: { request_mutations: [append('x-level', 'route')] },
                  },
                },
              },
            ],
          },
        ],
      },
    });
  proxy = await startTestProxy(scope, [
    listener('least', false),
    listener('most', true),
    staticCluster('up', [upstream.port]),
  ]);
});

test('header_mutation changes requests, responses and their trailers', async (t) => {
  const client = new RawClient(t, proxy.port('least'));
  client.send(
    'POST /p?q HTTP/1.1\r\nhost: a\r\nx-gone: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-t: 1\r\n\r\n',
  );
  const answer = await client.until((text) => text.endsWith('\r\n\r\n') && text.includes('\r\n0\r\n'));
  assert.match(upstream.all, /x-path: \/p\?q\r\n/);
  assert.doesNotMatch(upstream.all, /x-gone/);
  assert.match(upstream.all, /\r\n0\r\nx-t: 1\r\nx-t2: added\r\n\r\n$/);
  assert.doesNotMatch(answer, /x-secret|x-internal/);
  assert.match(answer, /x-code: 200\r\n/);
  assert.match(answer, /\r\n0\r\nx-end: 1\r\nx-end2: added\r\n\r\n$/);
});

test('the least specific level has the last word unless the most specific one wins', async () => {
  const level = async (name: string): Promise<string | undefined> => {
    const before = upstream.all.length;
    await (await fetch(`http://127.0.0.1:${proxy.port(name)}/`)).text();
    return /x-level: (\w+)/.exec(upstream.all.slice(before))?.[1];
  };
  assert.equal(await level('least'), 'host');
  assert.equal(await level('most'), 'route');
});

test('header_mutation refuses what would break a message', () => {
  const parse = (mutation: unknown) => () => filter.parse({ mutations: { request_mutations: [mutation] } });
  assert.throws(parse({ remove: ':path' }), ConfigError);
  assert.throws(parse({ remove: 'Host' }), ConfigError);
  assert.throws(parse({}), /one of remove, append and remove_on_match/);
  assert.throws(parse(append('bad name', 'x')), ConfigError);
  assert.throws(parse(append('x', 'a\r\nb')), ConfigError);
  assert.throws(parse({ remove_on_match: {} }), ConfigError);
});

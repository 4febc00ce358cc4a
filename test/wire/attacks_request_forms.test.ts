/**
 * Row 45 of attacks.md: schemes in odd cases and requests without a path, through every filter of a sidecar's chain and
 * every command of its access log, over both protocols, in the clear and over TLS.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http2 from 'node:http2';
import { connect as connectTcp } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { connect as connectTls } from 'node:tls';
import type { Json, Resource } from '../../config/resources.ts';
import { COMMANDS } from '../support/access_log_cases.ts';
import { httpListener, staticCluster } from '../support/envoy_resources.ts';
import { HTTP2 } from '../support/ext_authz_cases.ts';
import { startGrpcAuthorizer } from '../support/grpc_authorizer.ts';
import { downstreamTls, MeshCa } from '../support/mesh_ca.ts';
import { answering, RawClient, RawUpstream } from '../support/raw_peers.ts';
import { LogFile, startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';
import { KEY_SET } from '../support/tokens.ts';

const scope = fileScope();
const log = new LogFile(scope);
const ca = new MeshCa();
const own = ca.issue('spiffe://cluster.local/ns/shop/sa/web');
const HTTP = 'type.googleapis.com/envoy.extensions.filters.http.';
const filter = (name: string, type: string, config: Json = {}): Json => ({
  name,
  typed_config: { '@type': type, ...config },
});
const ANY: Json = { any: true };
const header = (name: string, match: Json): Json => ({ header: { name, string_match: match } });
const always: Json = { default_value: { numerator: 100 } };

/** Each asks for the path, the scheme or the method, where it can. */
const CHAIN: readonly Json[] = [
  filter('istio.metadata_exchange', 'type.googleapis.com/io.istio.http.peer_metadata.Config', {
    downstream_discovery: [{ istio_headers: {} }],
  }),
  filter('envoy.filters.http.grpc_web', `${HTTP}grpc_web.v3.GrpcWeb`),
  filter('envoy.filters.http.cors', `${HTTP}cors.v3.Cors`),
  filter('envoy.filters.http.fault', `${HTTP}fault.v3.HTTPFault`, {
    abort: { http_status: 418, percentage: { numerator: 100 } },
    headers: [{ name: ':path', string_match: { prefix: '/fault' } }],
  }),
  filter('envoy.filters.http.jwt_authn', `${HTTP}jwt_authn.v3.JwtAuthentication`, {
    providers: { p: { issuer: 'i', local_jwks: { inline_string: KEY_SET }, from_params: ['token'] } },
    rules: [
      { match: { safe_regex: { regex: '/jwt.*' } }, requires: { provider_name: 'p' } },
      {
        match: { prefix: '/' },
        requires: { requires_any: { requirements: [{ provider_name: 'p' }, { allow_missing: {} }] } },
      },
    ],
  }),
  filter('envoy.filters.http.rbac', `${HTTP}rbac.v3.RBAC`, {
    rules: {
      action: 'DENY',
      policies: {
        admin: { permissions: [{ url_path: { path: { prefix: '/admin' } } }], principals: [ANY] },
        scheme: { permissions: [header(':scheme', { safe_regex: { regex: '[A-Z].*' } })], principals: [ANY] },
      },
    },
  }),
  filter('envoy.filters.http.rbac', `${HTTP}rbac.v3.RBAC`, {
    rules: {
      policies: {
        p: { permissions: [{ not_rule: { url_path: { path: { exact: '/never' } } } }], principals: [ANY] },
      },
    },
    shadow_rules: { policies: { q: { permissions: [header(':path', { contains: 'x' })], principals: [ANY] } } },
  }),
  filter('envoy.filters.http.ext_authz', `${HTTP}ext_authz.v3.ExtAuthz`, {
    transport_api_version: 'V3',
    grpc_service: { envoy_grpc: { cluster_name: 'authz' }, timeout: '2s' },
  }),
  filter('envoy.filters.http.local_ratelimit', `${HTTP}local_ratelimit.v3.LocalRateLimit`, {
    stat_prefix: 'limit',
    token_bucket: { max_tokens: 10_000, tokens_per_fill: 1, fill_interval: '60s' },
    filter_enabled: always,
    filter_enforced: always,
    descriptors: [
      { entries: [{ key: 'path', value: '/limited' }], token_bucket: { max_tokens: 1, fill_interval: '60s' } },
    ],
  }),
  filter('envoy.filters.http.ratelimit', `${HTTP}ratelimit.v3.RateLimit`, {
    domain: 'd',
    timeout: '10s',
    rate_limit_service: { transport_api_version: 'V3', grpc_service: { envoy_grpc: { cluster_name: 'closed' } } },
  }),
  filter('envoy.filters.http.header_mutation', `${HTTP}header_mutation.v3.HeaderMutation`, {
    mutations: {
      request_mutations: [
        { append: { header: { key: 'x-seen', value: '%REQ(:SCHEME)%|%PATH(NQ)%|%QUERY_PARAM(q)%|%REQ(:METHOD)%' } } },
      ],
    },
  }),
  filter('envoy.filters.http.grpc_stats', `${HTTP}grpc_stats.v3.FilterConfig`, { stats_for_all_methods: true }),
  filter('istio.stats', 'type.googleapis.com/stats.PluginConfig'),
];

/** Asked over HTTP, where a CONNECT would open a tunnel to the authorizer instead of asking it. */
const ASKS_HTTP: Json = filter('envoy.filters.http.ext_authz', `${HTTP}ext_authz.v3.ExtAuthz`, {
  http_service: { server_uri: { uri: 'http://authz', cluster: 'up', timeout: '10s' }, path_prefix: '/check' },
});

const LIMITS: Json = {
  rate_limits: [
    {
      actions: [
        { request_headers: { header_name: ':path', descriptor_key: 'path' } },
        {
          header_value_match: {
            descriptor_value: 'secure',
            headers: [{ name: ':scheme', string_match: { exact: 'https' } }],
          },
        },
      ],
    },
  ],
};

function listener(name: string, socket?: Json, filters: readonly Json[] = CHAIN): Resource {
  const plain = httpListener({
    name,
    filters,
    manager: { http2_protocol_options: { allow_connect: true }, access_log: [log.config(`${COMMANDS.join(' ')}\n`)] },
    routes: {
      name: 'r',
      virtual_hosts: [
        {
          name: 'v',
          domains: ['*'],
          typed_per_filter_config: {
            'envoy.filters.http.cors': {
              '@type': `${HTTP}cors.v3.CorsPolicy`,
              allow_origin_string_match: [{ prefix: '' }],
            },
          },
          routes: [
            {
              match: { connect_matcher: {} },
              route: { cluster: 'up', upgrade_configs: [{ upgrade_type: 'CONNECT', connect_config: {} }], ...LIMITS },
            },
            { match: { prefix: '/moved' }, redirect: { path_redirect: '/new' } },
            { match: { prefix: '/' }, route: { cluster: 'up', ...LIMITS } },
          ],
        },
      ],
    },
  });
  const [chain] = plain.json['filter_chains'] as Json[];
  return resource('listener', {
    ...plain.json,
    filter_chains: [{ ...chain, ...(socket !== undefined && { transport_socket: socket }) }],
  });
}

let upstream: RawUpstream;
let proxy: TestProxy;
let logged = 0;

before(async () => {
  upstream = await RawUpstream.start(scope, answering());
  const authz = await startGrpcAuthorizer(scope, () => ({ status: {}, ok_response: {} }));
  proxy = await startTestProxy(scope, [
    listener('clear'),
    listener('tls', downstreamTls({ own, alpn: ['h2', 'http/1.1'] })),
    staticCluster('up', [upstream.port]),
    listener('asksHttp', undefined, [ASKS_HTTP]),
    staticCluster('authz', [authz.port], HTTP2),
    staticCluster('closed', [1], HTTP2),
  ]);
});

type Carrier = 'clear' | 'tls';
const CARRIERS: readonly Carrier[] = ['clear', 'tls'];
const SECURE: Readonly<Record<Carrier, string>> = { clear: 'http', tls: 'https' };

/** The head of the answer; the connection is let go of. */
async function overHttp1(carrier: Carrier, request: string): Promise<string> {
  const port = proxy.port(carrier);
  const socket =
    carrier === 'clear'
      ? connectTcp(port, '127.0.0.1')
      : connectTls({ port, host: '127.0.0.1', rejectUnauthorized: false, ALPNProtocols: ['http/1.1'] });
  socket.write(request, 'latin1');
  socket.on('error', () => {});
  let text = '';
  for await (const bytes of socket) {
    text += (bytes as Buffer).toString('latin1');
    if (text.includes('\r\n\r\n')) break;
  }
  socket.destroy();
  return text;
}

interface Answer {
  readonly status: number;
  readonly location: string | undefined;
}

async function overHttp2(carrier: Carrier, head: http2.OutgoingHttpHeaders): Promise<Answer> {
  const session = http2.connect(`${SECURE[carrier]}://127.0.0.1:${proxy.port(carrier)}`, { rejectUnauthorized: false });
  session.on('error', () => {});
  try {
    const stream = session.request(head, { endStream: head[':method'] !== 'CONNECT' });
    const [headers] = (await once(stream, 'response')) as [http2.IncomingHttpHeaders];
    return { status: headers[':status'] as unknown as number, location: headers.location };
  } finally {
    session.destroy();
  }
}

/** One more line stands in the log, with every command on it; nothing was thrown. */
async function survived(): Promise<void> {
  const lines = await log.lines(++logged);
  assert.equal(lines.length, logged);
  assert.deepEqual(proxy.errors, []);
}

for (const carrier of CARRIERS) {
  describe(`over ${carrier === 'tls' ? 'TLS' : 'a bare connection'}`, () => {
    for (const scheme of ['http', 'https', 'HTTPS', 'hTTp', 'HTTP', 'ftp', 'javascript', 'http ', '']) {
      test(`the scheme "${scheme}" is what the connection is, or an error (HTTP/2)`, async () => {
        const before = upstream.all.length;
        const head = { ':method': 'GET', ':path': '/a?q=1', ':scheme': scheme, ':authority': 'shop.example' };
        const answer = await overHttp2(carrier, head).catch(() => undefined);
        const forwarded = upstream.all.slice(before);
        if (answer?.status === 200) {
          assert.match(forwarded, new RegExp(`x-forwarded-proto: ${SECURE[carrier]}\r\n`));
          assert.match(forwarded, new RegExp(`x-seen: ${SECURE[carrier]}\\|/a\\|1\\|GET\r\n`));
          await survived();
          // A redirect keeps the connection's scheme too.
          const moved = await overHttp2(carrier, { ...head, ':path': '/moved' });
          assert.deepEqual(moved, { status: 301, location: `${SECURE[carrier]}://shop.example/new` });
          await survived();
          return;
        }
        assert.ok(!/^https?$/i.test(scheme), `"${scheme}" is a scheme of ours`);
        assert.ok(answer === undefined || answer.status === 400, `${answer?.status}`);
        assert.equal(forwarded, '');
      });
    }

    for (const target of ['HTTP://shop.example/a?q=1', 'hTTpS://shop.example/a?q=1']) {
      test(`the target ${target} is what the connection is (HTTP/1.1)`, async () => {
        const before = upstream.all.length;
        const answer = await overHttp1(carrier, `GET ${target} HTTP/1.1\r\nhost: shop.example\r\n\r\n`);
        assert.match(answer, /^HTTP\/1.1 200 /);
        const forwarded = upstream.all.slice(before);
        assert.match(forwarded, /^GET \/a\?q=1 HTTP\/1.1\r\n/);
        assert.match(forwarded, new RegExp(`x-forwarded-proto: ${SECURE[carrier]}\r\n`));
        await survived();
      });
    }

    test('CONNECT, which has no path, passes every filter (HTTP/1.1)', async () => {
      const answer = await overHttp1(carrier, 'CONNECT db.example:5432 HTTP/1.1\r\nhost: db.example:5432\r\n\r\n');
      assert.match(answer, /^HTTP\/1.1 200 /);
      await survived();
    });

    test('CONNECT, which has no path, passes every filter (HTTP/2)', async () => {
      const { status } = await overHttp2(carrier, { ':method': 'CONNECT', ':authority': 'db.example:5432' });
      assert.equal(status, 200);
      await survived();
    });

    test('OPTIONS *, whose path is none, passes every filter', async () => {
      const overOne = await overHttp1(carrier, 'OPTIONS * HTTP/1.1\r\nhost: shop.example\r\n\r\n');
      assert.match(overOne, /^HTTP\/1.1 (200|404) /);
      await survived();
      const overTwo = await overHttp2(carrier, {
        ':method': 'OPTIONS',
        ':path': '*',
        ':scheme': 'http',
        ':authority': 'shop.example',
      });
      assert.ok([200, 404].includes(overTwo.status), String(overTwo.status));
      await survived();
    });

    test('a policy about paths still holds beside them', async () => {
      const ask = (path: string): Promise<Answer> =>
        overHttp2(carrier, { ':method': 'GET', ':path': path, ':scheme': 'HTTPS', ':authority': 'shop.example' });
      for (const [path, status] of [
        ['/admin/x', 403],
        ['/never', 403],
        ['/fault', 418],
        ['/jwt', 401],
      ] as const) {
        assert.equal((await ask(path)).status, status, path);
        await survived();
      }
    });
  });
}

test('CONNECT is denied where only an authorizer over HTTP could be asked', async () => {
  const text = await new RawClient(scope, proxy.port('asksHttp'))
    .send('CONNECT db.example:5432 HTTP/1.1\r\nhost: db.example:5432\r\n\r\n')
    .until((received) => received.includes('\r\n\r\n'));
  assert.match(text, /^HTTP\/1.1 403 /);
  await survived();
});

after(() => assert.ok(logged > 20));

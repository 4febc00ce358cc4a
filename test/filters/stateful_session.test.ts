/** Sessions that stay with their host, in Pillion and, where it is installed, in Envoy: the same requests, the same answers. */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';

import type { Json, Resource } from '../../config/resources.ts';
import { startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { httpListener, staticCluster } from '../support/envoy_resources.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';

const TYPE = 'type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.';
const STATE = 'type.googleapis.com/envoy.extensions.http.stateful_session.';
const NAME = 'envoy.filters.http.stateful_session';

const scope = fileScope();
let hosts: RawUpstream[];

const cookie = (json: Json): Json => ({
  session_state: {
    name: 'envoy.http.stateful_session.cookie',
    typed_config: { '@type': `${STATE}cookie.v3.CookieBasedSessionState`, cookie: { name: 'sid', ...json } },
  },
});
const header: Json = {
  session_state: {
    name: 'envoy.http.stateful_session.header',
    typed_config: { '@type': `${STATE}header.v3.HeaderBasedSessionState`, name: 'x-session' },
  },
};

function resources() {
  const route = (prefix: string, session: Json | undefined, cluster = 'up'): Json => ({
    match: { prefix },
    route: { cluster },
    ...(session !== undefined && {
      typed_per_filter_config: { [NAME]: { '@type': `${TYPE}StatefulSessionPerRoute`, ...session } },
    }),
  });
  const session = cookie({ ttl: '120s', path: '/', attributes: [{ name: 'SameSite', value: 'Lax' }] });
  return [
    httpListener({
      filters: [{ name: NAME, typed_config: { '@type': `${TYPE}StatefulSession`, ...session, stat_prefix: 'own' } }],
      routes: {
        name: 'r',
        virtual_hosts: [
          {
            name: 'v',
            domains: ['*'],
            routes: [
              route('/off', { disabled: true }),
              route('/header', { stateful_session: header }),
              route('/strict', { stateful_session: { ...cookie({}), strict: true } }),
              route('/below', { stateful_session: cookie({ path: '/below/a' }) }),
              route('/draining', undefined, 'draining'),
              route('/default', undefined, 'default'),
              route('/', undefined),
            ],
          },
        ],
      },
    }),
    httpListener({
      name: 'narrow',
      filters: [
        {
          name: NAME,
          typed_config: { '@type': `${TYPE}StatefulSession`, ...cookie({ path: '/session' }), stat_prefix: 'narrow' },
        },
      ],
      routes: {
        name: 'n',
        virtual_hosts: [
          { name: 'v', domains: ['*'], routes: [route('/off', { disabled: true }), route('/', undefined)] },
        ],
      },
    }),
    staticCluster(
      'up',
      hosts.map(({ port }) => port),
    ),
    leaving('draining', { common_lb_config: { override_host_status: { statuses: ['HEALTHY', 'DRAINING'] } } }),
    leaving('default', {}),
  ];
}

/** Of two hosts, the first of which takes no new sessions. */
function leaving(name: string, more: Json): Resource {
  const lb_endpoints = ['DRAINING', 'HEALTHY'].map((health_status, index) => ({
    endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: hosts[index]?.port ?? 0 } } },
    health_status,
  }));
  return staticCluster(name, [], { load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints }] }, ...more });
}

before(async () => {
  hosts = await Promise.all(['a', 'b', 'c'].map((name) => RawUpstream.start(scope, answering(name))));
});

interface Side {
  readonly port: number;
  /** Of the listener whose sessions are for paths below /session only. */
  readonly narrowPort: number;
  /** A counter's value, once it has come to the admin interface. */
  count(name: string): Promise<number>;
}

describe('Pillion', () =>
  cases(false, async () => {
    const proxy = await startTestProxy(scope, resources());
    const count = async (name: string): Promise<number> => {
      await proxy.counted();
      return proxy.value(name);
    };
    return { port: proxy.port(), narrowPort: proxy.port('narrow'), count };
  }));

describe('Envoy', () =>
  cases(withoutEnvoy(), async () => {
    const envoy = await startEnvoy(scope, resources());
    const count = async (name: string): Promise<number> => {
      const answer = await fetch(`http://127.0.0.1:${envoy.adminPort}/stats?filter=^${name}$`);
      return Number((await answer.text()).split(': ')[1]);
    };
    return { port: envoy.port('test'), narrowPort: envoy.port('narrow'), count };
  }));

function cases(skip: string | false, start: () => Promise<Side>): void {
  let port: number;
  let side: Side;
  before(async () => {
    if (skip !== false) return;
    side = await start();
    port = side.port;
  });

  const ask = async (path: string, headers: Record<string, string> = {}) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { headers });
    return { status: response.status, text: await response.text(), headers: response.headers };
  };
  const base64 = (text: string): string => Buffer.from(text, 'latin1').toString('base64');
  const addressOf = (name: string): string => `127.0.0.1:${hosts['abc'.indexOf(name)]?.port}`;
  const isFrom = async (path: string, headers: Record<string, string>, name: string): Promise<void> => {
    for (let i = 0; i < 6; i++) {
      const { text, headers: answer } = await ask(path, headers);
      assert.equal(text, name);
      assert.equal(answer.get('set-cookie'), null);
      assert.equal(answer.get('x-session'), null);
    }
  };

  it('begins a session with a cookie that says host and time, and keeps it', { skip }, async () => {
    const { text, headers } = await ask('/');
    const set = String(headers.get('set-cookie'));
    const value = /^sid="([A-Za-z0-9+/=]+)"; Max-Age=120; Path=\/; SameSite=Lax; HttpOnly$/.exec(set)?.[1] ?? '';
    const bytes = Buffer.from(value, 'base64');
    const address = addressOf(text);
    assert.equal(
      bytes.subarray(0, 2 + address.length).toString('latin1'),
      `\x0a${String.fromCharCode(address.length)}${address}`,
    );
    assert.equal(bytes[2 + address.length], 0x10, 'then when it ends');
    await isFrom('/', { cookie: `x=1; sid="${value}"; y=2` }, text);
    await isFrom('/', { cookie: `sid=${value}` }, text);
  });

  it('takes a cookie that is the address alone', { skip }, () =>
    isFrom('/', { cookie: `sid=${base64(addressOf('c'))}` }, 'c'),
  );

  for (const [says, value] of [
    ['cannot be read', '%%%'],
    ['names no host of the cluster', base64('127.0.0.1:1')],
    ['has ended', base64(`\x0a\x0b127.0.0.1:1\x10\x05`)],
  ] as const) {
    it(`begins anew where the cookie ${says}`, { skip }, async () => {
      const { status, headers } = await ask('/', { cookie: `sid=${value}` });
      assert.equal(status, 200);
      assert.match(String(headers.get('set-cookie')), /^sid="/);
    });
  }

  it('strict: a host that is gone is an error, no session is not', { skip }, async () => {
    const gone = await ask('/strict', { cookie: `sid=${base64('127.0.0.1:1')}` });
    assert.deepEqual([gone.status, gone.text], [503, 'no healthy upstream']);
    const fresh = await ask('/strict');
    assert.equal(fresh.status, 200);
    assert.match(String(fresh.headers.get('set-cookie')), /^sid="[A-Za-z0-9+/=]+"; HttpOnly$/);
    await isFrom('/strict', { cookie: `sid=${base64(addressOf('b'))}` }, 'b');
  });

  it('keeps the session in a header', { skip }, async () => {
    const { text, headers } = await ask('/header');
    assert.equal(headers.get('x-session'), base64(addressOf(text)));
    await isFrom('/header', { 'x-session': base64(addressOf('a')) }, 'a');
  });

  it('holds for paths below that of the cookie, and not where it is off', { skip }, async () => {
    assert.notEqual((await ask('/below/a/b')).headers.get('set-cookie'), null);
    assert.notEqual((await ask('/below/a?b')).headers.get('set-cookie'), null);
    assert.equal((await ask('/below/ab')).headers.get('set-cookie'), null);
    assert.equal((await ask('/off')).headers.get('set-cookie'), null);
  });

  it('counts what became of sessions by the filter itself', { skip }, async () => {
    const names = ['routed', 'failed_open', 'failed_closed', 'no_session'];
    const counts = await Promise.all(names.map((name) => side.count(`http.test.stateful_session.own.${name}`)));
    assert.deepEqual(counts, [18, 4, 0, 0]);
  });

  it('counts requests of paths without sessions', { skip }, async () => {
    for (const [path, begins] of [
      ['/session/a', true],
      ['/other', false],
      ['/sessions', false],
      ['/off', false],
    ] as const) {
      const response = await fetch(`http://127.0.0.1:${side.narrowPort}${path}`);
      await response.arrayBuffer();
      assert.equal(response.headers.get('set-cookie') !== null, begins, path);
    }
    assert.equal(await side.count('http.test.stateful_session.narrow.no_session'), 2);
  });

  it('stays with a host that is going where the cluster says so, and leaves it otherwise', { skip }, async () => {
    await isFrom('/draining', { cookie: `sid=${base64(addressOf('a'))}` }, 'a');
    const { text, headers } = await ask('/default', { cookie: `sid=${base64(addressOf('a'))}` });
    assert.equal(text, 'b');
    assert.match(String(headers.get('set-cookie')), /^sid="/);
    for (let i = 0; i < 6; i++) assert.equal((await ask('/draining')).text, 'b');
  });
}

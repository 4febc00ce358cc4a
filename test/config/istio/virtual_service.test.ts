import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Compiled, dig, digList, istio, service } from './compiled.ts';

const ME = { name: 'me', namespace: 'default', labels: { app: 'me' }, serviceAccount: 'me', ips: [] };
const respond = (status: number) => `http: [{ directResponse: { status: ${status} } }]`;

/** Statuses of the direct responses of a host's routes; `forward` for the others. */
function answers(yaml: string, host = 'web', proxy = ME): unknown[] {
  return digList(new Compiled(service('web', 80) + yaml, { proxy }).host(host), 'routes').map(
    (route) => dig(route, 'direct_response', 'status') ?? 'forward',
  );
}

function routeOf(rule: string, yaml = service('web', 80)): unknown {
  return dig(
    new Compiled(yaml + istio('VirtualService', 'a', `hosts: [web]\nhttp: [{ ${rule} }]`)).host('web'),
    'routes',
    0,
  );
}

const TO_WEB = 'route: [{ destination: { host: web } }]';

describe('VirtualService hosts', () => {
  it('the oldest VirtualService wins when two name one host', () => {
    const yaml =
      istio('VirtualService', 'a', `hosts: [web]\n${respond(201)}`) +
      istio('VirtualService', 'b', `hosts: [web]\n${respond(202)}`);
    assert.deepEqual(answers(yaml), [201]);
  });

  it("a private VirtualService of the client's namespace wins over an older public one", () => {
    const yaml =
      istio('VirtualService', 'a', `hosts: [web.default.svc.cluster.local]\n${respond(201)}`, 'other') +
      istio('VirtualService', 'b', `hosts: [web]\nexportTo: ["."]\n${respond(202)}`);
    assert.deepEqual(answers(yaml), [202]);
  });

  it('an exact host wins over a wildcard, and a longer wildcard over a shorter', () => {
    const wide = istio('VirtualService', 'a', `hosts: ["*.local"]\n${respond(201)}`);
    const long = istio('VirtualService', 'b', `hosts: ["*.default.svc.cluster.local"]\n${respond(202)}`);
    assert.deepEqual(answers(wide), [201]);
    assert.deepEqual(answers(wide + long), [202]);
    assert.deepEqual(answers(wide + long + istio('VirtualService', 'c', `hosts: [web]\n${respond(203)}`)), [203]);
  });

  it('a VirtualService for a gateway only does not apply to sidecars', () => {
    assert.deepEqual(answers(istio('VirtualService', 'a', `hosts: [web]\ngateways: [in]\n${respond(201)}`)), [
      'forward',
    ]);
    assert.deepEqual(
      answers(istio('VirtualService', 'a', `hosts: [web]\ngateways: [in, mesh]\n${respond(201)}`)),
      [201],
    );
  });

  it('a VirtualService is not seen when it is not exported to the client', () => {
    const other = (exportTo: string) =>
      istio(
        'VirtualService',
        'a',
        `hosts: [web.default.svc.cluster.local]\nexportTo: ["${exportTo}"]\n${respond(201)}`,
        'ops',
      );
    assert.deepEqual(answers(other('.')), ['forward']);
    assert.deepEqual(answers(other('default')), [201]);
    assert.deepEqual(answers(other('~')), ['forward']);
  });

  it('a short host is in the namespace of the rule', () => {
    assert.deepEqual(answers(istio('VirtualService', 'a', `hosts: [web]\n${respond(201)}`, 'ops')), ['forward']);
  });

  it('a host that no service has is served on port 80', () => {
    const yaml = istio('VirtualService', 'a', `hosts: [example.org]\n${respond(201)}`);
    assert.deepEqual(answers(yaml, 'example.org'), [201]);
    assert.deepEqual(answers(yaml, 'example.org:80'), [201]);
  });

  it('an ExternalName is another name of the service that it names', () => {
    const alias =
      'apiVersion: v1\nkind: Service\nmetadata: { name: alias }\nspec: { type: ExternalName, externalName: web.default.svc.cluster.local, ports: [{ name: http, port: 80 }] }\n---\n';
    const yaml = `${istio('VirtualService', 'a', `hosts: [web]\n${respond(201)}`)}---\n${alias}`;
    assert.deepEqual(answers(yaml, 'alias'), [201]);
  });
});

describe('VirtualService matches', () => {
  it('routes for other ports, sources and gateways are left out', () => {
    const match = (fields: string) =>
      istio(
        'VirtualService',
        'a',
        `hosts: [web]\nhttp: [{ match: [{ ${fields} }], directResponse: { status: 201 } }, { directResponse: { status: 202 } }]`,
      );
    assert.deepEqual(answers(match('port: 80')), [201]);
    assert.deepEqual(answers(match('port: 81')), [202]);
    assert.deepEqual(answers(match('sourceLabels: { app: me }')), [201]);
    assert.deepEqual(answers(match('sourceLabels: { app: you }')), [202]);
    assert.deepEqual(answers(match('sourceNamespace: default')), [201]);
    assert.deepEqual(answers(match('sourceNamespace: ops')), [202]);
    assert.deepEqual(answers(match('gateways: [in]')), [202]);
    assert.deepEqual(answers(match('gateways: [mesh], sourceLabels: { app: you }')), [201]);
  });

  it('each match makes a route, and nothing follows one that takes everything', () => {
    const yaml = istio(
      'VirtualService',
      'a',
      'hosts: [web]\nhttp: [{ match: [{ uri: { exact: /a } }, { uri: { regex: ".*" } }, { uri: { exact: /b } }], directResponse: { status: 201 } }, { directResponse: { status: 202 } }]',
    );
    assert.deepEqual(answers(yaml), [201, 201]);
  });

  it('a match of nothing or of "*" asks for presence', () => {
    const match = dig(
      routeOf(
        `match: [{ headers: { a: {}, b: { regex: "*" } }, withoutHeaders: { c: {} }, queryParams: { q: {} } }], ${TO_WEB}`,
      ),
      'match',
    );
    assert.deepEqual(dig(match, 'headers'), [
      { name: 'a', present_match: true },
      { name: 'b', present_match: true },
      { name: 'c', present_match: true, invert_match: true },
    ]);
    assert.deepEqual(dig(match, 'query_parameters'), [{ name: 'q', present_match: true }]);
  });

  it('header names are lower-cased', () => {
    const match = dig(routeOf(`match: [{ headers: { X-User: { exact: a } } }], ${TO_WEB}`), 'match');
    assert.deepEqual(dig(match, 'headers'), [{ name: 'x-user', string_match: { exact: 'a' } }]);
  });
});

describe('VirtualService actions', () => {
  it('a destination without a port takes the only port of its service, else the port of the request', () => {
    const cluster = (yaml: string) =>
      dig(routeOf('route: [{ destination: { host: other } }]', service('web', 80) + yaml), 'route', 'cluster');
    assert.equal(cluster(service('other', 9080)), 'outbound|9080||other.default.svc.cluster.local');
    assert.equal(cluster(''), 'outbound|80||other.default.svc.cluster.local');
  });

  it("an authority among the headers rewrites the host, and the rewrite's own comes first", () => {
    const host = (rule: string) => dig(routeOf(rule), 'route', 'host_rewrite_literal');
    assert.equal(host(`headers: { request: { set: { Host: a } } }, ${TO_WEB}`), 'a');
    assert.equal(host(`headers: { request: { add: { ":authority": b } } }, ${TO_WEB}`), 'b');
    assert.equal(host(`headers: { request: { set: { Host: a } } }, rewrite: { authority: c }, ${TO_WEB}`), 'c');
    assert.equal(host('route: [{ destination: { host: web }, headers: { request: { set: { host: d } } } }]'), 'd');
    assert.equal(
      dig(
        routeOf(`headers: { request: { set: { Host: a }, remove: [host, ":path"] } }, ${TO_WEB}`),
        'request_headers_to_remove',
      ),
      undefined,
    );
  });

  it('a redirect leaves out the port that its scheme implies', () => {
    const port = (fields: string) => dig(routeOf(`redirect: { ${fields} }`), 'redirect', 'port_redirect');
    assert.equal(port('port: 80'), undefined);
    assert.equal(port('port: 443'), 443);
    assert.equal(port('port: 443, scheme: https'), undefined);
    assert.equal(port('port: 80, scheme: https'), 80);
    assert.equal(port('derivePort: FROM_REQUEST_PORT'), undefined);
    assert.equal(port('derivePort: FROM_PROTOCOL_DEFAULT, scheme: https'), undefined);
  });

  it('a mirror gets everything without a percentage, and nothing at 0', () => {
    const mirrors = (fields: string) =>
      digList(routeOf(`${TO_WEB}, ${fields}`), 'route', 'request_mirror_policies').map((item) =>
        dig(item, 'runtime_fraction', 'default_value'),
      );
    assert.deepEqual(mirrors('mirror: { host: web }'), [{ numerator: 100 }]);
    assert.deepEqual(mirrors('mirror: { host: web }, mirrorPercentage: { value: 0 }'), []);
    assert.deepEqual(mirrors('mirror: { host: web }, mirrorPercentage: { value: 0.5 }'), [
      { numerator: 5000, denominator: 'MILLION' },
    ]);
    assert.deepEqual(
      mirrors('mirrors: [{ destination: { host: web } }, { destination: { host: web }, percentage: { value: 0 } }]'),
      [{ numerator: 100 }],
    );
  });

  it("retries are Istio's default unless the rule or the mesh says otherwise", () => {
    const policy = (rule: string, mesh = {}) =>
      dig(
        new Compiled(
          service('web', 80) + istio('VirtualService', 'a', `hosts: [web]\nhttp: [{ ${TO_WEB}, ${rule} }]`),
          { mesh },
        ).host('web'),
        'routes',
        0,
        'route',
        'retry_policy',
      );
    assert.equal(dig(policy('name: a'), 'num_retries'), 2);
    assert.equal(policy('retries: { attempts: 0 }'), undefined);
    assert.equal(policy('name: a', { defaultHttpRetryPolicy: { attempts: 0 } }), undefined);
    assert.equal(
      dig(policy('retries: { attempts: 5, retryOn: "5xx, 503" }'), 'retry_on'),
      '5xx,retriable-status-codes',
    );
    assert.deepEqual(dig(policy('retries: { attempts: 5, retryOn: "5xx, 503" }'), 'retriable_status_codes'), [503]);
    assert.equal(
      dig(policy('retries: { attempts: 1, retryIgnorePreviousHosts: false }'), 'retry_host_predicate'),
      undefined,
    );
  });

  it('cors is a filter configuration of the route', () => {
    const cors = dig(
      routeOf(
        `${TO_WEB}, corsPolicy: { allowOrigins: [{ prefix: "https://" }], allowMethods: [GET, PUT], maxAge: 90s, unmatchedPreflights: IGNORE }`,
      ),
      'typed_per_filter_config',
      'envoy.filters.http.cors',
    );
    assert.deepEqual(cors, {
      '@type': 'type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy',
      allow_origin_string_match: [{ prefix: 'https://' }],
      allow_methods: 'GET,PUT',
      max_age: '90',
      filter_enabled: { default_value: { numerator: 100 } },
      forward_not_matching_preflights: false,
    });
  });
});

describe('delegates', () => {
  const root = (match: string) =>
    istio(
      'VirtualService',
      'root',
      `hosts: [web]\nhttp: [{ name: r, ${match}delegate: { name: leaf }, timeout: 9s }, { directResponse: { status: 299 } }]`,
    );
  const leaf = (rule: string, more = '') => istio('VirtualService', 'leaf', `http: [{ ${rule} }]\n${more}`);

  it("a delegate's routes stand in the place of the root's route, with the names of both", () => {
    const compiled = new Compiled(
      service('web', 80) + root('') + leaf(`name: l, match: [{ uri: { prefix: /a } }], ${TO_WEB}`),
    );
    const route = dig(compiled.host('web'), 'routes', 0);
    assert.equal(dig(route, 'name'), 'r-l');
    assert.equal(dig(route, 'route', 'timeout'), '9s');
    assert.equal(
      dig(route, 'metadata', 'filter_metadata', 'istio', 'config'),
      '/apis/networking.istio.io/v1/namespaces/default/virtual-service/root',
    );
  });

  it("a delegate's match must refine the root's", () => {
    const prefix = 'match: [{ uri: { prefix: /a } }], ';
    const status = (match: string) =>
      answers(root(prefix) + leaf(`match: [{ ${match} }], directResponse: { status: 201 }`));
    assert.deepEqual(status('uri: { prefix: /a/b }'), [201, 299]);
    assert.deepEqual(status('uri: { exact: /a/b }'), [201, 299]);
    assert.deepEqual(status('headers: { x: { exact: y } }'), [201, 299]);
    assert.deepEqual(status('uri: { prefix: /b }'), [299]);
    assert.deepEqual(status('uri: { regex: "/a.*" }'), [299]);
    assert.deepEqual(status('uri: { prefix: /a }, ignoreUriCase: true'), [299]);
  });

  it('a delegate that is missing or not exported drops the route and is named', () => {
    const missing = new Compiled(service('web', 80) + root(''));
    assert.equal(digList(missing.host('web'), 'routes').length, 1);
    assert.match(
      String(missing.result.warnings[0]),
      /test\.yaml:\d+:\d+: the delegate VirtualService "default\/leaf" does not exist/,
    );
    const hidden = new Compiled(service('web', 80) + root('') + leaf(TO_WEB, 'exportTo: [ops]'));
    assert.match(String(hidden.result.warnings[0]), /is not exported to default/);
  });
});

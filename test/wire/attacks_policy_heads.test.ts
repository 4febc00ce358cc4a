/** Rows 39 to 49 of attacks.md as bytes: hosts, repeated and odd headers, regexes, templates, against policies from YAML. */
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { compile } from '../../config/istio/compile.ts';
import type { Json, Resource } from '../../config/resources.ts';
import { kubeObjects } from '../support/kube_objects.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { exchangeThrough, type Outcome } from '../support/http1_exchange.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { rbacFilter } from '../support/attack_paths.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';

const scope = fileScope();
let upstream: RawUpstream;
let proxy: TestProxy;

/** Each policy on a port of its own, from YAML. */
const POLICIES: Readonly<Record<string, string>> = {
  denyHost: '{ action: DENY, rules: [{ to: [{ operation: { hosts: [secret.com] } }] }] }',
  allowNotHost: '{ rules: [{ to: [{ operation: { notHosts: [secret.com] } }] }] }',
  denyRole: '{ action: DENY, rules: [{ when: [{ key: "request.headers[x-role]", values: [admin] }] }] }',
  allowNotRole: '{ rules: [{ when: [{ key: "request.headers[x-role]", notValues: [admin] }] }] }',
  allowRole: '{ rules: [{ when: [{ key: "request.headers[x-role]", values: ["*"] }] }] }',
  remote: '{ rules: [{ from: [{ source: { remoteIpBlocks: [10.0.0.0/8] } }] }] }',
  direct: '{ rules: [{ from: [{ source: { ipBlocks: [10.0.0.0/8] } }] }] }',
  template: '{ action: DENY, rules: [{ to: [{ operation: { paths: ["/v/{*}/x"] } }] }] }',
  principal: '{ rules: [{ from: [{ source: { notPrincipals: [cluster.local/ns/a/sa/b] } }] }] }',
  method: '{ action: DENY, rules: [{ to: [{ operation: { methods: [DELETE] } }] }] }',
};

before(async () => {
  upstream = await RawUpstream.start(scope, answering());
  proxy = await startTestProxy(scope, [
    ...Object.entries(POLICIES).flatMap(([name, spec], index) => fromYaml(name, spec, 9000 + index)),
    manyHosts(),
    slowRegex(),
    staticCluster('up', [upstream.port]),
  ]);
});

/** The inbound listener of a workload with one policy, under the policy's name. */
function fromYaml(name: string, spec: string, workloadPort: number): Resource[] {
  const yaml = `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: ${name.toLowerCase()} }\nspec: ${spec}\n`;
  const { resources } = compile({
    objects: kubeObjects(`${yaml}---\n${SERVICE(workloadPort)}`),
    mesh: {},
    proxy: { name: 'w', namespace: 'default', labels: { app: 'w' }, serviceAccount: 'w', ips: ['10.0.0.9'] },
    domain: 'cluster.local',
    mode: {
      kind: 'explicit',
      outbound: undefined,
      inbound: [{ ip: '127.0.0.1', port: 0, workloadPort, app: { ip: '127.0.0.1', port: upstream.port } }],
      accessLog: undefined,
    },
  });
  return resources
    .filter((item) => item.name === `inbound_${workloadPort}` || item.name === `inbound|${workloadPort}||`)
    .map((item) => (item.type === 'listener' ? { ...item, name, json: { ...item.json, name } } : item));
}

const SERVICE = (port: number): string =>
  `apiVersion: v1\nkind: Service\nmetadata: { name: w }\nspec: { selector: { app: w }, ports: [{ name: http, port: 80, targetPort: ${port} }] }\n`;

/** 300 hosts, of which each is denied. */
function manyHosts(): Resource {
  const hosts = Array.from({ length: 300 }, (_, index) => `h${index}.example`);
  const policies = Object.fromEntries(
    hosts.map((host): [string, Json] => [
      host,
      {
        permissions: [{ header: { name: ':authority', string_match: { exact: host, ignore_case: true } } }],
        principals: [{ any: true }],
      },
    ]),
  );
  return httpListener({
    name: 'many',
    filters: [rbacFilter({ action: 'DENY', policies })],
    routes: {
      name: 'r',
      virtual_hosts: [
        ...hosts.map((host) => ({
          name: host,
          domains: [host],
          routes: [{ match: { prefix: '/' }, direct_response: { status: 299 } }],
        })),
        { name: 'rest', domains: ['*'], routes: [{ match: { prefix: '/' }, route: { cluster: 'up' } }] },
      ],
    },
  });
}

function slowRegex(): Resource {
  const header = { name: 'x-a', safe_regex_match: { regex: '(a+)+$' } };
  return httpListener({
    name: 'regex',
    filters: [
      rbacFilter({ action: 'DENY', policies: { p: { permissions: [{ header }], principals: [{ any: true }] } } }),
    ],
    routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]),
  });
}

const through = (listener: string, request: string): Promise<Outcome> =>
  exchangeThrough(scope, proxy.port(listener), upstream, request);
async function status(listener: string, request: string): Promise<number> {
  const { response, forwarded } = await through(listener, request);
  const code = Number(/^HTTP\/1.1 (\d+)/.exec(response[0] ?? '')?.[1]);
  // Nothing of what is refused is forwarded.
  assert.equal(forwarded.length > 0, code === 200, request);
  return code;
}
const get = (fields: string, target = '/', method = 'GET'): string => `${method} ${target} HTTP/1.1\r\n${fields}\r\n`;
const host = (name: string): string => get(`Host: ${name}\r\n`);

describe('a host (row 39)', () => {
  for (const name of ['secret.com', 'Secret.Com', 'secret.com.', 'secret.com:80', 'SECRET.COM.:8080', 'secret.com:']) {
    test(`${name} is secret.com to DENY and to ALLOW`, async () => {
      assert.equal(await status('denyHost', host(name)), 403);
      assert.equal(await status('allowNotHost', host(name)), 403);
    });
  }
  for (const name of ['xsecret.com', 'secret.com.evil.com', 'secret.comx', 'secret-com']) {
    test(`${name} is another one (row 40)`, async () => {
      assert.equal(await status('denyHost', host(name)), 200);
      assert.equal(await status('allowNotHost', host(name)), 200);
    });
  }
  test('is forwarded as it came', async () => {
    const { forwarded } = await through('denyHost', host('Other.Com.:8080'));
    assert.ok(forwarded.includes('host: Other.Com.:8080'), forwarded.join('\n'));
  });
  test('that comes twice, not at all, or as what no host is gets 400', async () => {
    for (const fields of [
      'Host: a\r\nHost: secret.com\r\n',
      'Host: a\r\nhost: a\r\n',
      '',
      'Host: user@secret.com\r\n',
      'Host: secret.com/x\r\n',
      'Host: secret.com secret.com\r\n',
    ]) {
      assert.equal(await status('denyHost', get(fields)), 400, JSON.stringify(fields));
    }
  });
  test('in an absolute target replaces the header', async () => {
    assert.equal(await status('denyHost', get('Host: a\r\n', 'http://secret.com/')), 403);
    assert.equal(await status('allowNotHost', get('Host: a\r\n', 'http://SECRET.com:80/')), 403);
  });
  test('among 300 is found like one of three', async () => {
    assert.equal(await status('many', host('H299.example:80')), 403);
    assert.equal(await status('many', host('h300.example')), 200);
    assert.equal(await status('many', host('xh1.example')), 200);
  });
});

describe('a header', () => {
  const role = (...lines: string[]): string => get(`Host: a\r\n${lines.map((line) => `${line}\r\n`).join('')}`);
  test('that comes twice is looked at value by value (row 41)', async () => {
    for (const request of [
      role('x-role: user', 'x-role: admin'),
      role('x-role: admin', 'x-role: user'),
      role('x-role:', 'x-role: admin'),
    ]) {
      assert.equal(await status('denyRole', request), 403);
      assert.equal(await status('allowNotRole', request), 403);
    }
  });
  test('is trimmed, and bytes that are no text do not hide it (row 42)', async () => {
    for (const line of ['x-role: admin \t', 'x-role:\t admin', 'X-ROLE: admin']) {
      assert.equal(await status('denyRole', role(line)), 403, line);
      assert.equal(await status('allowNotRole', role(line)), 403, line);
    }
    assert.equal(await status('allowRole', role('x-role: \u00ff\u00fe')), 200);
    assert.equal(await status('denyRole', get('Host: a\r\nx-role: a\r\n admin\r\n')), 400);
  });
  test('with an underscore is another one (row 43)', async () => {
    const { forwarded } = await through('denyRole', role('x_role: admin'));
    assert.ok(forwarded.includes('x_role: admin'));
    assert.equal(await status('allowRole', role('x_role: admin')), 403);
  });
  test('that only the proxy may set is not taken from a client (row 44)', async () => {
    const { forwarded } = await through(
      'denyRole',
      role(
        'x-forwarded-client-cert: By=x;URI=spiffe://cluster.local/ns/a/sa/admin',
        'x-envoy-retry-on: 5xx',
        'x-envoy-original-url: x',
      ),
    );
    assert.deepEqual(
      forwarded.filter((line) => /^x-(forwarded-client-cert|envoy-(retry|original))/.test(line)),
      [],
    );
  });
  test('x-forwarded-for says who asks to remoteIpBlocks only, and goes on untouched', async () => {
    assert.equal(await status('remote', role('x-forwarded-for: 10.1.2.3')), 200);
    assert.equal(await status('remote', role('x-forwarded-for: 9.9.9.9')), 403);
    assert.equal(await status('remote', role()), 403);
    assert.equal(await status('direct', role('x-forwarded-for: 10.1.2.3')), 403);
    const { forwarded } = await through('remote', role('x-forwarded-for: 10.1.2.3'));
    assert.ok(forwarded.includes('x-forwarded-for: 10.1.2.3'));
  });
  test('is matched in linear time (row 47)', async () => {
    // CPU of all threads: others on the machine do not count.
    const started = process.cpuUsage();
    assert.equal(await status('regex', role(`x-a: ${'a'.repeat(40_000)}b`)), 200);
    assert.equal(await status('regex', role(`x-a: ${'a'.repeat(40_000)}`)), 403);
    const { user, system } = process.cpuUsage(started);
    assert.ok(user + system < 3_000_000, `${user + system} us`);
  });
});

describe('a request', () => {
  test('without a path passes every filter without harm (row 45)', async () => {
    for (const listener of ['denyHost', 'template', 'method', 'denyRole']) {
      const code = await status(listener, get('Host: a:443\r\n', 'a:443', 'CONNECT'));
      assert.ok(code === 400 || code === 403 || code === 404, `${listener}: ${code}`);
    }
    assert.deepEqual(proxy.errors, []);
  });
  test('of a method in another case is not that method', async () => {
    assert.equal(await status('method', get('Host: a\r\n', '/', 'DELETE')), 403);
    const { response } = await through('method', get('Host: a\r\n', '/', 'delete'));
    assert.match(response[0] ?? '', / (400|200) /);
  });
  test('with a star in its path is taken by a template (row 46)', async () => {
    for (const target of ['/v/1/x', '/v/*/x', '/v/a%2ab/x?y', '/v/./1/x']) {
      assert.equal(await status('template', get('Host: a\r\n', target)), 403, target);
    }
    for (const target of ['/v/1/2/x', '/v//x', '/v/1/xx']) {
      assert.equal(await status('template', get('Host: a\r\n', target)), 200, target);
    }
  });
  test('over plaintext is nobody: what excludes somebody lets it in', async () => {
    assert.equal(await status('principal', get('Host: a\r\n')), 200);
  });
});

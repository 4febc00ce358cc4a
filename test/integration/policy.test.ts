/** Policies from YAML in a running proxy: their order, changes under open connections, and what fails closed. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { Configuration } from '../../cli/configuration.ts';
import { readProxyFlags } from '../../cli/proxy_flags.ts';
import { compile } from '../../config/istio/compile.ts';
import type { Json, Resource } from '../../config/resources.ts';
import { authorizerAnswer } from '../support/ext_authz_cases.ts';
import { exchangeThrough } from '../support/http1_exchange.ts';
import { kubeObjects } from '../support/kube_objects.ts';
import { answering, RawClient, RawUpstream } from '../support/raw_peers.ts';
import { LogFile, startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { inSeconds, KEY_SET, token } from '../support/tokens.ts';

const scope = fileScope();
const log = new LogFile(scope);
let upstream: RawUpstream;
let authorizer: RawUpstream;
let proxy: TestProxy;

const security = (kind: string, name: string, spec: string): string =>
  `---\napiVersion: security.istio.io/v1\nkind: ${kind}\nmetadata: { name: ${name} }\nspec: ${spec}\n`;
const policy = (name: string, spec: string): string => security('AuthorizationPolicy', name, spec);
const TOKENS = security('RequestAuthentication', 'jwt', `{ jwtRules: [{ issuer: i, jwks: '${KEY_SET}' }] }`);
const ADMINS = policy('admins', '{ rules: [{ when: [{ key: "request.auth.claims[groups]", values: [admins] }] }] }');

function services(): string {
  const service = (name: string, port: number, target: number) =>
    `---\napiVersion: v1\nkind: Service\nmetadata: { name: ${name} }\nspec: { selector: { app: ${name} }, ports: [{ name: http, port: ${port}, targetPort: ${target} }] }\n` +
    `---\napiVersion: v1\nkind: Pod\nmetadata: { name: ${name}-0, labels: { app: ${name} } }\nspec: { containers: [] }\nstatus: { podIP: 127.0.0.1 }\n`;
  return service('w', 80, 8080) + service('authz', 8000, authorizer.port);
}

/** The inbound side of workload `w` under these policies. */
function inbound(yaml: string, mesh: Json = {}): Resource[] {
  const { resources } = compile({
    objects: kubeObjects(services() + yaml),
    mesh: { accessLogFile: log.path, accessLogFormat: '%RESPONSE_CODE% %RESPONSE_CODE_DETAILS%\n', ...mesh },
    proxy: { name: 'w-0', namespace: 'default', labels: { app: 'w' }, serviceAccount: 'w', ips: ['127.0.0.1'] },
    domain: 'cluster.local',
    mode: {
      kind: 'explicit',
      outbound: undefined,
      inbound: [{ ip: '127.0.0.1', port: 0, workloadPort: 8080, app: { ip: '127.0.0.1', port: upstream.port } }],
      accessLog: undefined,
    },
  });
  return [...resources];
}

const PROVIDER: Json = {
  extensionProviders: [
    {
      name: 'ext',
      envoyExtAuthzHttp: { service: 'authz.default.svc.cluster.local', port: 8000, pathPrefix: '/check' },
    },
  ],
};
const get = (path: string, fields = ''): string => `GET ${path} HTTP/1.1\r\nhost: w\r\n${fields}\r\n`;
const bearer = (claims: object): string =>
  `authorization: Bearer ${token({ iss: 'i', sub: 's', exp: inSeconds(600), ...claims })}\r\n`;

before(async () => {
  upstream = await RawUpstream.start(scope, answering());
  authorizer = await RawUpstream.start(scope, (received, socket) => {
    const answer = authorizerAnswer(received);
    if (answer !== undefined) socket.end(answer.replace('\r\n', '\r\nconnection: close\r\n'));
  });
  proxy = await startTestProxy(scope, inbound(''));
});

async function status(request: string): Promise<number> {
  const { response } = await exchangeThrough(scope, proxy.port('inbound_8080'), upstream, request);
  return Number(/^HTTP\/1.1 (\d+)/.exec(response[0] ?? '')?.[1]);
}

async function apply(yaml: string, mesh?: Json): Promise<void> {
  assert.deepEqual(proxy.set(inbound(yaml, mesh)).rejected, []);
  await proxy.settled();
}

test('a changed policy holds for the next request on an old connection', async (t) => {
  const client = new RawClient(t, proxy.port('inbound_8080'));
  client.send(get('/a'));
  await client.until((text) => text.endsWith('ok'));
  const forwarded = upstream.all.length;
  await apply(policy('deny', '{ action: DENY, rules: [{}] }'));
  client.send(get('/a'));
  const answer = await client.until((text) => text.includes('RBAC: access denied'));
  assert.match(answer, /HTTP\/1\.1 403 /);
  assert.equal(upstream.all.length, forwarded);
  await apply('');
  client.send(get('/b'));
  await client.until((text) => text.split('HTTP/1.1 200').length === 3);
  assert.equal(client.closed, false);
});

test('tokens come before rules about what they claim', async () => {
  await apply(TOKENS + ADMINS);
  assert.equal(await status(get('/a')), 403);
  assert.equal(await status(get('/a', bearer({ groups: ['users'] }))), 403);
  assert.equal(await status(get('/a', bearer({ groups: ['users', 'admins'] }))), 200);
  assert.equal(await status(get('/a', bearer({ groups: 'admins' }))), 200);
  assert.equal(await status(get('/a', 'authorization: Bearer x.y.z\r\n')), 401);
});

test('CUSTOM comes before tokens, DENY after them, ALLOW last', async () => {
  const ask = policy(
    'ask',
    '{ action: CUSTOM, provider: { name: ext }, rules: [{ to: [{ operation: { paths: ["/deny", "/ask"] } }] }] }',
  );
  const deny = policy('deny', '{ action: DENY, rules: [{ to: [{ operation: { paths: ["/never"] } }] }] }');
  await apply(TOKENS + ADMINS + ask + deny, PROVIDER);
  const admin = bearer({ groups: 'admins' });
  await proxy.counted();
  const logged = proxy.value('http.inbound_0.0.0.0_8080.downstream_rq_completed');
  assert.ok(logged > 0);
  // The lines of the requests before may still be on their way.
  await log.lines(logged);
  // A denial of the authorizer, though the token is bad too; a good answer of it does not replace a token.
  assert.equal(await status(get('/deny', 'authorization: Bearer x.y.z\r\n')), 403);
  assert.equal(await status(get('/ask', 'authorization: Bearer x.y.z\r\n')), 401);
  assert.equal(await status(get('/ask')), 403);
  assert.equal(await status(get('/ask', admin)), 200);
  assert.equal(await status(get('/never', admin)), 403);
  assert.equal(await status(get('/other', admin)), 200);
  const details = (await log.lines(logged + 6)).slice(logged).map((line) => line.split(' ')[1]);
  assert.deepEqual(details, [
    'ext_authz_denied',
    'jwt_authn_access_denied{Jwt_header_is_an_invalid_Base64url_encoded}',
    'rbac_access_denied_matched_policy[none]',
    'via_upstream',
    'rbac_access_denied_matched_policy[ns[default]-policy[deny]-rule[0]]',
    'via_upstream',
  ]);
});

test('an unknown provider denies what should have been asked, and the log names the policy', async () => {
  await apply(
    policy(
      'ask',
      '{ action: CUSTOM, provider: { name: nobody }, rules: [{ to: [{ operation: { paths: ["/ask"] } }] }] }',
    ),
  );
  const logged = (await log.lines(0)).length;
  assert.equal(await status(get('/ask')), 403);
  assert.equal(await status(get('/other')), 200);
  assert.ok(
    (await log.lines(logged + 2)).some((line) =>
      line.includes('istio-ext-authz-nobody-ns[default]-policy[ask]-rule[0]-deny-due-to-bad-CUSTOM-action'),
    ),
  );
});

test('a policy that this version cannot keep is refused, and the last good one serves on', async () => {
  await apply(policy('deny', '{ action: DENY, rules: [{ to: [{ operation: { paths: ["/a"] } }] }] }'));
  const bad = inbound(policy('deny', '{ action: DENY, rules: [{ to: [{ operation: { paths: ["/a"] } }] }] }')).map(
    (item) =>
      item.type === 'listener'
        ? {
            ...item,
            version: 'bad',
            json: JSON.parse(JSON.stringify(item.json).replace('"url_path"', '"new_matcher"')) as Json,
          }
        : item,
  );
  const [rejected] = proxy.set(bad).rejected;
  assert.match(rejected?.reason ?? '', /policies\["ns\[default\]-policy\[deny\]-rule\[0\]"\].*new_matcher/);
  assert.equal(await status(get('/a')), 403);
  assert.equal(await status(get('/b')), 200);
});

test('keys by URL are in the first configuration; without them every token is refused, and the rule is named', async () => {
  const keys = createServer((_, response) => response.end(KEY_SET)).listen(0, '127.0.0.1');
  await once(keys, 'listening');
  scope.after(() => keys.close());
  const folder = mkdtempSync(join(tmpdir(), 'pillion-policy-'));
  scope.after(() => rmSync(folder, { recursive: true, force: true }));
  const { port } = keys.address() as AddressInfo;
  const file = join(folder, 'mesh.yaml');
  const configured = async (values: Record<string, string | boolean | string[]>) => {
    const rule = `{ jwtRules: [{ issuer: i, jwksUri: "http://127.0.0.1:${port}/keys" }] }`;
    writeFileSync(file, services() + security('RequestAuthentication', 'jwt', rule));
    const flags = readProxyFlags(
      { inbound: ['127.0.0.1:0=8080'], workload: 'w-0.default', outbound: '127.0.0.1:0', ...values },
      [file],
      {},
    );
    const configuration = new Configuration(flags, { dev: false, watch: true });
    const resources = await configuration.source.prepare();
    return { configuration, listener: JSON.stringify(resources.find(({ name }) => name === 'inbound_8080')?.json) };
  };
  const allowed = await configured({ allowLocalJwks: true });
  assert.ok(allowed.listener.includes(JSON.stringify(JSON.stringify(JSON.parse(KEY_SET))).slice(1, 60)));
  const refused = await configured({});
  assert.ok(refused.listener.includes('{\\"keys\\":[]}'));
  const warning = refused.configuration.warnings.find((text) => text.includes('issuer "i"')) ?? '';
  assert.match(
    warning,
    /mesh\.yaml:\d+:\d+: the keys of issuer "i" are not known: .*--allow-local-jwks; its tokens are refused/,
  );
});

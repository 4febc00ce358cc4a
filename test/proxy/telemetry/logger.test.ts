/** Pillion's own log: forms, levels, what it never says. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ConfigError } from '../../../proxy/config_error.ts';
import { Fields } from '../../../proxy/resource_fields.ts';
import { LOG_COMPONENTS, mostTalkative } from '../../../proxy/telemetry/log.ts';
import { LeveledLogger } from '../../../proxy/telemetry/logger.ts';
import { redactJson, redactText } from '../../../proxy/telemetry/redaction.ts';
import { PillionProcess, pillion } from '../../support/pillion_process.ts';
import { fileScope } from '../../support/scope.ts';
import { ask } from '../../support/admin_client.ts';
import { MeshCa } from '../../support/mesh_ca.ts';

const scope = fileScope();

function logger(text: boolean): { log: LeveledLogger; lines: string[] } {
  const lines: string[] = [];
  return { lines, log: new LeveledLogger('info', { text, write: (line) => lines.push(line) }) };
}

test('text for people has control characters escaped; JSON is one object a line', () => {
  const people = logger(true);
  people.log.log('warning', 'http', 'a\nb\x1b[31mc', { peer: '10.0.0.1' });
  assert.match(people.lines[0] ?? '', /^\S+Z warning http a\\x0ab\\x1b\[31mc \{"peer":"10\.0\.0\.1"\}\n$/);
  const machine = logger(false);
  machine.log.log('warning', 'http', 'a\nb');
  const parsed = JSON.parse(machine.lines[0] ?? '') as Record<string, unknown>;
  assert.deepEqual({ ...parsed, time: undefined }, { time: undefined, level: 'warning', scope: 'http', msg: 'a\nb' });
});

test('a component has a level of its own; all can be set at once; threads filter by the most talkative', () => {
  const { log, lines } = logger(true);
  log.log('debug', 'rbac', 'no');
  log.setLevel('debug', 'rbac');
  log.log('debug', 'rbac', 'yes');
  log.log('debug', 'http', 'no');
  assert.equal(mostTalkative(log), 'debug');
  log.setLevel('error');
  log.log('debug', 'rbac', 'no');
  log.log('warning', 'http', 'no');
  assert.equal(lines.length, 1);
  assert.equal(mostTalkative(log), 'error');
});

test('components that code logs under can be set', async () => {
  const { globSync, readFileSync } = await import('node:fs');
  for (const file of globSync('{proxy,cli,config,filters}/**/*.ts')) {
    for (const [, component] of readFileSync(file, 'utf8').matchAll(
      /\.log\(\s*'(?:trace|debug|info|warning|error|critical)',\s*'(\w+)'/g,
    )) {
      assert.ok(LOG_COMPONENTS.includes(component as string), `${file} logs under "${component}"`);
    }
  }
});

const KEY = new MeshCa().issue('spiffe://a/ns/b/sa/c').key;
const JWT = 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ0ZXN0In0.c2lnbmF0dXJlLXZhbHVl';

for (const [secret, hidden] of [
  [`cannot use ${KEY} here`, 'PRIVATE KEY'],
  [`cannot use ${KEY.slice(0, 60)}`, 'PRIVATE KEY'],
  ['GET http://user:hunter2@proxy.example/ failed', 'hunter2'],
  ['sent Authorization: Bearer abc.def.ghi to x', 'abc.def'],
  ['sent {"authorization":"Basic dXNlcjpwdw=="}', 'dXNlcjpwdw'],
  ['Cookie: session=1234567', '1234567'],
  [`token ${JWT} is invalid`, 'eyJzdWIi'],
] as const) {
  test(`the log does not say ${hidden}`, () => {
    const { log, lines } = logger(true);
    log.log('error', 'main', secret, { detail: secret });
    assert.ok(lines[0] !== undefined && !lines[0].includes(hidden));
    assert.match(lines[0] ?? '', /redacted/);
  });
}

test('what holds no secret is the same object, and the same text', () => {
  const json = { a: [{ b: 'c' }], url: 'http://host/path@x' };
  assert.equal(redactJson(json), json);
  assert.equal(redactText('the basic idea'), 'the basic idea');
});

test('dumps hide keys, passwords, secrets and header values that are credentials, and keep where they lie', () => {
  const redacted = redactJson({
    tls_certificates: [{ private_key: { filename: '/etc/key.pem' }, password: { inline_string: 'pw' } }],
    generic_secret: { secret: { inline_bytes: 'c2VjcmV0' } },
    session_ticket_keys: { keys: [{ inline_string: 'ticket' }] },
    request_headers_to_add: [
      { header: { key: 'Authorization', value: 'Bearer x' } },
      { header: { key: 'x-a', value: 'b' } },
    ],
  });
  assert.deepEqual(redacted, {
    tls_certificates: [{ private_key: { filename: '/etc/key.pem' }, password: { inline_string: '[redacted]' } }],
    generic_secret: { secret: { inline_bytes: 'W3JlZGFjdGVkXQ==' } },
    session_ticket_keys: { keys: [{ inline_string: '[redacted]' }] },
    request_headers_to_add: [
      { header: { key: 'Authorization', value: '[redacted]' } },
      { header: { key: 'x-a', value: 'b' } },
    ],
  });
});

test('errors of configuration do not quote a key', () => {
  const fields = new Fields({ timeout: KEY }, 'cluster');
  assert.throws(
    () => fields.number('timeout'),
    (error: ConfigError) => !error.message.includes('PRIVATE KEY') && error.path === 'cluster.timeout',
  );
});

test('--component-log-level, and POST /logging while it runs', async () => {
  const proxy = new PillionProcess(
    scope,
    [
      'run',
      '-c',
      'examples/shop',
      '--admin',
      '127.0.0.1:0',
      '--status',
      '127.0.0.1:0',
      '--metrics',
      '127.0.0.1:0',
      '--outbound',
      '127.0.0.1:0',
      '--component-log-level',
      'rbac:trace,http:error',
      '-l',
      'info',
    ],
    { program: pillion },
  );
  const [, port] = await proxy.until(/admin listens on \S*:(\d+)/);
  const levels = async (query = ''): Promise<Record<string, string>> => {
    const { body } = await ask(Number(port), `/logging${query}`, { method: 'POST' });
    return Object.fromEntries([...body.matchAll(/^ {2}(\w+): (\w+)$/gm)].map(([, name, level]) => [name, level]));
  };
  const start = await levels();
  assert.deepEqual([start['rbac'], start['http'], start['router']], ['trace', 'error', 'info']);
  const changed = await levels('?paths=rbac:warning,router:debug');
  assert.deepEqual([changed['rbac'], changed['http'], changed['router']], ['warning', 'error', 'debug']);
  const all = await levels('?level=off');
  assert.deepEqual([...new Set(Object.values(all))], ['off']);
  proxy.child.kill('SIGTERM');
  assert.equal((await proxy.ended).code, 0);
  // Not a terminal: JSON, line by line.
  for (const line of proxy.stderr.split('\n').filter(Boolean)) JSON.parse(line);
});

/** Who may ask the admin interface for what, and its access log: the bootstrap's `admin`. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ask } from '../../support/admin_client.ts';
import { PillionProcess } from '../../support/pillion_process.ts';
import { startTestProxy } from '../../support/running_proxy.ts';
import type { Scope } from '../../support/scope.ts';

function folderFor(t: Scope): string {
  const folder = mkdtempSync(join(tmpdir(), 'pillion-admin-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test('paths that are not allowed are refused, with whatever query', async (t) => {
  const allow_paths = [{ exact: '/ready' }, { prefix: '/stats' }];
  const proxy = await startTestProxy(t, [], { bootstrap: { admin: { allow_paths } } });
  const port = proxy.port('admin');
  assert.equal((await ask(port, '/ready')).status, 200);
  assert.equal((await ask(port, '/stats?usedonly')).status, 200);
  const refused = await ask(port, '/config_dump?include_eds');
  assert.equal(refused.status, 403);
  assert.equal(refused.body, 'request to path /config_dump?include_eds not allowed');
  assert.equal((await ask(port, '/quitquitquit', { method: 'POST' })).status, 403);
  assert.equal((await ask(port, '/')).status, 403);
});

test('requests are logged in the format that is configured, what was refused too', async (t) => {
  const path = join(folderFor(t), 'admin.log');
  const access_log = [
    {
      name: 'file',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog',
        path,
        log_format: {
          text_format_source: {
            inline_string: '%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %BYTES_SENT% %REQ(USER-AGENT)%\n',
          },
        },
      },
    },
  ];
  const proxy = await startTestProxy(t, [], { bootstrap: { admin: { access_log } } });
  const port = proxy.port('admin');
  const { body } = await ask(port, '/ready', { headers: { 'user-agent': 'me' } });
  await ask(port, '/nothing');
  await ask(port, '/ready', { headers: { host: 'evil.example' } });
  await proxy.stop();
  const lines = readFileSync(path, 'utf8').trim().split('\n');
  assert.equal(lines[0], `GET /ready HTTP/1.1 200 ${body.length} me`);
  assert.match(lines[1] ?? '', /^GET \/nothing HTTP\/1\.1 404 \d+ -$/);
  assert.match(lines[2] ?? '', /^GET \/ready HTTP\/1\.1 403 \d+ -$/);
});

test('access_log_path, Envoy’s old field, and a unix socket in place of a port', async (t) => {
  const folder = folderFor(t);
  const path = join(folder, 'admin.sock');
  const log = join(folder, 'admin.log');
  const bootstrap = join(folder, 'envoy.json');
  writeFileSync(
    bootstrap,
    JSON.stringify({ static_resources: {}, admin: { address: { pipe: { path } }, access_log_path: log } }),
  );
  const proxy = new PillionProcess(t, ['run', '-c', bootstrap, '-l', 'info']);
  await proxy.until(/admin listens/);
  const status = await new Promise((resolve, reject) => {
    request({ socketPath: path, path: '/ready', headers: { host: 'localhost' } }, (response) => {
      response.resume();
      resolve(response.statusCode);
    })
      .once('error', reject)
      .end();
  });
  assert.equal(status, 200);
  proxy.child.kill('SIGTERM');
  await proxy.ended;
  assert.match(readFileSync(log, 'utf8'), /"GET \/ready HTTP\/1\.1" 200/);
  assert.ok(!existsSync(path), 'the socket is gone with the process');
});

/** A drain flag in the bootstrap's flags_path. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { httpListener, routeConfig } from '../support/envoy_resources.ts';
import { startTestProxy } from '../support/running_proxy.ts';

test('it starts with its health check failed when flags_path holds a drain file', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pillion-flags-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'drain'), '');
  const routes = routeConfig([{ match: { prefix: '/' }, direct_response: { status: 200 } }]);
  const proxy = await startTestProxy(t, [httpListener({ routes })], { bootstrap: { flags_path: folder } });
  const admin = `http://127.0.0.1:${proxy.port('admin')}`;
  assert.equal((await fetch(`${admin}/ready`)).status, 503);
  assert.equal((await fetch(`http://127.0.0.1:${proxy.port()}/`)).status, 200, 'it serves all the same');
  assert.equal((await fetch(`${admin}/healthcheck/ok`, { method: 'POST' })).status, 200);
  assert.equal((await fetch(`${admin}/ready`)).status, 200);
});

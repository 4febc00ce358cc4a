/** Shares that a runtime layer of the bootstrap, or an operator, changes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MAX_FORM_BYTES } from '../../proxy/admin/request_target.ts';
import { httpListener, routeConfig } from '../support/envoy_resources.ts';
import { startTestProxy } from '../support/running_proxy.ts';

const answer = (status: number) => ({ direct_response: { status } });

test('a route’s share is what the layers say, until an operator says otherwise', async (t) => {
  const half = { default_value: { numerator: 0 }, runtime_key: 'routing.new' };
  const routes = routeConfig([
    { match: { prefix: '/', runtime_fraction: half }, ...answer(201) },
    { match: { prefix: '/' }, ...answer(200) },
  ]);
  const layers = [
    { name: 'static', static_layer: { routing: { new: 100 } } },
    { name: 'admin', admin_layer: {} },
  ];
  const proxy = await startTestProxy(t, [httpListener({ routes })], { bootstrap: { layered_runtime: { layers } } });
  const status = async (): Promise<number> => (await fetch(`http://127.0.0.1:${proxy.port()}/`)).status;
  assert.equal(await status(), 201);
  const admin = `http://127.0.0.1:${proxy.port('admin')}`;
  assert.equal((await fetch(`${admin}/runtime_modify?routing.new=0`, { method: 'POST' })).status, 200);
  await proxy.counted();
  assert.equal(await status(), 200);

  const form = async (body: string, type = 'application/x-www-form-urlencoded; charset=utf-8') =>
    (await fetch(`${admin}/runtime_modify`, { method: 'POST', body, headers: { 'content-type': type } })).status;
  assert.equal(await form('routing.new=100'), 200);
  await proxy.counted();
  assert.equal(await status(), 201);
  assert.equal(await form('routing.new=0', 'text/plain'), 400);
  assert.equal(await form(`routing.new=0&a=${'x'.repeat(MAX_FORM_BYTES)}`), 400);
  await proxy.counted();
  assert.equal(await status(), 201);
});

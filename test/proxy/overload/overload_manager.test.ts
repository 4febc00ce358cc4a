/** What the overload manager makes of monitors that cannot be read: what held before goes on, and it is counted. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseOverload } from '../../../proxy/overload/overload_config.ts';
import { OverloadManager } from '../../../proxy/overload/overload_manager.ts';
import { createOverloadMemory, ThreadOverload } from '../../../proxy/overload/overload_state.ts';
import type { Breaker } from '../../../proxy/upstream/circuit_breakers.ts';
import { CountingStatistics } from '../../support/http2_wire.ts';

const INJECTED = 'type.googleapis.com/envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig';

test('an action stays as it was while its monitor cannot be read', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pillion-overload-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const filename = join(folder, 'pressure');
  const overload = createOverloadMemory();
  const thread = new ThreadOverload(overload, 0, {} as Breaker, Math.random, () => ({ inc() {}, add() {} }));
  const statistics = new CountingStatistics();
  const manager = new OverloadManager(
    parseOverload(
      {
        resource_monitors: [{ name: 'pressure', typed_config: { '@type': INJECTED, filename } }],
        actions: [
          {
            name: 'envoy.overload_actions.stop_accepting_requests',
            triggers: [{ name: 'pressure', threshold: { value: 0.9 } }],
          },
        ],
      },
      undefined,
    ),
    { overload, broadcast() {} },
    statistics,
    { log() {}, enabled: () => false },
  );
  t.after(() => manager.stop());
  const isUp = (text: string | undefined): boolean => {
    if (text === undefined) rmSync(filename, { force: true });
    else writeFileSync(filename, text);
    manager.look();
    return thread.shedsRequest();
  };
  assert.equal(isUp(undefined), false, 'nothing was ever said');
  assert.equal(isUp('0.95'), true);
  for (const unreadable of [undefined, '', 'much', '\n']) assert.equal(isUp(unreadable), true, String(unreadable));
  assert.equal(isUp('0.5\n'), false);
  assert.equal(isUp(''), false);
  assert.equal(statistics.get('overload.pressure.failed_updates'), 6);
});

/** Who stays away from its event loop is counted, once each time. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { ConfigError } from '../../proxy/config_error.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import { Aggregate } from '../../proxy/telemetry/aggregate.ts';
import { BEAT_MS, createHeartbeat, type Heartbeat, parseWatchdogs, Watchdog } from '../../proxy/watchdog.ts';
import { startTestProxy } from '../support/running_proxy.ts';

const DEFAULTS = parseWatchdogs(new Fields({}));

function watching(t: { after(end: () => void): void }, heartbeats: (Heartbeat | undefined)[]) {
  const aggregate = new Aggregate();
  const dog = new Watchdog(DEFAULTS, aggregate.own, heartbeats.length, () => heartbeats);
  t.after(() => dog.stop());
  let nowMs = Math.ceil(performance.now());
  return {
    /** `thread` beats or not while the time goes by, in steps of the control thread. */
    pass(ms: number, beating: readonly number[], stepMs = BEAT_MS): void {
      for (let left = ms; left > 0; left -= stepMs) {
        for (const thread of beating) {
          const heartbeat = heartbeats[thread];
          if (heartbeat !== undefined) Atomics.add(new Int32Array(heartbeat), 0, 1);
        }
        nowMs += stepMs;
        dog.look(nowMs);
      }
    },
    count: (name: string) => aggregate.value(name),
  };
}

test('a thread that stays away is counted once for its first 200 ms and once for its first second', (t) => {
  const heartbeats = [createHeartbeat(), createHeartbeat()];
  const { pass, count } = watching(t, heartbeats);
  pass(300, [0, 1]);
  pass(200, [0]);
  assert.equal(count('server.worker_1.watchdog_miss'), 0);
  pass(100, [0]);
  assert.equal(count('server.worker_1.watchdog_miss'), 1);
  pass(5000, [0]);
  assert.equal(count('server.worker_1.watchdog_miss'), 1);
  assert.equal(count('server.worker_1.watchdog_mega_miss'), 1);
  pass(300, [0, 1]);
  pass(400, [0]);
  assert.equal(count('server.worker_1.watchdog_miss'), 2);
  assert.equal(count('workers.watchdog_miss'), 2);
  assert.equal(count('workers.watchdog_mega_miss'), 1);
  assert.equal(count('server.worker_0.watchdog_miss'), 0);
  assert.equal(count('server.main_thread.watchdog_miss'), 0);
});

test('the control thread counts its own absence, and puts it on nobody else', (t) => {
  const { pass, count } = watching(t, [createHeartbeat()]);
  pass(300, [0]);
  pass(1500, [], 1500);
  assert.equal(count('server.main_thread.watchdog_miss'), 1);
  assert.equal(count('main_thread.watchdog_mega_miss'), 1);
  assert.equal(count('workers.watchdog_miss'), 0);
});

test('a thread that is dead or still starting is not waited for', (t) => {
  const heartbeats: (Heartbeat | undefined)[] = [createHeartbeat()];
  const { pass, count } = watching(t, heartbeats);
  pass(2000, []);
  pass(200, [0]);
  heartbeats[0] = undefined;
  pass(2000, []);
  heartbeats[0] = createHeartbeat();
  pass(2000, []);
  assert.equal(count('workers.watchdog_miss'), 0);
});

test('a real thread that blocks is noticed while it does', async (t) => {
  const heartbeat = createHeartbeat();
  const watchdog = new URL('../../proxy/watchdog.ts', import.meta.url).href;
  const worker = new Worker(
    `const { workerData, parentPort } = require('node:worker_threads');
     import(${JSON.stringify(watchdog)}).then(({ startBeating }) => {
       startBeating(workerData.heartbeat);
       setInterval(() => {}, 1000);
       parentPort.on('message', () => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 90_000));
       parentPort.postMessage('beating');
     });`,
    { eval: true, workerData: { heartbeat } },
  );
  t.after(() => void worker.terminate());
  await once(worker, 'message');
  const aggregate = new Aggregate();
  const dog = new Watchdog(DEFAULTS, aggregate.own, 1, () => [heartbeat]);
  t.after(() => dog.stop());
  const beats = new Int32Array(heartbeat);
  const wait = async (ready: () => boolean): Promise<void> => {
    for (const untilMs = performance.now() + 30_000; !ready() && performance.now() < untilMs; )
      await new Promise((resolve) => setTimeout(resolve, 10));
    assert.ok(ready());
  };
  await wait(() => Atomics.load(beats, 0) > 2);
  worker.postMessage('block');
  await wait(() => aggregate.value('server.worker_0.watchdog_mega_miss') === 1);
  assert.equal(aggregate.value('workers.watchdog_mega_miss'), 1);
});

test('threads of a proxy beat, and their statistics have their names from the start', async (t) => {
  const proxy = await startTestProxy(t, [], { concurrency: 2 });
  const names = new Set([...proxy.running.statistics.values()].map(({ name }) => name));
  for (const place of ['main_thread', 'workers', 'server.main_thread', 'server.worker_0', 'server.worker_1']) {
    for (const kind of ['miss', 'mega_miss']) assert.ok(names.has(`${place}.watchdog_${kind}`), `${place} ${kind}`);
  }
});

test('times come from the bootstrap; killing is refused', () => {
  const parsed = parseWatchdogs(
    new Fields({
      watchdogs: { worker_watchdog: { miss_timeout: '0.5s', megamiss_timeout: '3s' }, main_thread_watchdog: {} },
    }),
  );
  assert.deepEqual(parsed, { main: DEFAULTS.main, workers: { missMs: 500, megaMissMs: 3000 } });
  const both = parseWatchdogs(new Fields({ watchdog: { miss_timeout: '1s' } }));
  assert.equal(both.main.missMs, 1000);
  assert.throws(() => parseWatchdogs(new Fields({ watchdog: { kill_timeout: '1s' } })), ConfigError);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Dependency, ResourceType } from '../../config/resources.ts';
import { ConfigurationState } from '../../proxy/configuration_state.ts';

/** Records what is asked of it; takes subscriptions when told to. */
class World {
  readonly events: string[] = [];
  readonly timers = new Map<string, () => void>();
  takes = true;
  readonly state = new ConfigurationState({
    serve: ({ type, name, version }, before) =>
      this.events.push(`serve ${type} ${name} ${version}${before === undefined ? '' : ` after ${before.version}`}`),
    drop: ({ type, name }) => this.events.push(`drop ${type} ${name}`),
    subscribe: ({ type, name }) => {
      this.events.push(`subscribe ${type} ${name}`);
      return this.takes;
    },
    unsubscribe: ({ type, name }) => this.events.push(`unsubscribe ${type} ${name}`),
    setTimer: (delayMs, callback) => {
      const key = `${delayMs} ${this.timers.size}`;
      this.timers.set(key, callback);
      return () => this.timers.delete(key);
    },
    onFetchTimeout: ({ name }) => this.events.push(`timeout ${name}`),
    nowMs: () => 0,
  });

  give(type: ResourceType, name: string, version: string, needs: readonly Dependency[] = []): string[] {
    const json = { name };
    this.state.accept(0, { resource: { type, name, version, json, origin: 'test' }, dependencies: needs });
    return this.events.splice(0);
  }

  remove(type: ResourceType, name: string): string[] {
    this.state.remove({ type, name });
    return this.events.splice(0);
  }
}

const needs = (type: Dependency['type'], name: string, initialFetchTimeoutMs = 0): Dependency => ({
  type,
  name,
  configSource: { ads: {} },
  initialFetchTimeoutMs,
});

test('a cluster is served when its endpoints are there', () => {
  const world = new World();
  assert.deepEqual(world.give('cluster', 'c', '1', [needs('endpoint', 'e')]), ['subscribe endpoint e']);
  assert.equal(world.state.warmingCount, 1);
  assert.deepEqual(world.give('endpoint', 'e', '1'), ['serve endpoint e 1', 'serve cluster c 1']);
  assert.equal(world.state.warmingCount, 0);
});

test('a resource is served at once when nobody gives what it names', () => {
  const world = new World();
  world.takes = false;
  assert.deepEqual(world.give('cluster', 'c', '1', [needs('endpoint', 'e')]), [
    'subscribe endpoint e',
    'serve cluster c 1',
  ]);
});

test('the version before goes on while a new one warms', () => {
  const world = new World();
  world.give('listener', 'l', '1');
  assert.deepEqual(world.give('listener', 'l', '2', [needs('route', 'r')]), ['subscribe route r']);
  assert.equal(world.state.get({ type: 'listener', name: 'l' })?.version, '1');
  assert.deepEqual(world.give('route', 'r', '1'), ['serve route r 1', 'serve listener l 2 after 1']);
});

test('a version that warms is replaced by a newer one that names the same', () => {
  const world = new World();
  world.give('listener', 'l', '1', [needs('route', 'r')]);
  assert.deepEqual(world.give('listener', 'l', '2', [needs('route', 'r')]), []);
  assert.equal(world.state.warmingCount, 1);
  assert.deepEqual(world.give('route', 'r', '1'), ['serve route r 1', 'serve listener l 2']);
});

test('what a replaced version named is let go when the new one is served', () => {
  const world = new World();
  world.give('listener', 'l', '1', [needs('route', 'a')]);
  world.give('route', 'a', '1');
  assert.deepEqual(world.give('listener', 'l', '2', [needs('route', 'b')]), ['subscribe route b']);
  assert.deepEqual(world.give('route', 'b', '1'), [
    'serve route b 1',
    'serve listener l 2 after 1',
    'unsubscribe route a',
    'drop route a',
  ]);
});

test('two clusters with the same endpoints share one subscription', () => {
  const world = new World();
  world.give('cluster', 'c', '1', [needs('endpoint', 'e')]);
  assert.deepEqual(world.give('cluster', 'd', '1', [needs('endpoint', 'e')]), []);
  world.give('endpoint', 'e', '1');
  assert.deepEqual(world.remove('cluster', 'c'), ['drop cluster c']);
  assert.deepEqual(world.remove('cluster', 'd'), ['drop cluster d', 'unsubscribe endpoint e', 'drop endpoint e']);
});

test('a cluster is served without endpoints when their time is over', () => {
  const world = new World();
  world.give('cluster', 'c', '1', [needs('endpoint', 'e', 500)]);
  const [expire] = world.timers.values();
  expire?.();
  assert.deepEqual(world.events.splice(0), ['timeout e', 'serve cluster c 1']);
  // A later version does not wait for what is known to be missing.
  assert.deepEqual(world.give('cluster', 'c', '2', [needs('endpoint', 'e', 500)]), ['serve cluster c 2 after 1']);
});

test('a dependency that its source removes is no longer waited for, and goes on being served when it was', () => {
  const world = new World();
  world.give('cluster', 'c', '1', [needs('endpoint', 'e')]);
  assert.deepEqual(world.remove('endpoint', 'e'), ['serve cluster c 1']);
  world.give('endpoint', 'e', '1');
  assert.deepEqual(world.remove('endpoint', 'e'), []);
  assert.equal(world.state.get({ type: 'endpoint', name: 'e' })?.version, '1');
});

test('a warming resource that is removed lets go of what it waited for', () => {
  const world = new World();
  world.give('listener', 'l', '1', [needs('route', 'r'), needs('secret', 's')]);
  assert.deepEqual(world.remove('listener', 'l'), ['unsubscribe route r', 'unsubscribe secret s']);
  assert.equal(world.state.warmingCount, 0);
});

test('a refused version is remembered until a good one comes', () => {
  const world = new World();
  world.give('route', 'r', '1');
  world.state.refuse({ type: 'route', name: 'r', version: '2', details: 'bad', failedMs: 0, json: undefined });
  assert.deepEqual(
    [...world.state.failed()].map(({ version }) => version),
    ['2'],
  );
  world.give('route', 'r', '3');
  assert.deepEqual([...world.state.failed()], []);
});

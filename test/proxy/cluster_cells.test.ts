/** The clusters of a data thread: what changes is taken over when it is asked for, and otherwise a little at a time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildCluster } from '../../config/build/cluster.ts';
import { buildLoadAssignment } from '../../config/build/endpoints.ts';
import type { Json } from '../../config/resources.ts';
import { ClusterCells } from '../../proxy/cluster_cells.ts';
import { PackedResource } from '../../proxy/distribution.ts';
import type { ClusterConfig } from '../../proxy/upstream/cluster_config.ts';
import type { ClusterRuntime } from '../../proxy/upstream/cluster_runtime.ts';
import { assignment, edsCluster } from '../support/xds_resources.ts';

function packed(name: string, version: string, json: Json): PackedResource {
  const bytes = Buffer.from(JSON.stringify(json));
  const memory = new SharedArrayBuffer(bytes.length);
  bytes.copy(Buffer.from(memory));
  return new PackedResource(memory, { type: 'cluster', name, version, origin: '', offset: 0, length: bytes.length });
}

/** Remembers what it was told, in order. */
function cells(): { cells: ClusterCells; told: string[] } {
  const told: string[] = [];
  const runtime = (config: ClusterConfig): ClusterRuntime => {
    const name = `${config.name}@${config.connectTimeoutMs}`;
    told.push(`build ${name}`);
    const updateEndpoints = ({ endpoints }: { endpoints: readonly { port: number }[] }): void =>
      void told.push(`${name} ${endpoints.map(({ port }) => port).join()}`);
    const close = (): void => void told.push(`close ${name}`);
    return { name: config.name, config, updateEndpoints, close } as unknown as ClusterRuntime;
  };
  const inflated = (): void => {};
  return {
    cells: new ClusterCells({ config: buildCluster, runtime, assignment: buildLoadAssignment, inflated }),
    told,
  };
}

const eds = (name: string, seconds: number): PackedResource =>
  packed(name, String(seconds), edsCluster(name, { connect_timeout: `${seconds}s` }));

test('a cluster is built when it is asked for, of the newest that came until then', async () => {
  const { cells: subject, told } = cells();
  subject.set(eds('a', 1));
  subject.setEndpoints(packed('a', '1', assignment('a', 1)));
  subject.setEndpoints(packed('a', '2', assignment('a', 2)));
  subject.set(eds('a', 2));
  await subject.refresh();
  assert.deepEqual(told, [], 'nobody has asked');
  subject.get('a');
  subject.get('a');
  assert.deepEqual(told, ['build a@2000', 'a@2000 2']);
  assert.equal(subject.get('b'), undefined);
});

test('what changes of a built cluster is there at the next request, once however often it changed', async () => {
  const { cells: subject, told } = cells();
  subject.set(eds('a', 1));
  subject.get('a');
  told.length = 0;
  for (const port of [3, 4, 5]) subject.setEndpoints(packed('a', String(port), assignment('a', port)));
  assert.deepEqual(told, [], 'not in the task of the update');
  subject.get('a');
  assert.deepEqual(told, ['a@1000 5']);
  await subject.refresh();
  assert.deepEqual(told, ['a@1000 5'], 'nothing is stale any more');
  told.length = 0;
  subject.set(eds('a', 2));
  subject.get('a');
  assert.deepEqual(told, ['build a@2000', 'a@2000 5', 'close a@1000'], 'the new one is there before the old one goes');
});

test('what nobody asks for is brought up to date all the same, and what goes is closed', async () => {
  const { cells: subject, told } = cells();
  for (const name of ['a', 'b']) {
    subject.set(eds(name, 1));
    subject.get(name);
  }
  told.length = 0;
  subject.setEndpoints(packed('a', '1', assignment('a', 7)));
  subject.set(eds('b', 2));
  await subject.refresh();
  assert.deepEqual(told, ['a@1000 7', 'build b@2000', 'close b@1000']);
  told.length = 0;
  subject.setEndpoints(packed('a', '2', assignment('a', 8)));
  subject.delete('a');
  await subject.refresh();
  assert.deepEqual(told, ['close a@1000']);
});

test('many stale clusters are refreshed over several turns of the event loop', async () => {
  const { cells: subject, told } = cells();
  const names = Array.from({ length: 2000 }, (_, index) => `c${index}`);
  for (const name of names) {
    subject.set(eds(name, 1));
    subject.get(name);
  }
  told.length = 0;
  for (const name of names) subject.set(eds(name, 2));
  let turns = 0;
  let isOver = false;
  const count = (): void => {
    turns++;
    if (!isOver) setImmediate(count);
  };
  setImmediate(count);
  await subject.refresh();
  isOver = true;
  assert.equal(told.filter((line) => line.startsWith('build')).length, 2000);
  assert.ok(turns > 2, `${turns} turns`);
});

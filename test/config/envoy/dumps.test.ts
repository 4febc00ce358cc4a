/** What a real istiod pushes is read with the descriptors that ship, and comes out as it went in. */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readMessage } from '../../../config/envoy/messages.ts';

const FOLDER = fileURLToPath(new URL('../../../../shared/data/istiod-xds', import.meta.url));
const skip = existsSync(FOLDER) ? false : 'the dumps of ../shared/data/istiod-xds are not on this machine';

const LISTS = {
  clusters: 'envoy.config.cluster.v3.Cluster',
  endpoints: 'envoy.config.endpoint.v3.ClusterLoadAssignment',
  listeners: 'envoy.config.listener.v3.Listener',
  routes: 'envoy.config.route.v3.RouteConfiguration',
} as const;

test('readMessage returns every resource as istiod pushed it when the dumps are read', { skip }, () => {
  let count = 0;
  for (const file of globSync('*/*.xds.json', { cwd: FOLDER }).sort()) {
    const dump = JSON.parse(readFileSync(join(FOLDER, file), 'utf8')) as Record<string, Record<string, unknown>[]>;
    for (const [list, typeName] of Object.entries(LISTS)) {
      for (const resource of dump[list] ?? []) {
        const name = `${dirname(file)}/${basename(file)}: ${list} ${String(resource['name'] ?? resource['cluster_name'])}`;
        const { json, unknown } = readMessage(typeName, resource, { unknownFields: 'refuse' });
        assert.deepEqual(unknown, [], name);
        assert.deepEqual(plain(json), plain(resource), name);
        count++;
      }
    }
  }
  assert.ok(count >= 850, `only ${count} resources were there`);
});

test('readMessage returns the same resources when the fields are spelt in camelCase', { skip }, () => {
  for (const file of globSync('*/*.xds.json', { cwd: FOLDER }).sort().slice(0, 4)) {
    const dump = JSON.parse(readFileSync(join(FOLDER, file), 'utf8')) as Record<string, unknown[]>;
    for (const cluster of dump['clusters'] ?? []) {
      const { json } = readMessage(LISTS.clusters, camelCase(cluster), { unknownFields: 'refuse' });
      assert.deepEqual(plain(json), plain(cluster));
    }
  }
});

/** Maps come without a prototype. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

/** Keys of maps that occur in clusters are extension names (with dots) or stand in a Struct, whose keys are data. */
function camelCase(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(camelCase);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      key.includes('.') ? key : key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()),
      ['filter_metadata', 'match', 'value'].includes(key) ? item : camelCase(item),
    ]),
  );
}

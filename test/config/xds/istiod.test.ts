/** Every push of a real istiod, over ADS with secrets by SDS: ACKed whole but for the filters of a table. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { httpFilters, networkFilters } from '../../../filters/index.ts';
import { AdsServer } from '../../support/ads_server.ts';
import { dumpNames, meshSecrets, readDump, skipWithoutDumps } from '../../support/istiod_dumps.ts';
import { grpcCluster, startPushedProxy } from '../../support/pushed_proxy.ts';

/** Filters of the dumps that this version refuses. Remove an entry with the landing of its filter. */
const STILL_REFUSED: readonly (readonly ['http' | 'network', string])[] = [];

/** What else is refused, by its path. */
const STILL_REFUSED_PATHS: readonly string[] = [];

const secrets = meshSecrets();

describe('istiod', { skip: skipWithoutDumps, concurrency: 2 }, () => {
  for (const name of dumpNames()) {
    test(`what istiod pushes is taken over whole when it is ${name}`, async (t) => {
      const { clusters, endpoints, listeners, routes } = readDump(name);
      const ads = await AdsServer.start(t);
      const { proxy, logs, ready } = await startPushedProxy(t, {
        ads,
        first: { clusters, endpoints, listeners, routes, secrets },
        statics: [grpcCluster('sds-grpc', ads.port)],
      });
      await ads.until('listeners are answered', () => ads.answers.some(({ list }) => list === 'listeners'));
      await ready;
      // A NACK's text is cut; the log has all of it.
      const complaints = logs.filter((line) => line.startsWith('warning: Cannot use'));
      assert.equal(
        complaints.length > 0,
        ads.answers.some(({ error }) => error !== undefined),
      );
      const explained = [...STILL_REFUSED.map(([, type]) => type), ...STILL_REFUSED_PATHS];
      const unexplained = complaints.filter((text) => !explained.some((reason) => text.includes(reason)));
      assert.deepEqual(unexplained, []);
      assert.equal(proxy.value('cluster_manager.active_clusters'), clusters.length);
      const eds = new Set(endpoints.map((json) => json['cluster_name']));
      assert.ok([...(ads.names.get('endpoints') ?? [])].every((cluster) => eds.has(cluster)));
      assert.deepEqual(proxy.errors, []);
    });
  }

  test('the table of refused filters names no filter that is executed', () => {
    const stale = STILL_REFUSED.filter(([kind, type]) =>
      (kind === 'http' ? httpFilters : networkFilters).has(`type.googleapis.com/${type}`),
    );
    assert.deepEqual(stale, [], 'these are executed now: remove them from STILL_REFUSED');
  });
});

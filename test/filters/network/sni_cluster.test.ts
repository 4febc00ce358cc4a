import assert from 'node:assert/strict';
import { test } from 'node:test';
import sniCluster from '../../../filters/network/sni_cluster.ts';
import { CLUSTER_STATE_KEY } from '../../../proxy/tcp/state_keys.ts';
import type { ConnectionContext } from '../../../proxy/net/network_filter.ts';

function clusterFor(requestedServerName: string | undefined): unknown {
  const connection = { requestedServerName, filterState: undefined as Map<string, unknown> | undefined };
  assert.equal(sniCluster.create().onNewConnection({ connection } as unknown as ConnectionContext), 'continue');
  return connection.filterState?.get(CLUSTER_STATE_KEY);
}

test('sni_cluster names the cluster by the server name when the client gave one', () => {
  assert.equal(clusterFor('outbound_.80_._.a.b.svc.cluster.local'), 'outbound_.80_._.a.b.svc.cluster.local');
});

test('sni_cluster leaves the choice to tcp_proxy when the client named no server', () => {
  assert.equal(clusterFor(undefined), undefined);
});

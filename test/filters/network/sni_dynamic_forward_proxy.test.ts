import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkResource } from '../../../config/build/check.ts';
import type { Json } from '../../../config/resources.ts';
import { clientHello } from '../../support/client_hello.ts';
import { LogFile, startTestProxy } from '../../support/running_proxy.ts';
import { resource } from '../../support/static_source.ts';
import {
  ByteServer,
  byteClient,
  ending,
  listenerFilter,
  networkFilter,
  readBytes,
  tcpListener,
  tcpProxy,
} from '../../support/tcp_resources.ts';

const TYPE = 'envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig';
const cache = { name: 'names', dns_lookup_family: 'V4_ONLY' };
const filter = (config: Json): Json =>
  networkFilter('envoy.filters.network.sni_dynamic_forward_proxy', TYPE, { dns_cache_config: cache, ...config });
const cluster = resource('cluster', {
  name: 'names',
  connect_timeout: '2s',
  lb_policy: 'CLUSTER_PROVIDED',
  cluster_type: {
    name: 'envoy.clusters.dynamic_forward_proxy',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig',
      dns_cache_config: cache,
      allow_insecure_cluster_options: true,
    },
  },
});
const listener = (config: Json, proxy: Json = {}) =>
  tcpListener('', {
    listener_filters: [listenerFilter('tls_inspector')],
    filter_chains: [{ filters: [filter(config), tcpProxy({ cluster: 'names', ...proxy })] }],
  });

test('sni_dynamic_forward_proxy sends a connection to the host of its server name', async (t) => {
  const server = await ByteServer.start(t);
  const proxy = await startTestProxy(t, [listener({ port_value: server.port }), cluster]);
  const hello = clientHello({ serverName: 'localhost' });
  const client = await byteClient(t, proxy.port());
  client.write(hello);
  assert.deepEqual(await readBytes(await server.next(), hello.length), hello);
});

for (const [says, serverName, flags] of [
  ['the name does not exist', 'nowhere.invalid', 'DF'],
  ['the client names none', undefined, 'UH'],
  ['the name is an address of cloud metadata', '169.254.169.254', ''],
] as const) {
  test(`sni_dynamic_forward_proxy leads nowhere when ${says}`, async (t) => {
    const log = new LogFile(t);
    const proxy = await startTestProxy(t, [
      listener({}, { access_log: [log.config('%RESPONSE_FLAGS% %UPSTREAM_HOST%\n')] }),
      cluster,
    ]);
    const client = await byteClient(t, proxy.port());
    const ended = ending(client);
    client.write(clientHello(serverName === undefined ? {} : { serverName }));
    assert.match(await ended, /end|ECONNRESET/);
    assert.equal((await log.lines(1))[0], `${flags || '-'} -`);
  });
}

test('sni_dynamic_forward_proxy refuses what it does not do by name', () => {
  assert.match(
    checkResource(listener({ save_upstream_address: true }))?.message ?? '',
    /save_upstream_address: is not supported/,
  );
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkResource } from '../../../config/build/check.ts';
import { staticCluster } from '../../support/envoy_resources.ts';
import { startTestProxy } from '../../support/running_proxy.ts';
import {
  ByteServer,
  byteClient,
  networkFilter,
  readBytes,
  tcpListener,
  tcpProxy,
} from '../../support/tcp_resources.ts';
import type { Json } from '../../../config/resources.ts';

const mongo = (config: Json = {}) =>
  networkFilter('envoy.filters.network.mongo_proxy', 'envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy', {
    stat_prefix: 'mongo',
    ...config,
  });
const listener = (...filters: Json[]) =>
  tcpListener('up', { filter_chains: [{ filters: [...filters, tcpProxy({ cluster: 'up' })] }] });

test('mongo_proxy passes bytes both ways unread', async (t) => {
  const server = await ByteServer.start(t);
  const proxy = await startTestProxy(t, [listener(mongo()), staticCluster('up', [server.port])]);
  const client = await byteClient(t, proxy.port());
  client.write(Buffer.from([0, 1, 2, 255]));
  const upstream = await server.next();
  assert.deepEqual([...(await readBytes(upstream, 4))], [0, 1, 2, 255]);
  upstream.write('back');
  assert.equal((await readBytes(client, 4)).toString(), 'back');
});

test('mongo_proxy refuses what it does not do by name', () => {
  assert.match(checkResource(listener(mongo({ delay: {} })))?.message ?? '', /delay: faults in MongoDB connections/);
});

test('redis and mysql proxies are refused by name', () => {
  for (const [name, type] of [
    ['redis_proxy', 'envoy.extensions.filters.network.redis_proxy.v3.RedisProxy'],
    ['mysql_proxy', 'envoy.extensions.filters.network.mysql_proxy.v3.MySQLProxy'],
  ] as const) {
    const message = checkResource(listener(networkFilter(`envoy.filters.network.${name}`, type)))?.message ?? '';
    assert.match(
      message,
      new RegExp(
        `"envoy.filters.network.${name}" has type ${type.replaceAll('.', '\\.')}, which this version does not execute`,
      ),
    );
  }
});

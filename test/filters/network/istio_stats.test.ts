import assert from 'node:assert/strict';
import { test } from 'node:test';
import { staticCluster } from '../../support/envoy_resources.ts';
import { startTestProxy } from '../../support/running_proxy.ts';
import {
  ByteServer,
  byteClient,
  ending,
  networkFilter,
  readBytes,
  tcpListener,
  tcpProxy,
} from '../../support/tcp_resources.ts';

const CLUSTER = {
  metadata: {
    filter_metadata: {
      istio: { services: [{ host: 'db.shop.svc.cluster.local', name: 'db', namespace: 'shop' }] },
    },
  },
};

test('istio.stats counts connections and their bytes, while they last and when they end', async (t) => {
  const server = await ByteServer.start(t);
  const stats = networkFilter('istio.stats', 'stats.PluginConfig', { tcp_reporting_duration: '0.1s' });
  const proxy = await startTestProxy(t, [
    tcpListener('up', {
      traffic_direction: 'OUTBOUND',
      filter_chains: [{ filters: [stats, tcpProxy({ cluster: 'up' })] }],
    }),
    staticCluster('up', [server.port], CLUSTER),
  ]);
  const series = async (name: string): Promise<string | undefined> => {
    const text = await (await fetch(`http://127.0.0.1:${proxy.port('admin')}/stats/prometheus`)).text();
    return text.split('\n').find((line) => line.startsWith(`istio_tcp_${name}_total{`));
  };
  const until = async (name: string, value: number): Promise<string> => {
    for (let attempt = 0; attempt < 1500; attempt++) {
      const line = await series(name);
      if (line?.endsWith(` ${value}`) === true) return line;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    throw new Error(`${name} is ${await series(name)}, ${value} is wanted`);
  };
  const client = await byteClient(t, proxy.port());
  client.write('12345678');
  const upstream = await server.next();
  await readBytes(upstream, 8);
  upstream.write('123');
  await readBytes(client, 3);
  const opened = await until('connections_opened', 1);
  assert.match(opened, /reporter="source"/);
  assert.match(opened, /destination_service="db\.shop\.svc\.cluster\.local"/);
  assert.match(opened, /destination_service_namespace="shop"/);
  assert.match(opened, /request_protocol="tcp"/);
  assert.match(opened, /response_flags="-"/);
  assert.doesNotMatch(opened, /response_code=|grpc_response_status=/);
  await until('received_bytes', 8);
  await until('sent_bytes', 3);
  assert.match((await series('connections_closed')) ?? ' 0', / 0$/);
  client.end('9');
  await ending(upstream);
  upstream.end();
  await until('connections_closed', 1);
  await until('received_bytes', 9);
});

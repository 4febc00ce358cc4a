/** Binary resources come out as their JSON reads, whatever istiod has sent; what is no message is a WireError. */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { fromJson, type JsonValue, toBinary } from '@bufbuild/protobuf';
import { decodeMessage } from '../../../config/envoy/binary.ts';
import { descriptors } from '../../../config/envoy/descriptors.ts';
import { readMessage } from '../../../config/envoy/messages.ts';
import { WireError } from '../../../config/envoy/wire_reader.ts';

const FOLDER = fileURLToPath(new URL('../../../../shared/data/istiod-xds', import.meta.url));
const skip = existsSync(FOLDER) ? false : 'the dumps of ../shared/data/istiod-xds are not on this machine';
const CLUSTER = 'envoy.config.cluster.v3.Cluster';
const LISTS = {
  clusters: CLUSTER,
  endpoints: 'envoy.config.endpoint.v3.ClusterLoadAssignment',
  listeners: 'envoy.config.listener.v3.Listener',
  routes: 'envoy.config.route.v3.RouteConfiguration',
} as const;

function encode(typeName: string, json: unknown): Buffer {
  const type = descriptors().getMessage(typeName);
  assert.ok(type !== undefined);
  return Buffer.from(toBinary(type, fromJson(type, json as JsonValue, { registry: descriptors() })));
}

const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
const canonical = (typeName: string, json: unknown): unknown =>
  plain(readMessage(typeName, json, { unknownFields: 'refuse' }).json);

test('decodeMessage gives what readMessage reads from JSON when istiod’s resources come as bytes', { skip }, () => {
  let count = 0;
  for (const file of globSync('*/*.xds.json', { cwd: FOLDER }).sort()) {
    const dump = JSON.parse(readFileSync(join(FOLDER, file), 'utf8')) as Record<string, Record<string, unknown>[]>;
    for (const [list, typeName] of Object.entries(LISTS)) {
      for (const resource of dump[list] ?? []) {
        const { json, unknownFields } = decodeMessage(typeName, encode(typeName, resource));
        assert.deepEqual(unknownFields, []);
        const wanted = canonical(typeName, resource);
        assert.deepEqual(canonical(typeName, json), wanted, `${file} ${list}`);
        // The same, written over what was decoded.
        const { json: over } = readMessage(typeName, json, { unknownFields: 'refuse', isDecoded: true });
        assert.deepEqual(plain(over), wanted, `${file} ${list}`);
        count++;
      }
    }
  }
  assert.ok(count >= 850, `only ${count} resources were there`);
});

test('decodeMessage reads every kind of value', () => {
  const json = {
    name: 'c',
    connect_timeout: '0.250s',
    type: 'STRICT_DNS',
    lb_policy: 'MAGLEV',
    per_connection_buffer_limit_bytes: 0,
    metadata: {
      filter_metadata: { a: { text: 'x', number: -1.5, list: [1, true, null, { deep: '' }], no: false } },
    },
    maglev_lb_config: { table_size: '65537' },
    upstream_bind_config: { source_address: { address: '127.0.0.6', port_value: 0 } },
    outlier_detection: { consecutive_5xx: 0, max_ejection_percent: 7, interval: '10s' },
    common_lb_config: { healthy_panic_threshold: { value: 0.1 } },
    circuit_breakers: { thresholds: [{ priority: 'HIGH', max_connections: 4294967295 }] },
  };
  assert.deepEqual(
    canonical(CLUSTER, decodeMessage(CLUSTER, encode(CLUSTER, json)).json),
    canonical(CLUSTER, { ...json, connect_timeout: '0.25s' }),
  );
});

test('decodeMessage leaves unknown fields out and names them', () => {
  // Field 999, a varint and a text.
  const strange = Buffer.from([0xb8, 0x3e, 0x05, 0xba, 0x3e, 0x02, 0x68, 0x69]);
  const { json, unknownFields } = decodeMessage(CLUSTER, Buffer.concat([encode(CLUSTER, { name: 'c' }), strange]));
  assert.deepEqual(json, { name: 'c' });
  assert.deepEqual(unknownFields, [`${CLUSTER} 999`]);
});

test('decodeMessage keeps the name of an extension that it has no descriptor of', () => {
  const any = Buffer.concat([
    Buffer.from([0x0a, 15]),
    Buffer.from('example.com/x.Y'),
    Buffer.from([0x12, 2, 0x08, 0x01]),
  ]);
  // TransportSocket { name = 1, typed_config = 3 } in Cluster.transport_socket = 24.
  const socket = Buffer.concat([Buffer.from([0x0a, 1, 0x74, 0x1a, any.length]), any]);
  const cluster = Buffer.concat([encode(CLUSTER, { name: 'c' }), Buffer.from([0xc2, 0x01, socket.length]), socket]);
  assert.deepEqual(decodeMessage(CLUSTER, cluster).json, {
    name: 'c',
    transport_socket: { name: 't', typed_config: { '@type': 'example.com/x.Y' } },
  });
});

test('the last member of a oneof counts, and a message that comes twice is merged', () => {
  const address = 'envoy.config.core.v3.Address';
  const both = Buffer.concat([
    encode(address, { socket_address: { address: '10.0.0.1', port_value: 1 } }),
    encode(address, { pipe: { path: '/x' } }),
  ]);
  assert.deepEqual(decodeMessage(address, both).json, { pipe: { path: '/x' } });
  const twice = Buffer.concat([
    encode(address, { socket_address: { address: '10.0.0.1', port_value: 1 } }),
    encode(address, { socket_address: { port_value: 2 } }),
  ]);
  assert.deepEqual(decodeMessage(address, twice).json, { socket_address: { address: '10.0.0.1', port_value: 2 } });
});

test('decodeMessage throws a WireError, and nothing else, when bytes are cut or changed', () => {
  const whole = encode(CLUSTER, {
    name: 'cluster',
    type: 'EDS',
    metadata: { filter_metadata: { a: { b: { c: [1, 2, 'x'] } } } },
    transport_socket: {
      name: 't',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext',
        sni: 'a.b',
      },
    },
  });
  let refused = 0;
  const attempt = (bytes: Buffer): void => {
    try {
      decodeMessage(CLUSTER, bytes);
    } catch (error) {
      assert.ok(error instanceof WireError, String(error));
      refused++;
    }
  };
  for (let length = 0; length < whole.length; length++) attempt(whole.subarray(0, length));
  for (let index = 0; index < whole.length; index++) {
    for (const change of [0x01, 0x07, 0x80, 0xff]) {
      const changed = Buffer.from(whole);
      changed[index] = (changed[index] as number) ^ change;
      attempt(changed);
    }
  }
  assert.ok(refused > 100, `${refused} were refused`);
});

test('decodeMessage refuses what nests without end', () => {
  // Value { list_value = 6 { values = 1 { list_value … } } } a thousand deep.
  let value: Buffer = Buffer.from([]);
  for (let depth = 0; depth < 1000; depth++) {
    value = Buffer.concat([Buffer.from([0x0a]), varint(value.length), value]);
    value = Buffer.concat([Buffer.from([0x32]), varint(value.length), value]);
  }
  assert.throws(() => decodeMessage('google.protobuf.Value', value), /nest deeper than 100/);
});

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    if (rest < 0x80) return Buffer.from([...bytes, rest]);
    bytes.push((rest & 0x7f) | 0x80);
  }
}

/** Peer metadata: the bytes, and what a peer may not do with them. Between proxies: test/integration/mesh_pair.test.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import peerMetadata from '../../filters/peer_metadata.ts';
import {
  decodeStruct,
  encodeStruct,
  MAX_PEER_METADATA_BYTES,
  ownPeerMetadata,
  PeerCache,
} from '../../proxy/telemetry/peer_metadata.ts';

test('peer_metadata reads which headers go where', () => {
  assert.deepEqual(
    peerMetadata.parse({
      upstream_discovery: [{ istio_headers: {} }, { workload_discovery: {} }],
      upstream_propagation: [{ istio_headers: { skip_external_clusters: true } }],
    }),
    {
      readsDownstream: false,
      readsUpstream: true,
      tellsDownstream: false,
      tellsUpstream: true,
      skipExternal: true,
    },
  );
});

test('a Struct survives encoding, with its fields sorted', () => {
  const text = fc.string({ maxLength: 40 });
  fc.assert(
    fc.property(fc.dictionary(text, fc.oneof(text, fc.dictionary(text, text))), (fields) => {
      const plain = JSON.parse(JSON.stringify(fields)) as Record<string, unknown>;
      assert.deepEqual(JSON.parse(JSON.stringify(decodeStruct(encodeStruct(fields)))), plain);
    }),
  );
  // protoc --encode=google.protobuf.Struct of {a: "x", b: {c: "y"}}
  assert.equal(
    encodeStruct({ b: { c: 'y' }, a: 'x' }).toString('hex'),
    `0a080a016112031a0178${'0a110a0162120c2a0a0a080a016312031a0179'}`,
  );
});

test('any bytes are read without harm', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      decodeStruct(Buffer.from(bytes));
    }),
  );
  const nested = Array.from({ length: 40 }).reduce<Record<string, unknown>>((inner) => ({ a: inner }), { a: 'x' });
  assert.equal(decodeStruct(encodeStruct(nested)), undefined);
});

test('what is too long is not read, and the cache stays small', () => {
  const cache = new PeerCache();
  const long = encodeStruct({ WORKLOAD_NAME: 'x'.repeat(MAX_PEER_METADATA_BYTES) }).toString('base64');
  assert.equal(cache.of(long), undefined);
  const good = encodeStruct({ WORKLOAD_NAME: 'web', NAMESPACE: 'shop', LABELS: { app: 'w' } }).toString('base64');
  assert.equal(cache.of(good)?.workload, 'web');
  assert.equal(cache.of(good), cache.of(good));
  for (let i = 0; i < 2000; i++) cache.of(encodeStruct({ WORKLOAD_NAME: `w${i}` }).toString('base64'));
  assert.equal(cache.of(good)?.app, 'w');
});

test('only what peers need is told', () => {
  const told = ownPeerMetadata({
    id: 'x',
    cluster: '',
    metadata: {
      NAME: 'web-1',
      WORKLOAD_NAME: 'web',
      NAMESPACE: 'shop',
      SECRET: 'no',
      LABELS: { app: 'web', other: 'no' },
    },
  });
  assert.deepEqual(told, {
    NAME: 'web-1',
    WORKLOAD_NAME: 'web',
    NAMESPACE: 'shop',
    LABELS: {
      app: 'web',
      'service.istio.io/canonical-name': 'web',
      'service.istio.io/canonical-revision': 'latest',
    },
  });
});

/** istio.alpn: what it reads. What it does on connections: test/integration/mesh_pair.test.ts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import alpn from '../../filters/alpn.ts';

test('alpn reads the lists by upstream protocol', () => {
  assert.deepEqual(
    alpn.parse({
      alpn_override: [
        { alpn_override: ['istio-http/1.0', 'istio'] },
        { upstream_protocol: 'HTTP11', alpn_override: ['istio-http/1.1', 'istio', 'http/1.1'] },
        { upstream_protocol: 'HTTP2', alpn_override: ['istio-h2'] },
      ],
    }),
    { http1: ['istio-http/1.1', 'istio', 'http/1.1'], http2: ['istio-h2'] },
  );
  assert.deepEqual(alpn.parse({}), { http1: undefined, http2: undefined });
  assert.throws(() => alpn.parse({ alpn_override: [{ upstream_protocol: 'HTTP3' }] }), /upstream_protocol/);
});

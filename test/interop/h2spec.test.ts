/** h2spec, the conformance suite of HTTP/2 servers, against the server side. Its cases on windows want a body of some length. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { findProgram } from '../support/find_program.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import type { Json, Resource } from '../../config/resources.ts';
import { downstreamTls, MeshCa } from '../support/mesh_ca.ts';
import { resource } from '../support/static_source.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';

const CASES = 145;
const skip =
  findProgram('h2spec') === undefined
    ? 'h2spec is not installed: go install github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible'
    : false;

for (const over of ['plain TCP', 'TLS'] as const) {
  test(`a listener for HTTP/2 passes all cases of h2spec over ${over}`, { skip, timeout: 120_000 }, async (t) => {
    const answer = answering('x'.repeat(64));
    const upstream = await RawUpstream.start(t, (received, socket) => {
      if (isComplete(received)) answer(received, socket);
    });
    const plain = httpListener({
      routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'upstream' } }]),
      manager: { codec_type: 'HTTP2', http2_protocol_options: { max_concurrent_streams: 100 } },
    });
    const proxy = await startTestProxy(t, [
      over === 'TLS' ? withTls(plain) : plain,
      staticCluster('upstream', [upstream.port]),
    ]);
    const args = ['-h', '127.0.0.1', '-p', String(proxy.port()), '-o', '20', ...(over === 'TLS' ? ['-t', '-k'] : [])];
    const { stdout } = await promisify(execFile)('h2spec', args).catch((error: { stdout: string }) => error);
    const summary = /(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed/.exec(stdout);
    assert.deepEqual(summary?.slice(1).map(Number), [CASES, CASES, 0, 0], stdout.slice(stdout.indexOf('Failures')));
    assert.deepEqual(proxy.errors, []);
  });
}

/** Answered before its end, a request is over for us (RFC 9113 §8.1), and what the suite sends behind it is ignored. */
function isComplete(received: string): boolean {
  const head = received.slice(received.lastIndexOf(' HTTP/1.1\r\n'));
  if (/\r\ntransfer-encoding: chunked\r\n/.test(head)) return /\r\n0\r\n(?:.+\r\n)*\r\n$/.test(head);
  const length = Number(/\r\ncontent-length: (\d+)\r\n/.exec(head)?.[1] ?? 0);
  return head.length - head.indexOf('\r\n\r\n') - 4 >= length;
}

function withTls(listener: Resource): Resource {
  const own = new MeshCa().issue(undefined, { dnsNames: ['localhost'] });
  const [chain] = listener.json['filter_chains'] as Json[];
  const socket = downstreamTls({ own, alpn: ['h2'] });
  return resource('listener', { ...listener.json, filter_chains: [{ ...chain, transport_socket: socket }] });
}

/** Envoy does with connections what Pillion does: which chain, which cluster, how it ends, what is logged. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, it } from 'node:test';
import type { Json, Resource } from '../../config/resources.ts';
import { clientHello } from '../support/client_hello.ts';
import { startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { readLines } from '../support/log_lines.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { ByteServer, byteClient, listenerFilter, tcpListener, tcpProxy } from '../support/tcp_resources.ts';
import { REFUSED_PORT } from '../support/free_port.ts';

const FORMAT =
  '%FILTER_CHAIN_NAME% %RESPONSE_FLAGS% %RESPONSE_CODE% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER_RAW% %PROTOCOL% %REQUESTED_SERVER_NAME% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT% "%UPSTREAM_TRANSPORT_FAILURE_REASON%"';

const log = (path: string): Json => ({
  name: 'log',
  typed_config: {
    '@type': 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog',
    path,
    log_format: { text_format_source: { inline_string: `${FORMAT.replace('%FILTER_CHAIN_NAME% ', '')}\n` } },
  },
});

interface Case {
  readonly says: string;
  readonly listener: string;
  /** Written one after the other, each when the one before has been read. */
  readonly send: readonly Buffer[];
  /** The client ends after that; else it waits for an answer or the end. */
  readonly ends?: boolean;
  /** The proxy ends it. */
  readonly waits?: boolean;
}

const text = (value: string): Buffer => Buffer.from(value, 'latin1');
const hello = (
  serverName: string | undefined,
  applicationProtocols?: readonly string[],
  recordBytes?: number,
): Buffer =>
  clientHello({
    ...(serverName !== undefined && { serverName }),
    ...(applicationProtocols !== undefined && { applicationProtocols }),
    ...(recordBytes !== undefined && { recordBytes }),
  });
const V2 = '0d0a0d0a000d0a515549540a';
const hex = (value: string): Buffer => Buffer.from(value, 'hex');
/** Of a length that no case sends or is sent. */
const MARK = 'm'.repeat(12_345);
const withHeader = (header: Buffer): Buffer => Buffer.concat([header, text('payload')]);

const CASES: readonly Case[] = [
  { says: 'an exact server name', listener: 'sni', send: [hello('db.example.com')] },
  { says: 'a server name in capitals', listener: 'sni', send: [hello('DB.EXAMPLE.COM')] },
  { says: 'a wildcard', listener: 'sni', send: [hello('x.example.com')] },
  { says: 'a deeper name under a wildcard', listener: 'sni', send: [hello('a.b.example.com')] },
  { says: 'the name of the wildcard itself', listener: 'sni', send: [hello('example.com')] },
  { says: 'another name', listener: 'sni', send: [hello('example.org')] },
  { says: 'no name', listener: 'sni', send: [hello(undefined)] },
  { says: 'a hello in small records', listener: 'sni', send: [hello('db.example.com', ['h2'], 30)] },
  { says: 'a protocol', listener: 'sni', send: [hello('p.test', ['foo', 'h2'])] },
  { says: 'another protocol', listener: 'sni', send: [hello('p.test', ['foo'])] },
  { says: 'plain bytes', listener: 'sni', send: [text('hello')] },
  { says: 'plain bytes that begin like TLS', listener: 'sni', send: [hex('160301000502000001ff')] },
  { says: 'HTTP/1.1', listener: 'http', send: [text('GET / HTTP/1.1\r\nhost: a\r\n\r\n')] },
  { says: 'HTTP/1.0', listener: 'http', send: [text('GET / HTTP/1.0\r\n\r\n')] },
  { says: 'HTTP/2', listener: 'http', send: [text('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')] },
  { says: 'no HTTP', listener: 'http', send: [text('*1\r\n$4\r\nPING\r\n')] },
  { says: 'loopback as source', listener: 'source', send: [text('x')] },
  { says: 'PROXY version 1', listener: 'proxied', send: [text('PROXY TCP4 192.0.2.1 198.51.100.1 5 6\r\npayload')] },
  { says: 'PROXY version 1, IPv6', listener: 'proxied', send: [text('PROXY TCP6 2001:db8::1 ::1 5 6\r\npayload')] },
  { says: 'PROXY UNKNOWN', listener: 'proxied', send: [text('PROXY UNKNOWN\r\npayload')] },
  { says: 'PROXY version 2', listener: 'proxied', send: [withHeader(hex(`${V2}2111000cc0000201c633640100050006`))] },
  { says: 'PROXY version 2, LOCAL', listener: 'proxied', send: [withHeader(hex(`${V2}20000000`))] },
  {
    says: 'PROXY version 2 with TLVs',
    listener: 'proxied',
    send: [withHeader(hex(`${V2}21110012c0000201c633640100050006020003616263`))],
  },
  { says: 'no PROXY header', listener: 'proxied', send: [text('GET / HTTP/1.1\r\n\r\n')] },
  { says: 'a PROXY header with a bad address', listener: 'proxied', send: [text('PROXY TCP4 x y 1 2\r\n')] },
  { says: 'a PROXY header of version 3', listener: 'proxied', send: [hex(`${V2}31110000`)] },
  { says: 'a host that nobody listens at', listener: 'dead', send: [text('x')] },
  { says: 'a cluster without hosts', listener: 'empty', send: [text('x')] },
  { says: 'silence for too long', listener: 'idle', send: [text('x')], waits: true },
  { says: 'a connection that gets too old', listener: 'old', send: [text('x')], waits: true },
  { says: 'half a request and the end', listener: 'plain', send: [text('half')], ends: true },
];

/** Where Pillion differs on purpose, or Envoy prints what nobody reads. */
const DEVIATIONS: readonly (readonly [says: RegExp, reason: string])[] = [];

describe('Envoy and Pillion', { skip: withoutEnvoy() }, () => {
  const scope = fileScope();
  const results = new Map<string, [string, string]>();

  before(async () => {
    const server = await ByteServer.start(scope, (socket) => {
      socket.on('data', (bytes: Buffer) => socket.write(`got ${bytes.length}\n`));
      socket.on('end', () => socket.end('bye\n'));
    });
    const [envoyLog, ownLog] = ['envoy', 'pillion'].map(() => {
      const folder = mkdtempSync(join(tmpdir(), 'pillion-tcp-'));
      scope.after(() => rmSync(folder, { recursive: true, force: true }));
      return join(folder, 'access.log');
    }) as [string, string];
    const envoy = await startEnvoy(scope, resources(server.port, REFUSED_PORT, envoyLog));
    const own = await startTestProxy(scope, resources(server.port, REFUSED_PORT, ownLog));
    for (const item of CASES) {
      results.set(
        item.says,
        await Promise.all([
          play(item, (name) => envoy.port(name), envoyLog),
          play(item, (name) => own.port(name), ownLog),
        ]),
      );
    }
  });

  for (const { says } of CASES) {
    it(`Envoy and Pillion agree: ${says}`, () => {
      const [theirs, ours] = results.get(says) as [string, string];
      const deviation = DEVIATIONS.find(([pattern]) => pattern.test(says));
      if (deviation === undefined) assert.equal(ours, theirs);
      else assert.notEqual(ours, theirs, `no difference any more: ${deviation[1]}`);
    });
  }

  async function play(
    { listener, send, ends, waits }: Case,
    port: (listener: string) => number,
    path: string,
  ): Promise<string> {
    const before = readLines(path).length;
    const client = await byteClient(scope, port(listener));
    let received = '';
    const over = new Promise<void>((resolve) => {
      client.on('data', (bytes: Buffer) => {
        received += bytes.toString('latin1');
        if (ends !== true && waits !== true && received.endsWith('\n')) resolve();
      });
      client.once('end', () => resolve());
      client.once('close', () => resolve());
    });
    for (const bytes of send) client.write(bytes);
    if (ends === true) client.end();
    await over;
    const isOver = client.readableEnded || client.destroyed;
    const heard = received;
    client.end();
    // Refused before a chain was chosen: nobody logs that. What is logged stands before a connection that came after it.
    const mayBeUnlogged = isOver && heard === '';
    if (mayBeUnlogged) {
      const mark = await byteClient(scope, port('plain'));
      mark.end(MARK);
      mark.resume();
    }
    let line: string | undefined;
    await eventually('the log is written', () => {
      const lines = readLines(path).slice(before);
      const isMarked = lines.some((text) => text.includes(` ${MARK.length} `));
      line = lines.find((text) => !text.includes(` ${MARK.length} `));
      return mayBeUnlogged ? isMarked : line !== undefined;
    });
    client.destroy();
    return `${JSON.stringify(heard)} ${isOver ? 'closed' : 'open'}; ${line ?? 'no line'}`;
  }
});

function resources(server: number, dead: number, path: string): Resource[] {
  const chain = (name: string, match: Json | undefined, proxy: Json = {}): Json => ({
    name,
    ...(match !== undefined && { filter_chain_match: match }),
    filters: [tcpProxy({ cluster: name, stat_prefix: name, access_log: [log(path)], ...proxy })],
  });
  const listener = (name: string, chains: readonly Json[], more: Json = {}): Resource =>
    tcpListener('', { name, filter_chains: chains, ...more });
  const clusters = [
    'exact',
    'wild',
    'com',
    'any',
    'h2',
    'raw',
    'http11',
    'http10',
    'h2c',
    'local',
    'external',
    'proxied',
    'idle',
    'old',
    'plain',
  ];
  return [
    listener(
      'sni',
      [
        chain('exact', { server_names: ['db.example.com'] }),
        chain('wild', { server_names: ['*.example.com'] }),
        chain('com', { server_names: ['*.com'] }),
        chain('h2', { server_names: ['p.test'], application_protocols: ['h2'] }),
        chain('any', { transport_protocol: 'tls' }),
        chain('raw', { transport_protocol: 'raw_buffer' }),
      ],
      { listener_filters: [listenerFilter('tls_inspector')] },
    ),
    listener(
      'http',
      [
        chain('http11', { application_protocols: ['http/1.1'], transport_protocol: 'raw_buffer' }),
        chain('http10', { application_protocols: ['http/1.0'], transport_protocol: 'raw_buffer' }),
        chain('h2c', { application_protocols: ['h2c'], transport_protocol: 'raw_buffer' }),
        chain('raw', undefined),
      ],
      { listener_filters: [listenerFilter('http_inspector')] },
    ),
    listener('source', [
      chain('local', { source_type: 'SAME_IP_OR_LOOPBACK' }),
      chain('external', { source_type: 'EXTERNAL' }),
    ]),
    listener('proxied', [chain('proxied', undefined)], { listener_filters: [listenerFilter('proxy_protocol')] }),
    listener('dead', [chain('dead', undefined)]),
    listener('empty', [chain('empty', undefined)]),
    listener('idle', [chain('idle', undefined, { idle_timeout: '1s' })]),
    listener('old', [chain('old', undefined, { max_downstream_connection_duration: '1s' })]),
    listener('plain', [chain('plain', undefined)]),
    ...clusters.map((name) => staticCluster(name, [server], { connect_timeout: '2s' })),
    staticCluster('dead', [dead], { connect_timeout: '2s' }),
    staticCluster('empty', [], { connect_timeout: '2s' }),
  ];
}

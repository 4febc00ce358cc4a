/** How connections ended and why, in access logs: Pillion's and Envoy's lines of the same ends. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import type { Json, Resource } from '../../config/resources.ts';
import { startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { linesOf } from '../support/log_lines.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { ByteServer, byteClient, ending, readBytes, tcpListener } from '../support/tcp_resources.ts';
import { REFUSED_PORT } from '../support/free_port.ts';

const FORMAT =
  'down %DOWNSTREAM_DETECTED_CLOSE_TYPE% %DOWNSTREAM_LOCAL_CLOSE_REASON% up %UPSTREAM_DETECTED_CLOSE_TYPE% %UPSTREAM_LOCAL_CLOSE_REASON%\n';

interface Case {
  readonly says: string;
  readonly listener: string;
  /** Both ends are connected and have read what the other one said. */
  act(client: Socket, host: Socket): void;
  /** No host is ever reached. */
  readonly alone?: boolean;
}

const CASES: readonly Case[] = [
  {
    says: 'a client that ends and a host that does after it',
    listener: 'tcp',
    act(client, host) {
      host.once('end', () => host.end());
      client.end();
    },
  },
  {
    says: 'a host that ends and a client that does after it',
    listener: 'tcp',
    act(client, host) {
      client.once('end', () => client.end());
      host.end();
    },
  },
  { says: 'a client that resets', listener: 'tcp', act: (client) => client.resetAndDestroy() },
  { says: 'a host that resets', listener: 'tcp', act: (_client, host) => host.resetAndDestroy() },
  { says: 'silence for too long', listener: 'idle', act: () => {} },
  { says: 'a connection that gets too old', listener: 'old', act: () => {} },
  { says: 'a cluster that is not there', listener: 'gone', act: () => {}, alone: true },
  { says: 'a host that nobody listens at', listener: 'dead', act: () => {}, alone: true },
  { says: 'an HTTP client that resets', listener: 'http', act: (client) => client.resetAndDestroy() },
  { says: 'an HTTP host that resets', listener: 'http', act: (_client, host) => host.resetAndDestroy() },
  { says: 'an HTTP client that ends in the middle', listener: 'http', act: (client) => client.end() },
];

/** Where Pillion differs on purpose, or by nature. An entry that no longer differs fails the test. */
const DEVIATIONS: Readonly<Record<string, string>> = {
  'a client that resets': 'written when both sides are closed, and so knows how the second one was',
  'an HTTP client that resets': "Envoy's streams end before it is told how their connections did",
  'an HTTP host that resets': "Envoy's streams end before it is told how their connections did",
  'an HTTP client that ends in the middle':
    'the connection to the host is reset, as HTTP/1.1 has no other way to cancel',
};

const REQUEST = 'GET / HTTP/1.1\r\nhost: a\r\n\r\n';
const ANSWER = 'HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nhalf';

function resources(port: number, deadPort: number, log: (name: string) => string): Resource[] {
  const access_log = (name: string): Json[] => [
    {
      name: 'log',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog',
        path: log(name),
        log_format: { text_format_source: { inline_string: FORMAT } },
      },
    },
  ];
  const tcp = (name: string, cluster: string, proxy: Json = {}): Resource =>
    tcpListener(cluster, { name, proxy: { ...proxy, access_log: access_log(name) } });
  return [
    tcp('tcp', 'up'),
    tcp('idle', 'up', { idle_timeout: '1s' }),
    tcp('old', 'up', { max_downstream_connection_duration: '1s' }),
    tcp('gone', 'gone'),
    tcp('dead', 'dead'),
    httpListener({
      name: 'http',
      routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]),
      manager: { access_log: access_log('http') },
    }),
    staticCluster('up', [port]),
    staticCluster('dead', [deadPort]),
  ];
}

const scope = fileScope();
const skip = withoutEnvoy();
const seen = new Map<string, { readonly theirs: string; readonly ours: string }>();

before(async () => {
  if (skip !== false) return;
  const folder = mkdtempSync(join(tmpdir(), 'pillion-close-'));
  scope.after(() => rmSync(folder, { recursive: true, force: true }));
  const server = await ByteServer.start(scope);
  const logOf = (side: string) => (name: string) => join(folder, `${side}-${name}`);
  const envoy = await startEnvoy(scope, resources(server.port, REFUSED_PORT, logOf('envoy')));
  const own = await startTestProxy(scope, resources(server.port, REFUSED_PORT, logOf('own')));
  const lineNumbers = new Map<string, number>();
  const play = async ({ listener, act, alone }: Case, port: number, path: string): Promise<string> => {
    const line = lineNumbers.get(path) ?? 0;
    lineNumbers.set(path, line + 1);
    const client = await byteClient(scope, port);
    if (alone !== true) {
      client.write(REQUEST);
      const host = await server.next();
      await readUntil(host, '\r\n\r\n');
      host.write(ANSWER);
      if (listener === 'http') await readUntil(client, 'half');
      else await readBytes(client, ANSWER.length);
      act(client, host);
      host.resume();
    }
    await ending(client);
    client.end();
    return (await linesOf(path, line + 1))[line] ?? '';
  };
  for (const item of CASES) {
    seen.set(item.says, {
      theirs: await play(item, envoy.port(item.listener), logOf('envoy')(item.listener)),
      ours: await play(item, own.port(item.listener), logOf('own')(item.listener)),
    });
  }
});

/** The proxy adds fields of its own: lengths are not known. */
async function readUntil(socket: Socket, end: string): Promise<void> {
  let text = '';
  while (!text.includes(end)) {
    const piece = socket.read() as Buffer | null;
    if (piece === null) await once(socket, 'readable');
    else text += piece.toString('latin1');
  }
}

for (const { says } of CASES) {
  test(`the access log says of ${says} what Envoy's says`, { skip }, () => {
    const { theirs, ours } = seen.get(says) as { theirs: string; ours: string };
    const reason = DEVIATIONS[says];
    if (reason === undefined) assert.equal(ours, theirs);
    else assert.notEqual(ours, theirs, `no difference any more: ${reason}`);
  });
}

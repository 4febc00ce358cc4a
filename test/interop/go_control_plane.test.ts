/**
 * Against a control plane that others wrote: go-control-plane's own test program pushes three snapshots and sends
 * requests through the proxy after each; it exits 0 when all of them were answered.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { buildAccessLogs } from '../../config/build/access_log.ts';
import { PillionProcess } from '../support/pillion_process.ts';
import type { Scope } from '../support/scope.ts';

const MODULE = 'github.com/envoyproxy/go-control-plane';
const VERSION = 'v0.14.0';
const FOLDER = join(tmpdir(), `pillion-go-control-plane-${VERSION}`);
const PROGRAM = join(FOLDER, 'test');
const hasGo = spawnSync('go', ['version']).status === 0;
const skip =
  hasGo || existsSync(PROGRAM) ? false : 'Go is not installed: apt-get install golang, or https://go.dev/doc/install';

/** Once for the machine; the module comes from its proxy the first time. @returns a complaint. */
function build(): string | undefined {
  if (existsSync(PROGRAM)) return undefined;
  const scratch = join(FOLDER, `build-${process.pid}`);
  mkdirSync(scratch, { recursive: true });
  writeFileSync(join(scratch, 'go.mod'), `module scratch\n\ngo 1.23\n`);
  for (const args of [
    ['get', `${MODULE}/pkg/test/main@${VERSION}`],
    ['build', '-o', 'test', `${MODULE}/pkg/test/main`],
  ]) {
    const { status, stderr } = spawnSync('go', args, { cwd: scratch, encoding: 'utf8', timeout: 300_000 });
    if (status !== 0) return `go ${args.join(' ')} failed: ${stderr.slice(-500)}`;
  }
  renameSync(join(scratch, 'test'), PROGRAM);
  return undefined;
}

/** The first of `count` ports in a row that are free now. */
async function freePorts(count: number): Promise<number> {
  for (;;) {
    const first = await listens(0);
    if (first === undefined || first + count > 65_535) continue;
    let free = true;
    for (let port = first + 1; port < first + count && free; port++) free = (await listens(port)) !== undefined;
    if (free) return first;
  }
}

function listens(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createTcpServer();
    server.once('error', () => resolve(undefined));
    server.listen(port, '127.0.0.1', () => {
      const found = (server.address() as AddressInfo).port;
      server.close(() => resolve(found));
    });
  });
}

const MESSAGE = 'Hi, there!\n';
/** Its HTTP listeners log to a server over gRPC. */
const LISTENERS = { http: logsOverGrpc() ? 2 : 0, tcp: 2 };

function logsOverGrpc(): boolean {
  try {
    buildAccessLogs(
      [
        {
          name: 'x',
          typed_config: {
            '@type': 'type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig',
            common_config: { log_name: 'x', grpc_service: { envoy_grpc: { cluster_name: 'x' } } },
          },
        },
      ],
      'access_log',
    );
    return true;
  } catch {
    return false;
  }
}

interface Ran {
  readonly code: number | null;
  readonly output: string;
}

function runServer(t: Scope, args: readonly string[]): { child: ChildProcess; ended: Promise<Ran> } {
  const child = spawn(PROGRAM, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  t.after(() => child.kill('SIGKILL'));
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const ended = new Promise<Ran>((resolve) => child.once('close', (code) => resolve({ code, output })));
  return { child, ended };
}

const cluster = (name: string, port: number): string => `
  - name: ${name}
    connect_timeout: 1s
    load_assignment:
      cluster_name: ${name}
      endpoints:
      - lb_endpoints:
        - endpoint: { address: { socket_address: { address: 127.0.0.1, port_value: ${port} } } }
    http2_protocol_options: {}`;

function bootstrap(mode: string, xdsPort: number, alsPort: number): string {
  const service = 'transport_api_version: V3, grpc_services: [{ envoy_grpc: { cluster_name: xds_cluster } }]';
  const isDelta = mode.startsWith('delta');
  const api = `{ api_type: ${isDelta ? 'DELTA_GRPC' : 'GRPC'}, ${service} }`;
  const source = mode.endsWith('ads') ? 'ads: {}' : `api_config_source: ${api}`;
  return `
admin: { address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }
node: { cluster: test-cluster, id: test-id }
dynamic_resources:
  ${mode.endsWith('ads') ? `ads_config: ${api}` : ''}
  cds_config: { resource_api_version: V3, ${source} }
  lds_config: { resource_api_version: V3, ${source} }
static_resources:
  clusters:${cluster('xds_cluster', xdsPort)}${cluster('als_cluster', alsPort)}
`;
}

describe('go-control-plane', { skip, concurrency: 4 }, () => {
  let complaint: string | undefined;
  before(() => {
    complaint = build();
  });

  for (const [mode, ...more] of [
    ['ads'],
    ['xds'],
    ['delta'],
    ['delta-ads'],
    ['ads', '-tls'],
    ['delta-ads', '-tls'],
    ['xds', '-mux'],
  ] as const) {
    test(`every request of ${[mode, ...more].join(' ')} is answered after each snapshot`, async (t) => {
      if (complaint !== undefined) return t.skip(complaint);
      const upstream = createServer((_request, response) => response.end(MESSAGE)).listen(0, '127.0.0.1');
      t.after(() => upstream.close());
      await once(upstream, 'listening');
      const upstreamPort = (upstream.address() as AddressInfo).port;
      const port = await freePorts(3);
      const base = await freePorts(LISTENERS.http + LISTENERS.tcp);
      const server = runServer(t, [
        `-xds=${mode}`,
        `-port=${port}`,
        `-gateway=${port + 1}`,
        `-als=${port + 2}`,
        `-upstream=${upstreamPort}`,
        `-base=${base}`,
        `-message=${MESSAGE}`,
        `-http=${LISTENERS.http}`,
        `-tcp=${LISTENERS.tcp}`,
        '-scopedhttp=0',
        '-vhdshttp=0',
        '-delay=100ms',
        '-r=5',
        ...more,
      ]);
      const proxy = new PillionProcess(t, [
        '--config-yaml',
        bootstrap(mode, port, port + 2),
        '--concurrency',
        '1',
        '--drain-time-s',
        '1',
        '-l',
        'warning',
      ]);
      const { code, output } = await server.ended;
      proxy.signal('SIGTERM');
      const { stderr } = await proxy.ended;
      assert.equal(code, 0, `${output.split('\n').slice(-15).join('\n')}\n${stderr.slice(-3000)}`);
      assert.match(output, /passed!/);
    });
  }
});

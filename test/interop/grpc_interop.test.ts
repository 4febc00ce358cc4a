/** gRPC's own interoperability cases: grpc-go's client and server, through two proxies in a row, over h2c. */
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { promisify } from 'node:util';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { findProgram } from '../support/find_program.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { eventually } from '../support/eventually.ts';
import { freePort } from '../support/free_port.ts';

const MODULE = 'google.golang.org/grpc';
const VERSION = 'v1.65.0';
const CASES = [
  'empty_unary',
  'large_unary',
  'client_streaming',
  'server_streaming',
  'ping_pong',
  'empty_stream',
  'timeout_on_sleeping_server',
  'cancel_after_begin',
  'cancel_after_first_response',
  'status_code_and_message',
  'special_status_message',
  'custom_metadata',
  'unimplemented_method',
  'unimplemented_service',
];
const go = findProgram('go');
const run = promisify(execFile);
/** Built once, by the first run of this test on a machine. */
const folder = join(tmpdir(), `pillion-grpc-interop-${VERSION}`);
const programs = ['client', 'server'].map((name) => join(folder, name)) as [client: string, server: string];
const skip = go === undefined ? 'Go is not installed: https://go.dev/dl/' : await built();
const scope = fileScope();
let port = 0;

/** false: both programs are there. */
async function built(): Promise<string | false> {
  if (programs.every((path) => existsSync(path))) return false;
  mkdirSync(folder, { recursive: true });
  const packages = ['client', 'server'].map((name) => `${MODULE}/interop/${name}@${VERSION}`);
  try {
    await run(go as string, ['install', ...packages], { env: { ...process.env, GOBIN: folder }, timeout: 240_000 });
    return false;
  } catch (error) {
    return `go install ${packages.join(' ')} failed: ${(error as Error).message.split('\n').at(-2)}`;
  }
}

before(async () => {
  if (skip !== false) return;
  const server = await startServer();
  const http2 = {
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
  };
  const resources = (upstream: number): Parameters<typeof startTestProxy>[1] => [
    httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'next', timeout: '0s' } }]) }),
    staticCluster('next', [upstream], http2),
  ];
  const inner = await startTestProxy(scope, resources(server));
  const outer = await startTestProxy(scope, resources(inner.port()));
  port = outer.port();
});

/** The server takes a port of our choice. */
async function startServer(): Promise<number> {
  const free = await freePort();
  const child = spawn(programs[1], ['-port', String(free)], { stdio: 'ignore' });
  scope.after(() => child.kill('SIGKILL'));
  await eventually(
    'the interop server listens',
    () =>
      new Promise<boolean>((resolve) => {
        const socket = connect(free, '127.0.0.1', () => {
          socket.destroy();
          resolve(true);
        });
        socket.on('error', () => resolve(false));
      }),
  );
  return free;
}

for (const name of CASES) {
  test(`gRPC interop case ${name} passes through two proxies`, { skip, timeout: 90_000 }, async () => {
    const args = ['-server_host', '127.0.0.1', '-server_port', String(port), '-test_case', name];
    const { code } = await run(programs[0], args).then(
      () => ({ code: 0 }),
      (error: { code: number; stderr: string }) => {
        assert.fail(error.stderr);
      },
    );
    assert.equal(code, 0);
  });
}

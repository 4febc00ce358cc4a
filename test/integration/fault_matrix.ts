/**
 * Real replicas as processes that are killed, reset, stall, are slow, half-close, corrupt and flood, one of three at a time,
 * under a steady load; over HTTP/1.1, HTTP/2 and gRPC, each with mutual TLS on both sides and without. Short in `npm test`;
 * `npm run soak -- matrix SECONDS`.
 */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { type Asker, type ClientTls, grpcAsker, http1Asker, http2Asker, type Outcome } from '../support/fault_load.ts';
import { FaultProcess, type FaultProtocol, WIRE_MISDEEDS, type WireMisdeed } from '../support/fault_process.ts';
import { downstreamTls, type KeyPair, MeshCa, upstreamTls } from '../support/mesh_ca.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { HTTP2, ISTIO_OUTLIER, ISTIO_RETRIES } from './nothing_falls_over.ts';

export type AskedProtocol = Exclude<FaultProtocol, 'tcp'>;

export interface MatrixOptions {
  readonly protocol: AskedProtocol;
  readonly isMutual: boolean;
  /** Of each misdeed. */
  readonly requests: number;
  readonly log: (line: string) => void;
}

/** At most so many of a hundred answers may be cut after they had begun: nobody may ask again then, Envoy neither. */
const MOST_BEGUN_PERCENT = 2;
/** Answers come all the same: late, or before what nobody asked for. */
const HARMLESS: ReadonlySet<WireMisdeed> = new Set(['slow', 'flood']);
const CONCURRENCY = 8;
/** Every fifth may not be sent twice. */
const ONCE_EVERY = 5;

export const ASKERS: Readonly<Record<AskedProtocol, (port: number, tls: ClientTls | undefined) => Asker>> = {
  http1: http1Asker,
  http2: http2Asker,
  grpc: grpcAsker,
};

/** Who everybody is. */
export class MatrixMesh {
  readonly ca = new MeshCa();
  readonly server = this.#pair('server');
  readonly proxy = this.#pair('proxy');
  readonly client = this.#pair('client');

  #pair(name: string): KeyPair {
    return this.ca.issue(`spiffe://cluster.local/ns/default/sa/${name}`);
  }

  /** Of Node's servers and clients. */
  node({ chain, key }: KeyPair): ClientTls {
    return { cert: chain, key, ca: this.ca.pem };
  }

  /** transport_socket of the cluster. */
  upstream(alpn: readonly string[]): Json {
    return upstreamTls({
      own: this.proxy,
      roots: this.ca.pem,
      uris: ['spiffe://cluster.local/ns/default/sa/server'],
      alpn,
    });
  }

  /** The listener, with mutual TLS on its one chain. */
  downstream(listener: Resource, alpn: readonly string[]): Resource {
    const [chain] = listener.json['filter_chains'] as Json[];
    const transport_socket = downstreamTls({ own: this.proxy, roots: this.ca.pem, prefix: 'spiffe://', alpn });
    return { ...listener, json: { ...listener.json, filter_chains: [{ ...chain, transport_socket }] } };
  }
}

/** A listener and its cluster, both of that name: what may be sent again, and what may not. */
export function httpMatrixResources(
  name: string,
  ports: readonly number[],
  protocol: AskedProtocol,
  mesh: MatrixMesh | undefined,
  more: Json = {},
  perTrySeconds = 0.6,
): Resource[] {
  const again = {
    ...ISTIO_RETRIES,
    retry_on: '5xx,reset,connect-failure,refused-stream,unavailable',
    per_try_timeout: `${perTrySeconds}s`,
  };
  const paths = protocol === 'grpc' ? ['/test.Fault/Again', '/test.Fault/Once'] : ['/again', '/once'];
  const listener = httpListener({
    name,
    routes: routeConfig([
      { match: { path: paths[0] }, route: { cluster: name, timeout: '60s', retry_policy: again } },
      { match: { path: paths[1] }, route: { cluster: name, timeout: '0.4s' } },
    ]),
  });
  const cluster = staticCluster(name, ports, {
    lb_policy: 'LEAST_REQUEST',
    // Back soon: the next misdeed is met again.
    outlier_detection: { ...ISTIO_OUTLIER, interval: '0.05s', base_ejection_time: '0.1s', max_ejection_time: '0.1s' },
    common_lb_config: { healthy_panic_threshold: {} },
    circuit_breakers: { thresholds: [{ max_retries: 1000 }] },
    ...(protocol !== 'http1' && HTTP2),
    ...(mesh !== undefined && { transport_socket: mesh.upstream([protocol === 'http1' ? 'http/1.1' : 'h2']) }),
    ...more,
  });
  return [mesh?.downstream(listener, ['h2', 'http/1.1']) ?? listener, cluster];
}

export interface Tally {
  readonly asked: number;
  readonly begun: number;
  /** Of requests that may be sent again: how many ended how. */
  readonly failed: ReadonlyMap<string, number>;
}

/** Asks until both `requests` were asked and `until` has come. */
async function load(asker: Asker, prefix: string, requests: number, until: Promise<void>): Promise<Tally> {
  let isOver = false;
  void until.finally(() => {
    isOver = true;
  });
  const failed = new Map<string, number>();
  let next = 0;
  let begun = 0;
  await Promise.all(
    Array.from({ length: CONCURRENCY }, async () => {
      while (next < requests || !isOver) {
        const number = next++;
        const kind = number % ONCE_EVERY === 0 ? 'once' : 'again';
        const outcome: Outcome = await asker.ask(kind, `${prefix}-${kind}-${number}`);
        if (outcome === 'ok' || kind === 'once') continue;
        if (outcome.startsWith('begun')) begun++;
        else failed.set(outcome, (failed.get(outcome) ?? 0) + 1);
      }
    }),
  );
  return { asked: next, begun, failed };
}

export async function faultMatrix(scope: Scope, options: MatrixOptions): Promise<void> {
  const { protocol, isMutual, requests, log } = options;
  const mesh = isMutual ? new MatrixMesh() : undefined;
  const tls = mesh?.node(mesh.server);
  const replicas = await Promise.all([1, 2, 3].map(() => FaultProcess.start(scope, { protocol, tls })));
  const proxy = await startTestProxy(
    scope,
    httpMatrixResources(
      'up',
      replicas.map(({ port }) => port),
      protocol,
      mesh,
    ),
    { concurrency: 2 },
  );
  const asker = ASKERS[protocol](proxy.port('up'), mesh?.node(mesh.client));
  // What the first requests bring along is no leak: threads, contexts, connections of the balancer's first choices.
  await load(asker, 'first', 16, Promise.resolve());
  const before = descriptors();
  let asked = 0;
  let begun = 0;
  const [bad] = replicas as [FaultProcess];
  const round = async (says: string, until: Promise<void>): Promise<void> => {
    const tally = await load(asker, says, requests, until);
    log(`${protocol}${isMutual ? ' over mTLS' : ''}, ${says}: ${tally.asked} asked, ${tally.begun} cut after the head`);
    assert.deepEqual([...tally.failed], [], `${says}: requests that may be sent again and failed`);
    asked += tally.asked;
    begun += tally.begun;
  };
  const retries = (): number => proxy.value('cluster.up.upstream_rq_retry');
  for (const misdeed of WIRE_MISDEEDS) {
    // Whoever is left out shows nothing.
    await eventually('all are asked again', () => proxy.value('cluster.up.outlier_detection.ejections_active') === 0);
    const retriesBefore = retries();
    await bad.behave(misdeed);
    await round(misdeed, Promise.resolve());
    if (!HARMLESS.has(misdeed)) assert.ok(retries() > retriesBefore, `${misdeed} was not met`);
  }
  await bad.behave('fine');
  await round(
    'killed',
    bad.kill().then(() => bad.restart()),
  );
  assert.ok(begun <= Math.max(1, (asked * MOST_BEGUN_PERCENT) / 100), `${begun} of ${asked} answers were cut`);
  const served = new Map<string, number>();
  for (const replica of replicas) {
    for (const [id, times] of replica.served()) served.set(id, (served.get(id) ?? 0) + times);
  }
  const twice = [...served].filter(([id, times]) => id.includes('-once-') && times > 1);
  assert.deepEqual(twice, [], 'sent twice without permission');
  asker.close();
  await nothingLeft(proxy, before);
}

/** Open files of this process: sockets of all threads are among them. */
export function descriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

/** Gauges zero, slots free, descriptors as before. */
export async function nothingLeft(proxy: TestProxy, descriptorsBefore: number): Promise<void> {
  const gauges = ['downstream_rq_active', 'downstream_cx_active'].map((name) => `http.test.${name}`);
  gauges.push(...['rq_active', 'rq_pending_active'].map((name) => `cluster.up.upstream_${name}`));
  gauges.push('tcp.test.downstream_cx_active');
  const busy = (): string[] => gauges.filter((name) => proxy.value(name) !== 0);
  await eventually(`no request is under way (${busy().join(', ')})`, () => busy().length === 0);
  assert.equal(proxy.value('server.worker_restarts'), 0);
  assert.deepEqual(proxy.errors, []);
  // With its cluster the connections that were kept go.
  assert.deepEqual(proxy.set([]).rejected, []);
  await eventually('no connection is left', () => proxy.value('cluster.up.upstream_cx_active') === 0);
  await eventually('every shared slot is free', () => proxy.running.threads.usedSlots().clusters === 0);
  await eventually(
    `descriptors are as they were (${descriptorsBefore} before, ${descriptors()} now)`,
    () => descriptors() <= descriptorsBefore,
  );
}

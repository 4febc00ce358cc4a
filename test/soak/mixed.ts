/**
 * `npm run soak`: everything for ten minutes. HTTP/1.1, HTTP/2, gRPC and TCP, with and without mutual TLS, replicas that
 * misbehave in turn and die, configurations that change, clusters that come and go. No request that may be sent again fails,
 * and at the end heaps, handles, sockets and timers are as flat as they were. `npm run soak -- mixed SECONDS`; short in
 * `npm test`.
 */
import assert from 'node:assert/strict';
import type { Json, Resource } from '../../config/resources.ts';
import {
  ASKERS,
  type AskedProtocol,
  descriptors,
  httpMatrixResources,
  MatrixMesh,
} from '../integration/fault_matrix.ts';
import { talk } from '../integration/fault_matrix_tcp.ts';
import { staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { FaultProcess, type FaultProtocol, WIRE_MISDEEDS } from '../support/fault_process.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { tcpListener } from '../support/tcp_resources.ts';
import { flatness, type Sample, type Slack, table } from './flatness.ts';

interface Group {
  readonly name: string;
  readonly protocol: FaultProtocol;
  readonly mesh: MatrixMesh | undefined;
  /** The first misbehaves. */
  readonly replicas: readonly FaultProcess[];
}

const GROUPS: readonly (readonly [FaultProtocol, boolean])[] = [
  ['http1', false],
  ['http1', true],
  ['http2', true],
  ['grpc', false],
  ['grpc', true],
  ['tcp', false],
  ['tcp', true],
];
const CLIENTS_EACH = 2;
/** Between two requests of a client: the machine is not to be the limit. */
const PAUSE_MS = 15;
/** Long: the machine may have more to do than this. */
const PER_TRY_SECONDS = 2;
const TURN_MS = 3000;
const RELOAD_MS = 1000;
const ONCE_EVERY = 5;
const SAMPLES = 120;
const ROWS = 20;
/** From here on flatness means something: heaps have found their size. */
const LONG_SECONDS = 120;
const MOST_BEGUN_PERCENT = 2;
const MB = 2 ** 20;

/** What must not grow. */
const SLACKS: Readonly<Record<string, Slack>> = {
  'data heap MB': { ratio: 0.15, amount: 3 },
  'main heap MB': { ratio: 0.15, amount: 8 },
  'RSS MB': { ratio: 0.1, amount: 24 },
  descriptors: { ratio: 0.1, amount: 16 },
  handles: { ratio: 0.1, amount: 16 },
  timers: { ratio: 0.1, amount: 6 },
  deadlines: { ratio: 0.1, amount: 24 },
};

/** What a thread says that gets too little of the machine (proxy/overload): it has done nothing for the request. */
const SHED = /envoy overloaded/;

interface Tallies {
  asked: number;
  begun: number;
  shed: number;
  readonly failed: Map<string, number>;
}

export async function mixed(scope: Scope, seconds: number, log: (line: string) => void): Promise<void> {
  const groups = await Promise.all(GROUPS.map(([protocol, isMutual]) => startGroup(scope, protocol, isMutual)));
  let step = 0;
  const proxy = await startTestProxy(scope, state(step, groups), { concurrency: 2 });
  const tallies: Tallies = { asked: 0, begun: 0, shed: 0, failed: new Map() };
  let isOver = false;
  const over = (): boolean => isOver;
  const loads = groups.flatMap((group) =>
    Array.from({ length: CLIENTS_EACH }, (_, number) => load(proxy, group, number, tallies, over)),
  );
  const turns = groups.map((group, index) => misbehave(group, index, over));
  const reloading = every(RELOAD_MS, over, () => assert.deepEqual(proxy.set(state(++step, groups)).rejected, []));
  const samples: Sample[] = [];
  const startMs = performance.now();
  for (let number = 1; number <= SAMPLES; number++) {
    const dueMs = startMs + (seconds * 1000 * number) / SAMPLES;
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, dueMs - performance.now())));
    samples.push(await look(proxy, tallies, performance.now() - startMs));
    if (number === SAMPLES) isOver = true;
  }
  await Promise.all([...turns, reloading]);
  // Who waits at a replica that swallows everything hears that it is over.
  await Promise.all(groups.map(({ replicas }) => replicas[0]?.behave('fine')));
  await Promise.all(loads);
  log(report(samples));
  log(
    `${tallies.asked} asked, ${tallies.begun} answers cut after their head, ${tallies.shed} shed by late threads, ${step} reloads`,
  );
  assert.deepEqual([...tallies.failed], [], 'what failed and may not');
  assert.ok(tallies.begun <= Math.max(2, (tallies.asked * MOST_BEGUN_PERCENT) / 100), `${tallies.begun} were cut`);
  assert.ok(tallies.shed <= tallies.asked / 100, `${tallies.shed} were shed`);
  assert.equal(proxy.value('server.worker_restarts'), 0);
  assert.deepEqual(proxy.errors, []);
  const flat = flatness(samples, SLACKS);
  log(table([['', 'first half', 'second half', ''], ...flat.map(rowOf)]));
  // In seconds heaps are still finding their size.
  if (seconds >= LONG_SECONDS)
    assert.deepEqual(
      flat.filter(({ isFlat }) => !isFlat),
      [],
      'not flat',
    );
  assert.deepEqual(proxy.set([]).rejected, []);
  await eventually('every shared slot is free', () => proxy.running.threads.usedSlots().clusters === 0);
}

const rowOf = ({ quantity, first, second, isFlat }: ReturnType<typeof flatness>[number]): string[] => [
  quantity,
  first.toFixed(1),
  second.toFixed(1),
  isFlat ? 'flat' : 'NOT FLAT',
];

async function startGroup(scope: Scope, protocol: FaultProtocol, isMutual: boolean): Promise<Group> {
  const mesh = isMutual ? new MatrixMesh() : undefined;
  const tls = mesh?.node(mesh.server);
  const count = protocol === 'tcp' ? 1 : 2;
  const replicas = await Promise.all(Array.from({ length: count }, () => FaultProcess.start(scope, { protocol, tls })));
  return { name: `${protocol}${isMutual ? '-mtls' : ''}`, protocol, mesh, replicas };
}

/** Clusters of the groups with times that change, and some that come and go. */
function state(step: number, groups: readonly Group[]): Resource[] {
  const passing = Array.from({ length: 8 }, (_, index) => staticCluster(`passing-${(step + index) % 24}`, [9]));
  return [...groups.flatMap((group) => groupResources(group, step)), ...passing];
}

function groupResources({ name, protocol, mesh, replicas }: Group, step: number): Resource[] {
  const ports = replicas.map(({ port }) => port);
  const changing: Json = { connect_timeout: `${4 + (step % 3)}s` };
  if (protocol !== 'tcp') return httpMatrixResources(name, ports, protocol, mesh, changing, PER_TRY_SECONDS);
  const listener = tcpListener(name, { name });
  return [
    mesh?.downstream(listener, []) ?? listener,
    staticCluster(name, ports, { ...changing, ...(mesh !== undefined && { transport_socket: mesh.upstream([]) }) }),
  ];
}

async function load(
  proxy: TestProxy,
  group: Group,
  client: number,
  tallies: Tallies,
  over: () => boolean,
): Promise<void> {
  const { name, protocol, mesh } = group;
  const port = proxy.port(name);
  const tls = mesh?.node(mesh.client);
  const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  if (protocol === 'tcp') {
    while (!over()) {
      // How it ends is for the fault matrix to judge: here it has to end.
      await talk(port, tls, 1);
      tallies.asked++;
      await pause();
    }
    return;
  }
  const asker = ASKERS[protocol as AskedProtocol](port, tls);
  for (let number = 0; !over(); number++) {
    const kind = number % ONCE_EVERY === 0 ? 'once' : 'again';
    const outcome = await asker.ask(kind, `${client}-${number}`);
    tallies.asked++;
    if (outcome.startsWith('begun')) tallies.begun++;
    else if (SHED.test(outcome)) tallies.shed++;
    else if (outcome !== 'ok' && kind === 'again') {
      const key = `${name} ${outcome}`;
      tallies.failed.set(key, (tallies.failed.get(key) ?? 0) + 1);
    }
    await pause();
  }
  asker.close();
}

/** One misdeed after the other, then a death. */
async function misbehave({ replicas }: Group, index: number, over: () => boolean): Promise<void> {
  const [bad] = replicas as [FaultProcess];
  let turn = index;
  await every(TURN_MS, over, async () => {
    const misdeed = WIRE_MISDEEDS[turn++ % (WIRE_MISDEEDS.length + 1)];
    if (misdeed !== undefined) return bad.behave(misdeed);
    await bad.kill();
    await bad.restart();
  });
}

async function every(ms: number, over: () => boolean, work: () => unknown): Promise<void> {
  while (!over()) {
    await new Promise((resolve) => setTimeout(resolve, ms));
    if (!over()) await work();
  }
}

async function look(proxy: TestProxy, { asked }: Tallies, elapsedMs: number): Promise<Sample> {
  const threads = (await proxy.running.threads.describe()).map(({ resources }) => resources);
  const sum = (of: (thread: (typeof threads)[number]) => number): number =>
    threads.reduce((total, thread) => total + of(thread), 0);
  return {
    s: elapsedMs / 1000,
    requests: asked,
    'data heap MB': sum(({ heapBytes }) => heapBytes) / MB,
    'main heap MB': process.memoryUsage().heapUsed / MB,
    'RSS MB': process.memoryUsage.rss() / MB,
    descriptors: descriptors(),
    handles: sum(({ handles }) => handles) + process.getActiveResourcesInfo().length,
    timers: sum(({ timers }) => timers),
    deadlines: sum(({ deadlines }) => deadlines),
  };
}

function report(samples: readonly Sample[]): string {
  const names = Object.keys(samples[0] ?? {});
  const shown = samples.filter((_, index) => (index + 1) % Math.max(1, Math.round(samples.length / ROWS)) === 0);
  const rows = shown.map((sample) => names.map((name) => (sample[name] ?? 0).toFixed(name.endsWith('MB') ? 1 : 0)));
  return table([names, ...rows]);
}

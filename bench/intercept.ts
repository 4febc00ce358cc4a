/**
 * What interception costs a connection: `npm run bench -- intercept`. In network namespaces, as root: a pod with the rules
 * of `pillion capture`, nginx outside, wrk in the pod with a connection for each request. Rounds alternate between a
 * server's own address, which iptables redirects to 15001 and use_original_dst hands on, and a bound port of the same
 * proxy with the same filter chain and cluster.
 */
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Json } from '../config/resources.ts';
import { type NamespaceProcess, type NetNamespace, skipWithoutNetNamespaces } from '../test/support/net_namespace.ts';
import { APP, network, PROXY } from '../test/support/pod_network.ts';
import { tcpProxy } from '../test/support/tcp_resources.ts';
import { readWrk } from './measure/wrk.ts';
import { root } from './peers.ts';
import { cpuSeconds } from './process_cpu.ts';
import { findProgram, scratchFile } from './programs.ts';
import { LOAD_CORE, nginxFolder, nginxHead } from './upstream.ts';

const SERVER_IP = '10.77.0.1';
const SERVER_PORT = 8080;
const BOUND_PORT = 18_080;
const PROXY_CORE = 0;
const CONNECTIONS = 10;

interface Sample {
  readonly cpuMicros: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly perSecond: number;
}

export async function intercept(rounds: number, seconds: number): Promise<void> {
  if (skipWithoutNetNamespaces !== false) throw new Error(`Cannot measure interception: ${skipWithoutNetNamespaces}`);
  const closers: (() => unknown)[] = [];
  const scope = { after: (close: () => unknown) => void closers.push(close) };
  try {
    const { outside, pod } = network(scope);
    for (const where of [outside, pod]) forgetQuickly(where);
    await startServer(outside);
    const proxy = await startProxy(pod);
    const measure = (url: string): Sample => measureOnce(pod, proxy, url, seconds);
    const ways = { redirected: `http://${SERVER_IP}:${SERVER_PORT}/`, bound: `http://127.0.0.1:${BOUND_PORT}/` };
    for (const url of Object.values(ways)) measure(url);
    const samples: { readonly redirected: Sample; readonly bound: Sample }[] = [];
    for (let round = 0; round < rounds; round++) {
      // Each is first as often as it is second.
      const first = round % 2 === 0 ? 'redirected' : 'bound';
      const a = measure(ways[first]);
      const b = measure(ways[first === 'bound' ? 'redirected' : 'bound']);
      samples.push(first === 'bound' ? { redirected: b, bound: a } : { redirected: a, bound: b });
    }
    report(samples);
  } finally {
    for (const close of closers.reverse()) close();
  }
}

/**
 * A connection a request leaves 20,000 behind in a few seconds: ports that cannot be had again, and entries among which
 * netfilter looks for a free one. Neither is what is measured.
 */
function forgetQuickly(where: NetNamespace): void {
  const settings = {
    'ipv4/ip_local_port_range': '1024 65000',
    'ipv4/tcp_tw_reuse': '1',
    'netfilter/nf_conntrack_tcp_timeout_time_wait': '1',
    'netfilter/nf_conntrack_tcp_timeout_close': '1',
    'netfilter/nf_conntrack_tcp_timeout_last_ack': '1',
  };
  for (const [name, value] of Object.entries(settings)) {
    // Without rules a namespace has no netfilter to set.
    where.run(['sh', '-c', `test ! -w /proc/sys/net/${name} || echo '${value}' > /proc/sys/net/${name}`]);
  }
}

async function startServer(outside: NetNamespace): Promise<void> {
  const program = findProgram('nginx');
  if (program === undefined) throw new Error('nginx is not installed (apt-get install nginx-light)');
  const folder = nginxFolder();
  const path = join(folder, 'nginx.conf');
  const answer = 'x'.repeat(64);
  writeFileSync(
    path,
    `master_process off; ${nginxHead(folder)}server { listen ${SERVER_IP}:${SERVER_PORT}; location / { return 200 "${answer}"; } } }\n`,
  );
  outside.start(['taskset', '-c', String(LOAD_CORE), program, '-c', path]);
  const answers = (): boolean => {
    try {
      return outside.run(['curl', '-s', `http://${SERVER_IP}:${SERVER_PORT}/`]) === answer;
    } catch {
      return false;
    }
  };
  for (let attempt = 0; !answers(); attempt++) {
    if (attempt > 100) throw new Error('nginx does not answer');
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function startProxy(pod: NetNamespace): Promise<NamespaceProcess> {
  if (!existsSync(join(root, 'dist'))) throw new Error('dist is not there: npm run build');
  const path = scratchFile('intercept.json', JSON.stringify(BOOTSTRAP));
  const proxy = pod.start(
    [
      'env',
      'PILLION_DIST=1',
      'taskset',
      '-c',
      String(PROXY_CORE),
      join(root, 'bin/pillion'),
      'run',
      '-c',
      path,
      '--concurrency',
      '1',
    ],
    { id: PROXY, cwd: root },
  );
  await proxy.until(/bound listens on/);
  return proxy;
}

function measureOnce(pod: NetNamespace, proxy: NamespaceProcess, url: string, seconds: number): Sample {
  const pids = [proxy.child.pid as number];
  const before = cpuSeconds(pids);
  const words = ['wrk', '-t1', `-c${CONNECTIONS}`, `-d${seconds}s`, '--latency', '-H', 'connection: close', url];
  const result = readWrk(pod.run(['taskset', '-c', String(LOAD_CORE), ...words], { id: APP }));
  if (result.errors > 0 || result.requests === 0)
    throw new Error(`${url}: ${result.errors} errors in ${result.requests} requests`);
  return {
    cpuMicros: ((cpuSeconds(pids) - before) / result.requests) * 1e6,
    p50Ms: result.p50Ms,
    p99Ms: result.p99Ms,
    perSecond: result.requests / result.seconds,
  };
}

function report(samples: readonly { readonly redirected: Sample; readonly bound: Sample }[]): void {
  const of = (way: 'redirected' | 'bound', figure: keyof Sample): number =>
    median(samples.map((sample) => sample[way][figure]));
  const added = (figure: keyof Sample): number[] =>
    samples.map(({ redirected, bound }) => redirected[figure] - bound[figure]).sort((a, b) => a - b);
  const cpu = added('cpuMicros');
  // On a machine that others use too, the least is nearest to what it costs.
  const least = (way: 'redirected' | 'bound'): number => Math.min(...samples.map((sample) => sample[way].cpuMicros));
  console.log(`${samples.length} rounds, a connection a request, ${CONNECTIONS} at a time`);
  for (const way of ['redirected', 'bound'] as const) {
    console.log(
      `${way.padEnd(10)} ${of(way, 'cpuMicros').toFixed(1)} µs CPU a connection (least ${least(way).toFixed(1)}), p50 ${of(way, 'p50Ms').toFixed(2)} ms, p99 ${of(way, 'p99Ms').toFixed(2)} ms, ${Math.round(of(way, 'perSecond'))}/s`,
    );
  }
  console.log(
    `added      ${median(cpu).toFixed(1)} µs CPU (quartiles ${quantile(cpu, 0.25).toFixed(1)} to ${quantile(cpu, 0.75).toFixed(1)}), p50 ${(median(added('p50Ms')) * 1000).toFixed(0)} µs`,
  );
}

const median = (values: readonly number[]): number =>
  quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  );

/** `sorted`: ascending. */
function quantile(sorted: readonly number[], share: number): number {
  const at = (sorted.length - 1) * share;
  const low = sorted[Math.floor(at)] ?? 0;
  const high = sorted[Math.ceil(at)] ?? low;
  return low + (high - low) * (at - Math.floor(at));
}

const address = (ip: string, port: number): Json => ({ socket_address: { address: ip, port_value: port } });
const chains = (cluster: string): Json => ({ filter_chains: [{ filters: [tcpProxy({ cluster })] }] });

const BOOTSTRAP: Json = {
  static_resources: {
    listeners: [
      { name: 'virtualOutbound', address: address('0.0.0.0', 15_001), use_original_dst: true, ...chains('nowhere') },
      { name: 'dialled', address: address(SERVER_IP, SERVER_PORT), bind_to_port: false, ...chains('server') },
      { name: 'bound', address: address('127.0.0.1', BOUND_PORT), ...chains('server') },
    ],
    clusters: [
      { name: 'nowhere', type: 'STATIC', connect_timeout: '1s' },
      {
        name: 'server',
        type: 'STATIC',
        connect_timeout: '5s',
        load_assignment: {
          cluster_name: 'server',
          endpoints: [{ lb_endpoints: [{ endpoint: { address: address(SERVER_IP, SERVER_PORT) } }] }],
        },
      },
    ],
  },
};

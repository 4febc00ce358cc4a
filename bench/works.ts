/** What is measured. A later work (HTTP/2, gRPC, TLS, policy) is one more entry. */
import type { BootstrapOptions } from './bootstrap.ts';
import type { Http2Load } from './measure/h2load.ts';
import { TOKEN_PATH } from './policy.ts';

export interface Work {
  readonly name: string;
  readonly says: string;
  /** load: saturated, CPU a request. rate: latency at half of Envoy's saturation. The others as they say. */
  readonly kind: 'load' | 'rate' | 'idle' | 'start' | 'reload';
  readonly path: string;
  readonly connections: number;
  /** Default 1, pinned to one core; 2: not pinned. */
  readonly concurrency?: number;
  /** HTTP/2 on both sides, with h2load as the client. */
  readonly http2?: Http2Load;
  /** A POST with so many bytes instead of a GET. */
  readonly bodyBytes?: number;
  readonly config: Omit<BootstrapOptions, 'accessLog'>;
  /** A file access log in Istio's format. */
  readonly accessLog?: boolean;
  readonly peers: readonly string[];
}

const PROXIES = ['pillion', 'envoy', 'haproxy', 'nginx'];
const NODE = ['http-proxy', 'http2-proxy', 'undici'];
const BOTH = ['pillion', 'envoy'];
const base = { kind: 'load', path: '/small', connections: 50, config: {}, peers: PROXIES } as const;

export const works: readonly Work[] = [
  { ...base, name: 'small', says: '64-byte answers, router only, keep-alive', peers: [...PROXIES, ...NODE] },
  {
    ...base,
    name: 'chain',
    says: 'the same through cors and istio.stats (Envoy: router only)',
    config: { chain: true },
    peers: [...BOTH, 'haproxy'],
  },
  { ...base, name: 'large', says: '1 MB answers', path: '/large', connections: 20, peers: [...PROXIES, ...NODE] },
  { ...base, name: 'post', says: 'POST with 10 KB', bodyBytes: 10_240 },
  { ...base, name: 'post-large', says: 'POST with 1 MB', bodyBytes: 1_048_576, connections: 20 },
  ...(
    [
      ['h2-4x16', 4, { streams: 16 }, '64-byte answers'],
      ['h2-32x1', 32, { streams: 1 }, '64-byte answers'],
      ['grpc-unary', 4, { streams: 16, grpc: true }, 'unary gRPC, 1 KB each way'],
    ] as const
  ).map(
    ([name, connections, http2, what]): Work => ({
      ...base,
      name,
      says: `HTTP/2 on both sides, ${connections} connections with ${http2.streams} streams: ${what}`,
      connections,
      http2,
      ...(name === 'grpc-unary' && { path: '/grpc', bodyBytes: 1024 }),
      config: { http2: true },
      peers: [...BOTH, 'haproxy'],
    }),
  ),
  { ...base, name: 'access-log', says: 'Istio access log to a file in both', accessLog: true, peers: BOTH },
  {
    ...base,
    name: 'tcp-large',
    says: '1 MB answers as bytes of TCP',
    path: '/large',
    connections: 20,
    config: { tcp: true },
    peers: BOTH,
  },
  ...(
    [
      ['kept', 'on kept connections'],
      ['full', 'with a full handshake each'],
      ['resumed', 'with a resumed session each'],
      ['full-tls12', 'with a full handshake each, TLS 1.2'],
      ['resumed-tls12', 'with a resumed session each, TLS 1.2'],
    ] as const
  ).map(
    ([mutualTls, says]): Work => ({
      ...base,
      name: `mtls-${mutualTls}`,
      says: `two sidecars in one process, mutual TLS between them ${says}`,
      connections: mutualTls === 'kept' ? 50 : 10,
      config: { mutualTls },
      peers: BOTH,
    }),
  ),
  {
    ...base,
    name: 'policy',
    says: 'a token seen before and 50 authorization rules',
    path: TOKEN_PATH,
    config: { policy: true },
    peers: BOTH,
  },
  {
    ...base,
    name: 'policy-mtls',
    says: 'the same on the server of two sidecars in one process, mutual TLS between them',
    path: TOKEN_PATH,
    config: { policy: true, mutualTls: 'kept' },
    peers: BOTH,
  },
  {
    ...base,
    name: 'resilience',
    says: 'retries, timeouts, hedging, breakers, ejection, health checks, rate limit, faults, mirrors: all on, none firing',
    config: { resilience: true },
    peers: [...BOTH, 'pillion-bare'],
  },
  ...[10, 10_000].flatMap((routes): Work[] => [
    {
      ...base,
      name: `routes-${routes}-last`,
      says: `${routes} routes (70 % exact, 25 % prefix, 5 % regex or header), the last one hit`,
      path: `/prefix-${routes - 1}/x`,
      config: { routes },
      peers: BOTH,
    },
    {
      ...base,
      name: `routes-${routes}-miss`,
      says: `${routes} routes, none hit but the one behind them`,
      path: '/nothing/like/it',
      config: { routes },
      peers: BOTH,
    },
  ]),
  { ...base, kind: 'start', name: 'start', says: 'an empty machine to the first answer; memory at rest', peers: BOTH },
  ...[10, 5000].map(
    (clusters): Work => ({
      ...base,
      kind: 'start',
      name: `clusters-${clusters}`,
      says: `start with ${clusters} clusters, concurrency 2`,
      concurrency: 2,
      config: { clusters },
      peers: BOTH,
    }),
  ),
  {
    ...base,
    kind: 'idle',
    name: 'idle',
    says: '10,000 connections that asked once',
    connections: 10_000,
    peers: ['pillion', 'envoy', 'nginx'],
  },
  {
    ...base,
    kind: 'rate',
    name: 'latency',
    says: "half of Envoy's saturation rate, concurrency 2",
    concurrency: 2,
    peers: BOTH,
  },
  {
    ...base,
    kind: 'reload',
    name: 'reload',
    says: 'load while the file changes five times a second',
    peers: ['pillion'],
  },
];

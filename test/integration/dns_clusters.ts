/** Clusters that ask a name server of the test, and who asks them. */
import { once } from 'node:events';
import { Agent, createServer, request } from 'node:http';
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig } from '../support/envoy_resources.ts';
import type { LyingDns } from '../support/lying_dns.ts';
import type { TestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';
import { ISTIO_RETRIES } from './nothing_falls_over.ts';

/** An upstream on all of 127.0.0.0/8: it answers with the address that was connected to. */
export async function startUpstream(t: Scope): Promise<number> {
  const server = createServer((asked, response) => void response.end(asked.socket.localAddress));
  server.listen(0, '0.0.0.0');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return (server.address() as { port: number }).port;
}

export const TYPE = 'type.googleapis.com/envoy.extensions';
export const address = (dns: LyingDns): Json => ({ socket_address: { address: '127.0.0.1', port_value: dns.port } });
export const cares = (dns: LyingDns, more: Json = {}): Json => ({
  name: 'envoy.network.dns_resolver.cares',
  typed_config: {
    '@type': `${TYPE}.network.dns_resolver.cares.v3.CaresDnsResolverConfig`,
    resolvers: [address(dns)],
    dns_resolver_options: { no_default_search_domain: true },
    query_timeout_seconds: 1,
    query_tries: 1,
    ...more,
  },
});

interface ClusterOptions {
  readonly names?: readonly string[];
  readonly more?: Json;
}

export function dnsCluster(
  name: string,
  port: number,
  dns: LyingDns,
  { names = [`${name}.example`], more = {} }: ClusterOptions = {},
): Resource {
  return resource('cluster', {
    name,
    type: 'STRICT_DNS',
    dns_lookup_family: 'V4_ONLY',
    dns_refresh_rate: '0.05s',
    dns_failure_refresh_rate: { base_interval: '0.05s', max_interval: '0.1s' },
    typed_dns_resolver_config: cares(dns),
    load_assignment: {
      cluster_name: name,
      endpoints: [
        {
          lb_endpoints: names.map((host) => ({
            endpoint: { address: { socket_address: { address: host, port_value: port } } },
          })),
        },
      ],
    },
    ...more,
  });
}

/** `/strict` to the cluster strict, `/logical` to logical. */
export const LISTENER = httpListener({
  routes: routeConfig(
    ['strict', 'logical'].map((cluster) => ({
      match: { prefix: `/${cluster}` },
      route: { cluster, retry_policy: ISTIO_RETRIES },
    })),
  ),
});

export async function ask(proxy: TestProxy, path: string, agent?: Agent): Promise<string> {
  return new Promise((resolve) => {
    request({ port: proxy.port(), host: '127.0.0.1', path, agent: agent ?? false }, (response) => {
      let text = '';
      response.setEncoding('latin1').on('data', (piece: string) => {
        text += piece;
      });
      response.on('end', () => resolve(`${response.statusCode} ${text}`));
    })
      .on('error', (error) => resolve(error.message))
      .end();
  });
}

/** Answers by how many they were, until `over`. */
export async function load(
  proxy: TestProxy,
  path: string,
  over: () => boolean,
  onAnswer: () => void = () => {},
): Promise<Map<string, number>> {
  const agent = new Agent({ keepAlive: true, maxSockets: 2 });
  const answers = new Map<string, number>();
  while (!over()) {
    const answer = await ask(proxy, path, agent);
    answers.set(answer, (answers.get(answer) ?? 0) + 1);
    onAnswer();
  }
  agent.destroy();
  return answers;
}

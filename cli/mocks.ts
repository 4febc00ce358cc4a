/** `dev --mock`: an echo backend for every workload port, on free loopback ports. */
import type { Server } from 'node:http';
import type { Workload } from '../config/istio/target.ts';
import { createEchoServer } from './echo_server.ts';

export class Mocks {
  readonly #servers = new Map<string, { readonly server: Server; readonly port: number }>();

  /** Starts what is new, stops what has gone. Ports of what stays are kept. */
  async follow(workloads: readonly Workload[]): Promise<void> {
    const wanted = new Set<string>();
    for (const workload of workloads) {
      const key = keyOf(workload);
      wanted.add(key);
      if (this.#servers.has(key)) continue;
      const server = createEchoServer({ workload: workload.name, version: workload.labels['version'] ?? '' });
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(0, '127.0.0.1', resolve);
      });
      this.#servers.set(key, { server, port: (server.address() as { port: number }).port });
    }
    for (const [key, { server }] of [...this.#servers]) {
      if (wanted.has(key)) continue;
      this.#servers.delete(key);
      server.close();
      server.closeIdleConnections();
    }
  }

  /** One mock answers on all ports of its workload. */
  readonly address = (workload: Workload): { ip: string; port: number } | undefined => {
    const mock = this.#servers.get(keyOf(workload));
    return mock === undefined ? undefined : { ip: '127.0.0.1', port: mock.port };
  };

  close(): void {
    for (const { server } of this.#servers.values()) {
      server.closeAllConnections();
      server.close();
    }
  }
}

function keyOf({ kind, namespace, name }: Workload): string {
  return `${kind}/${namespace}/${name}`;
}

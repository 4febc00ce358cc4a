/** An HTTP upstream whose answers the test switches while it runs. */
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { Scope } from './scope.ts';

export class SwitchedUpstream {
  status = 200;
  headers: Readonly<Record<string, string>> = {};
  /** Instead of `status`, where it is set. */
  next: (() => number) | undefined = undefined;
  requests = 0;
  readonly #server: Server;

  private constructor(name: string) {
    this.#server = createServer((request, response) => {
      this.requests++;
      request.resume();
      response.writeHead(this.next?.() ?? this.status, this.headers).end(name);
    });
  }

  /** Answers with its name. */
  static async start(scope: Scope, name: string): Promise<SwitchedUpstream> {
    const upstream = new SwitchedUpstream(name);
    upstream.#server.listen(0, '127.0.0.1');
    await once(upstream.#server, 'listening');
    scope.after(() => {
      upstream.#server.close();
      upstream.#server.closeAllConnections();
    });
    return upstream;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }
}

/** `pillion echo`: one echo backend. */
import { parseAddress, showAddress } from './addresses.ts';
import { createEchoServer } from './echo_server.ts';
import { CommandError, exitCodes } from './exit_codes.ts';
import { say } from './print.ts';

export interface EchoOptions {
  readonly listen: string;
  readonly workload: string;
  readonly workloadVersion: string;
}

/** Runs until it is ended. @throws {CommandError} when the address is taken. */
export async function echo(options: EchoOptions): Promise<number> {
  const address = parseAddress(options.listen, '--listen');
  const server = createEchoServer({ workload: options.workload, version: options.workloadVersion });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      reject(
        new CommandError(exitCodes.bind, `Cannot listen on ${showAddress(address)} (--listen): ${error.code}`, {
          cause: error,
        }),
      ),
    );
    server.listen(address.port, address.ip, resolve);
  });
  const bound = server.address() as { port: number };
  say(`${options.workload} listens on http://${showAddress({ ip: address.ip, port: bound.port })}`);
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
  });
  server.closeAllConnections();
  server.close();
  return exitCodes.fine;
}

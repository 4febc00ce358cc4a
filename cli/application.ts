/** The application of `pillion run -- CMD`: started when the proxy serves, ended before it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { CommandError } from './exit_codes.ts';

/** As shells have it. */
const NOT_EXECUTABLE = 126;
const NOT_FOUND = 127;

export class Application {
  readonly pid: number;
  /** Its exit code; 128 + the signal's number when one ended it. */
  readonly ended: Promise<number>;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.pid = child.pid as number;
    this.ended = new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve(code ?? 128 + (constants.signals[signal ?? 'SIGKILL'] ?? 0)));
    });
  }

  /** Standard streams are ours. @throws {CommandError} 127 or 126, as a shell would exit. */
  static async start(command: readonly string[]): Promise<Application> {
    const [program = '', ...parameters] = command;
    const child = spawn(program, parameters, { stdio: 'inherit', env: applicationEnvironment() });
    try {
      await once(child, 'spawn');
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      throw new CommandError(
        code === 'ENOENT' ? NOT_FOUND : NOT_EXECUTABLE,
        `Cannot start "${program}": ${code === 'ENOENT' ? 'there is no such program' : code === 'EACCES' ? 'it may not be executed' : message}`,
        { cause: error },
      );
    }
    return new Application(child);
  }

  signal(name: NodeJS.Signals): void {
    // Ctrl-C in a terminal reaches the whole group: the application has had it already.
    if (name === 'SIGINT' && process.stdin.isTTY) return;
    this.#child.kill(name);
  }
}

/** bin/pillion's own module cache is not for others. */
function applicationEnvironment(): NodeJS.ProcessEnv {
  const { NODE_COMPILE_CACHE: cache, ...rest } = process.env;
  return cache === undefined || /[/-]pillion(?:-\d+)?\/pillion$|\.cache\/pillion$/.test(cache)
    ? rest
    : { ...rest, NODE_COMPILE_CACHE: cache };
}

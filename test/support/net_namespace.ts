/** Network namespaces for tests of interception: a pod, what is outside, and programs under several users in them. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import type { Scope } from './scope.ts';

let next = 0;

/** false, or why there can be none here. */
export const skipWithoutNetNamespaces: string | false = reasonToSkip();

function reasonToSkip(): string | false {
  if (process.platform !== 'linux') return 'network namespaces are Linux only';
  if (process.getuid?.() !== 0) return 'network namespaces want root';
  for (const program of ['ip', 'iptables', 'setpriv']) {
    if (spawnSync(program, ['--version']).error !== undefined && spawnSync(program, ['-V']).error !== undefined) {
      return `${program} is not installed (apt-get install iproute2 iptables util-linux)`;
    }
  }
  const name = `pl${process.pid}try`;
  const made = spawnSync('ip', ['netns', 'add', name], { encoding: 'utf8' });
  if (made.status !== 0) return `the kernel makes no network namespace: ${made.stderr.trim()}`;
  const rule = [
    '-t',
    'nat',
    '-A',
    'OUTPUT',
    '-p',
    'tcp',
    '-m',
    'owner',
    '--uid-owner',
    '1',
    '-j',
    'REDIRECT',
    '--to-ports',
    '1',
  ];
  const ruled = spawnSync('ip', ['netns', 'exec', name, 'iptables', ...rule], { encoding: 'utf8' });
  spawnSync('ip', ['netns', 'del', name]);
  return ruled.status === 0 ? false : `the kernel redirects nothing: ${ruled.stderr.trim()}`;
}

export interface RunOptions {
  /** User and group; default root. */
  readonly id?: number;
  readonly cwd?: string;
  /** Kept by a user who is not root: `net_admin`. */
  readonly capabilities?: readonly string[];
}

export class NetNamespace {
  readonly name: string;
  readonly #scope: Scope;

  /** Removed with the test. */
  constructor(scope: Scope, label: string) {
    this.name = `pl${process.pid}${label}${next++}`;
    this.#scope = scope;
    command('ip', ['netns', 'add', this.name]);
    scope.after(() => spawnSync('ip', ['netns', 'del', this.name]));
    this.run(['ip', 'link', 'set', 'lo', 'up']);
  }

  /** @throws when it fails. @returns what it printed. */
  run(parameters: readonly string[], options: RunOptions = {}): string {
    return command('ip', this.#inside(parameters, options), options.cwd);
  }

  /** Ended with the test. */
  start(parameters: readonly string[], options: RunOptions = {}): NamespaceProcess {
    const child = spawn('ip', this.#inside(parameters, options), {
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(options.cwd !== undefined && { cwd: options.cwd }),
    });
    const started = new NamespaceProcess(child);
    // `ip netns exec` becomes the program itself.
    this.#scope.after(() => child.kill('SIGKILL'));
    return started;
  }

  #inside(parameters: readonly string[], { id, capabilities = [] }: RunOptions): string[] {
    const kept = capabilities.map((name) => `+${name}`).join();
    const may = kept === '' ? [] : [`--inh-caps=${kept}`, `--ambient-caps=${kept}`];
    const as = id === undefined ? [] : ['setpriv', `--reuid=${id}`, `--regid=${id}`, '--clear-groups', ...may, '--'];
    return ['netns', 'exec', this.name, ...as, ...parameters];
  }
}

export class NamespaceProcess {
  readonly child: ChildProcess;
  output = '';
  #wake: () => void = () => {};
  #done = false;

  constructor(child: ChildProcess) {
    this.child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.output += text;
        this.#wake();
      });
    }
    child.once('close', () => {
      this.#done = true;
      this.#wake();
    });
  }

  /** @throws when it ends before, or after 30 s. */
  async until(pattern: RegExp): Promise<RegExpExecArray> {
    const deadline = setTimeout(() => this.child.kill('SIGKILL'), 30_000);
    for (;;) {
      const found = pattern.exec(this.output);
      if (found !== null) {
        clearTimeout(deadline);
        return found;
      }
      if (this.#done) throw new Error(`it ended without ${pattern}: ${this.output}`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

function command(program: string, parameters: readonly string[], cwd?: string): string {
  const done = spawnSync(program, parameters, { encoding: 'utf8', ...(cwd !== undefined && { cwd }) });
  if (done.status !== 0)
    throw new Error(`${program} ${parameters.join(' ')}: ${done.stderr}${done.error?.message ?? ''}`);
  return done.stdout;
}

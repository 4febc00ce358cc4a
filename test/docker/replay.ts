/**
 * The image without a daemon: the Dockerfile's steps, in order, in an empty folder for each stage. What COPY may take
 * from its context is what .dockerignore lets through. `sh bin/node-26 test/docker/replay.ts` builds with buildah
 * where it is installed, else replays, and says what it did.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Instruction, parseDockerfile } from './dockerfile.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

export interface Image {
  /** Where `/` of the last stage is. */
  readonly root: string;
  readonly user: string;
  readonly workdir: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly entrypoint: readonly string[];
  readonly command: readonly string[];
  readonly healthcheck: readonly string[];
  remove(): void;
}

export interface ReplayOptions {
  /** What COPY takes from; default: the checkout. */
  readonly context?: string;
  /** What images that are not built here hold, by name; others are empty. */
  readonly bases?: Readonly<Record<string, (folder: string) => void>>;
}

/** A step that is done in another way here, and why. */
const INSTEAD: Readonly<Record<string, (folder: string) => void>> = {
  // No registry in a test: what `npm ci` brought into the checkout is what it would bring here.
  'npm ci --ignore-scripts --no-audit --no-fund': (folder) =>
    cpSync(realpathSync(join(root, 'node_modules')), join(folder, 'node_modules'), {
      recursive: true,
      verbatimSymlinks: true,
      // 200 MB that the next steps take away again.
      filter: (path) => !/node_modules\/node-(?:bin-)?(?:linux|darwin)-/.test(path),
    }),
  // No packages are installed on the machine that tests: Node runs here, so what it needs is here.
  'apt-get update && apt-get install -y --no-install-recommends libatomic1 && rm -rf /var/lib/apt/lists/*': () => {},
};

/** @throws when a step fails, with what it said. */
export function replay(
  dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8'),
  { context = root, bases = {} }: ReplayOptions = {},
): Image {
  const base = mkdtempSync(join(tmpdir(), 'pillion-image-'));
  const remove = (): void => rmSync(base, { recursive: true, force: true });
  try {
    const stages = parseDockerfile(dockerfile);
    const roots = new Map<string, string>();
    let state: StageState | undefined;
    stages.forEach((stage, index) => {
      state = new StageState(join(base, `stage-${index}`), context, roots);
      bases[stage.base]?.(state.root);
      for (const instruction of stage.instructions) state.run(instruction);
      roots.set(stage.name ?? String(index), state.root);
    });
    if (state === undefined) throw new Error('the Dockerfile has no stage');
    return { ...state.image(), remove };
  } catch (error) {
    remove();
    throw error;
  }
}

class StageState {
  readonly root: string;
  readonly #context: string;
  readonly #stages: ReadonlyMap<string, string>;
  readonly #environment: Record<string, string> = {};
  #workdir = '/';
  #user = 'root';
  #entrypoint: readonly string[] = [];
  #command: readonly string[] = [];
  #healthcheck: readonly string[] = [];

  constructor(folder: string, context: string, stages: ReadonlyMap<string, string>) {
    this.root = folder;
    this.#context = context;
    this.#stages = stages;
    mkdirSync(folder, { recursive: true });
  }

  image(): Omit<Image, 'remove'> {
    return {
      root: this.root,
      user: this.#user,
      workdir: join(this.root, this.#workdir),
      environment: this.#environment,
      entrypoint: this.#entrypoint,
      command: this.#command,
      healthcheck: this.#healthcheck,
    };
  }

  run(instruction: Instruction): void {
    const { name, words, isExec, line } = instruction;
    const [text = ''] = words;
    if (!isExec && ['ENTRYPOINT', 'CMD', 'HEALTHCHECK'].includes(name)) {
      throw new Error(`Dockerfile:${line}: ${name} in shell form would need a shell`);
    }
    switch (name) {
      case 'WORKDIR':
        this.#workdir = text;
        mkdirSync(join(this.root, text), { recursive: true });
        break;
      case 'COPY':
        this.#copy(instruction);
        break;
      case 'RUN':
        this.#execute(instruction);
        break;
      case 'ENV': {
        const [variable = '', value = ''] = text.split('=');
        this.#environment[variable] = inFolder(value, this.root);
        break;
      }
      case 'USER':
        this.#user = text;
        break;
      case 'HEALTHCHECK':
        this.#healthcheck = words.map((word) => inFolder(word, this.root));
        break;
      case 'ENTRYPOINT':
        this.#entrypoint = words.map((word) => inFolder(word, this.root));
        break;
      case 'CMD':
        this.#command = words;
        break;
      default:
        // EXPOSE and STOPSIGNAL tell others.
        break;
    }
  }

  #copy({ words, flags, line }: Instruction): void {
    const target = words.at(-1) as string;
    for (const source of words.slice(0, -1)) {
      const from = flags['from'];
      const stage = from === undefined ? undefined : this.#stages.get(from);
      if (from !== undefined && stage === undefined) throw new Error(`Dockerfile:${line}: there is no stage ${from}`);
      if (stage === undefined && !isSent(this.#context, source))
        throw new Error(`Dockerfile:${line}: .dockerignore keeps ${source} back`);
      const path = join(stage ?? this.#context, source);
      const place = join(this.root, target.startsWith('/') ? '' : this.#workdir, target);
      const isFolder = statSync(path).isDirectory();
      const to = !isFolder && (target.endsWith('/') || target === '.') ? join(place, basename(source)) : place;
      mkdirSync(dirname(to), { recursive: true });
      cpSync(path, to, { recursive: true, verbatimSymlinks: true });
    }
  }

  #execute({ words, isExec, line }: Instruction): void {
    const folder = join(this.root, this.#workdir);
    const instead = isExec ? undefined : INSTEAD[words[0] as string];
    if (instead !== undefined) return instead(folder);
    const command = isExec ? words : ['sh', '-c', words[0] as string];
    const { status, stdout, stderr, error } = spawnSync(
      asHere(command[0] as string),
      command.slice(1).map((word) => (word === 'node' ? process.execPath : word)),
      {
        cwd: folder,
        env: {
          PATH: `${dirname(process.execPath)}:${process.env['PATH'] ?? ''}`,
          HOME: this.root,
          npm_config_offline: 'true',
          ...this.#environment,
        },
        encoding: 'utf8',
      },
    );
    if (status !== 0) {
      throw new Error(
        `Dockerfile:${line}: ${words.join(' ')} ended with ${status ?? error?.message}:\n${stdout}${stderr}`,
      );
    }
  }
}

const asHere = (program: string): string => (program === 'node' ? process.execPath : program);

/** `/app/x` of the image is below the stage's folder here. */
function inFolder(word: string, folder: string): string {
  return word.startsWith('/app') ? join(folder, word) : word;
}

/** Our .dockerignore is a list of exceptions from everything. */
function isSent(context: string, source: string): boolean {
  const ignored = join(context, '.dockerignore');
  if (!existsSync(ignored)) return existsSync(join(context, source));
  const lines = readFileSync(ignored, 'utf8').split('\n');
  if (lines[0] !== '*') throw new Error('.dockerignore: the first line is expected to be *');
  return lines.includes(`!${source}`) && existsSync(join(context, source));
}

/** For the script: with a builder where there is one. */
function build(): void {
  const builder = spawnSync('buildah', ['--version']).status === 0;
  if (builder) {
    const { status } = spawnSync(
      'buildah',
      ['--storage-driver', 'vfs', 'bud', '--isolation', 'chroot', '--pull-never', '-t', 'pillion', root],
      { stdio: 'inherit' },
    );
    process.exit(status ?? 1);
  }
  const image = replay();
  console.log(
    `buildah is not installed (apt-get install buildah): replayed. ${image.entrypoint.join(' ')} in ${image.root}`,
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) build();

/**
 * Secrets that stand in files: data sources with a file name (`file:PATH`), the certificates that Istio's rules name
 * (`file-cert:CHAIN~KEY`, `file-root:CA`), and a workload identity that somebody else puts into files.
 * Source: istio.md §2.6, istio/istio pkg/security/sds names.
 */
import type { ConfigSink, ConfigSource, Dependency, Resource } from '../../config/resources.ts';
import { certificateSecret, IDENTITY_SECRET, ROOT_SECRET, rootSecret, versionOf } from './identity_secrets.ts';
import { read, WatchedFiles } from './watched_files.ts';

/** Where an identity lies. */
export interface IdentityFiles {
  readonly chain: string;
  readonly key: string;
  readonly roots: string;
}

export interface FileSecretsOptions {
  /** Give the secrets `default` and `ROOTCA` from there; undefined: somebody else does. */
  readonly identity?: IdentityFiles | undefined;
  log(level: 'info' | 'warning', message: string): void;
  /** Default 100. */
  readonly debounceMs?: number;
}

/** What a secret is made of. */
type Recipe =
  | { readonly kind: 'bytes'; readonly path: string }
  | { readonly kind: 'certificate'; readonly chain: string; readonly key: string }
  | { readonly kind: 'roots'; readonly roots: string; readonly crl: string | undefined };

export class FileSecrets implements ConfigSource {
  readonly #options: FileSecretsOptions;
  readonly #files: WatchedFiles;
  readonly #recipes = new Map<string, Recipe>();
  #sink: ConfigSink | undefined = undefined;
  readonly #given = new Set<string>();
  /** Last complaint by secret: said once. */
  readonly #complaints = new Map<string, string>();

  constructor(options: FileSecretsOptions) {
    this.#options = options;
    this.#files = new WatchedFiles({
      onChange: (paths) => this.#changed(paths),
      ...(options.debounceMs !== undefined && { debounceMs: options.debounceMs }),
    });
  }

  start(on: ConfigSink): void {
    this.#sink = on;
    on.update({ upserts: [], removed: [], full: false, atomic: false });
    for (const name of this.#recipes.keys()) this.#give(name);
  }

  stop(): void {
    this.#files.close();
  }

  subscribe({ type, name }: Dependency): boolean {
    if (type !== 'secret') return false;
    const recipe = this.#recipeOf(name);
    if (recipe === undefined) return false;
    this.#recipes.set(name, recipe);
    for (const path of pathsOf(recipe)) this.#files.add(path);
    // Not within the call: whoever subscribes is in the middle of an update.
    queueMicrotask(() => this.#give(name));
    return true;
  }

  unsubscribe({ name }: Dependency): void {
    const recipe = this.#recipes.get(name);
    this.#recipes.delete(name);
    this.#complaints.delete(name);
    this.#given.delete(name);
    if (recipe === undefined) return;
    const used = new Set([...this.#recipes.values()].flatMap(pathsOf));
    for (const path of pathsOf(recipe)) if (!used.has(path)) this.#files.remove(path);
  }

  #recipeOf(name: string): Recipe | undefined {
    const { identity } = this.#options;
    if (name.startsWith('file:')) return { kind: 'bytes', path: name.slice('file:'.length) };
    if (name.startsWith('file-cert:')) {
      const [chain = '', key = ''] = name.slice('file-cert:'.length).split('~');
      return { kind: 'certificate', chain, key };
    }
    if (name.startsWith('file-root:')) {
      const [roots = '', crl] = name.slice('file-root:'.length).split('~');
      return { kind: 'roots', roots, crl };
    }
    if (identity === undefined) return undefined;
    if (name === IDENTITY_SECRET) return { kind: 'certificate', chain: identity.chain, key: identity.key };
    return name === ROOT_SECRET ? { kind: 'roots', roots: identity.roots, crl: undefined } : undefined;
  }

  #changed(paths: ReadonlySet<string>): void {
    for (const [name, recipe] of this.#recipes) {
      if (pathsOf(recipe).some((path) => paths.has(path))) this.#give(name);
    }
  }

  #give(name: string): void {
    const recipe = this.#recipes.get(name);
    if (recipe === undefined || this.#sink === undefined) return;
    const made = make(name, recipe);
    if (typeof made === 'string') {
      this.#complain(name, made);
      // Nobody waits for what is not there; what was given before stays.
      if (!this.#given.has(name)) {
        this.#sink.update({ upserts: [], removed: [{ type: 'secret', name }], full: false, atomic: false });
      }
      return;
    }
    const result = this.#sink.update({ upserts: [made], removed: [], full: false, atomic: false });
    const [refused] = result.rejected;
    if (refused !== undefined) {
      this.#complain(name, refused.reason);
      return;
    }
    this.#given.add(name);
    if (this.#complaints.delete(name)) this.#options.log('info', `Secret "${name}" is good again`);
  }

  #complain(name: string, complaint: string): void {
    if (this.#complaints.get(name) === complaint) return;
    this.#complaints.set(name, complaint);
    this.#options.log('warning', `Secret "${name}": ${complaint}; what was served before stays`);
  }
}

function pathsOf(recipe: Recipe): string[] {
  switch (recipe.kind) {
    case 'bytes':
      return [recipe.path];
    case 'certificate':
      return [recipe.chain, recipe.key];
    case 'roots':
      return [...(recipe.roots === 'system' ? [] : [recipe.roots]), ...(recipe.crl === undefined ? [] : [recipe.crl])];
    default:
      return recipe satisfies never;
  }
}

/** A string says why it cannot be made. Never quotes what stands in a file. */
function make(name: string, recipe: Recipe): Resource | string {
  const texts: string[] = [];
  for (const path of pathsOf(recipe)) {
    const bytes = read(path);
    if (bytes === undefined) return `${path} cannot be read`;
    if (recipe.kind === 'bytes') {
      const inline_bytes = bytes.toString('base64');
      return {
        type: 'secret',
        name,
        version: versionOf(bytes),
        json: { name, generic_secret: { secret: { inline_bytes } } },
        origin: path,
      };
    }
    texts.push(bytes.toString('latin1'));
  }
  if (recipe.kind === 'certificate') return certificateSecret(name, texts[0] ?? '', texts[1] ?? '', recipe.chain);
  if (recipe.kind !== 'roots') return 'nothing to read';
  const system = recipe.roots === 'system';
  return rootSecret(name, system ? 'system' : (texts[0] ?? ''), system ? texts[0] : texts[1], recipe.roots);
}

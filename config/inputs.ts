/** Finds the files behind `-c` arguments, and tells Envoy bootstraps from Kubernetes and Istio objects by content. */
import { readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ConfigError } from '../proxy/config_error.ts';
import type { KubeObject } from './kube_object.ts';
import { type DocumentCache, parseDocuments, type ParsedDocument } from './yaml_documents.ts';

export interface InputFile {
  readonly name: string;
  readonly text: string;
}

/** What the documents were. Objects keep their order over all files. */
export interface Inputs {
  readonly objects: readonly KubeObject[];
  readonly bootstraps: readonly ParsedDocument[];
  /** `MeshConfig` out of a ConfigMap named istio, or a document of its own. */
  readonly mesh: Readonly<Record<string, unknown>> | undefined;
  /** By file: `Service catalog`, … */
  readonly found: ReadonlyMap<string, readonly string[]>;
}

const BOOTSTRAP_FIELDS = [
  'static_resources',
  'staticResources',
  'dynamic_resources',
  'dynamicResources',
  'layered_runtime',
  'stats_config',
];
const EXTENSIONS = /\.(?:ya?ml|json)$/;

/** Whether a file of that name is read where its folder is given. */
export function isConfigurationName(name: string): boolean {
  return EXTENSIONS.test(name) && isRead(name);
}

/** Files, folders (all YAML and JSON below, sorted), `-` for stdin. @throws {ConfigError} naming what is missing. */
export function expandPaths(paths: readonly string[]): string[] {
  return paths.flatMap((path) => {
    if (path === '-') return [path];
    let isFolder: boolean;
    try {
      isFolder = statSync(path).isDirectory();
    } catch (cause) {
      const reason =
        (cause as NodeJS.ErrnoException).code === 'ENOENT'
          ? 'there is no such file or folder'
          : (cause as Error).message;
      throw new ConfigError('', `Cannot read ${path}: ${reason}`, { cause, origin: path });
    }
    if (!isFolder) return [path];
    const files = filesBelow(path);
    if (files.length === 0)
      throw new ConfigError('', `Cannot use folder ${path}: it holds no .yaml, .yml or .json file`, { origin: path });
    return files;
  });
}

/** The folders in which a change of what `paths` name would show: of a file its own, of a folder all below. */
export function watchedFolders(paths: readonly string[]): string[] {
  return paths.flatMap((path) => {
    if (path === '-') return [];
    const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
    return isFolder ? foldersBelow(path) : [dirname(path)];
  });
}

function foldersBelow(folder: string): string[] {
  const inner = readdirSync(folder, { withFileTypes: true }).filter(
    (entry) => entry.isDirectory() && isRead(entry.name),
  );
  return [folder, ...inner.flatMap((entry) => foldersBelow(join(folder, entry.name)))];
}

/** Kubernetes mounts keep their generations in folders that begin with two dots; the links beside them are the files. */
function isRead(name: string): boolean {
  return !name.startsWith('.') && name !== 'node_modules';
}

/** `above`: real paths on the way here, so that a link to a folder above ends. */
function filesBelow(folder: string, above: readonly string[] = []): string[] {
  const real = realpathSync(folder);
  if (above.includes(real)) return [];
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => isRead(entry.name))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const path = join(folder, entry.name);
      const target = entry.isSymbolicLink() ? statSync(path, { throwIfNoEntry: false }) : entry;
      if (target?.isDirectory() === true) return filesBelow(path, [...above, real]);
      return target?.isFile() === true && isConfigurationName(entry.name) ? [path] : [];
    });
}

/** @throws {ConfigError} */
export function readFiles(paths: readonly string[], stdin?: string): InputFile[] {
  return expandPaths(paths).map((path) => {
    if (path === '-') return { name: '<stdin>', text: stdin ?? readFileSync(0, 'utf8') };
    try {
      return { name: path, text: readFileSync(path, 'utf8') };
    } catch (cause) {
      throw new ConfigError('', `Cannot read ${path}: ${(cause as Error).message}`, { cause, origin: path });
    }
  });
}

/** @throws {ConfigError} for a document that is none of the kinds. */
export function classify(files: readonly InputFile[], cache: DocumentCache): Inputs {
  const objects: KubeObject[] = [];
  const bootstraps: ParsedDocument[] = [];
  const found = new Map<string, string[]>();
  let mesh: Inputs['mesh'];
  for (const file of files) {
    const list: string[] = [];
    found.set(file.name, list);
    for (const document of parseDocuments(file.text, file.name, cache)) {
      if (BOOTSTRAP_FIELDS.some((field) => Object.hasOwn(document.json, field))) {
        bootstraps.push(document);
        list.push('Envoy bootstrap');
        continue;
      }
      for (const object of objectsOf(document)) {
        const meshText = meshOf(object);
        if (meshText !== undefined) {
          mesh = parseDocuments(meshText, file.name)[0]?.json;
          list.push('MeshConfig');
          continue;
        }
        objects.push({ ...object, order: objects.length });
        list.push(`${object.kind} ${object.name}`);
      }
    }
  }
  return { objects, bootstraps, mesh, found };
}

function objectsOf({ json, source }: ParsedDocument): KubeObject[] {
  const { kind, apiVersion } = json as { kind?: unknown; apiVersion?: unknown };
  if (typeof kind !== 'string' || typeof apiVersion !== 'string') {
    const keys = Object.keys(json).slice(0, 4).join(', ');
    const origin = source.locate([]);
    throw new ConfigError(
      '',
      `Cannot use ${origin}: neither a Kubernetes or Istio object (apiVersion and kind) nor an Envoy bootstrap (static_resources), but ${keys === '' ? 'an empty object' : keys}`,
      { origin },
    );
  }
  if (kind === 'List' && Array.isArray(json['items'])) {
    return json['items'].flatMap((item: unknown, index) =>
      objectsOf({
        json: item as Record<string, unknown>,
        source: { ...source, locate: (path) => source.locate(['items', index, ...path]) },
      }),
    );
  }
  const metadata = asObject(json['metadata']);
  const creation = metadata['creationTimestamp'];
  const creationMs = typeof creation === 'string' ? Date.parse(creation) : Number.NaN;
  return [
    {
      apiVersion,
      kind,
      name: String(metadata['name'] ?? ''),
      namespace: String(metadata['namespace'] ?? 'default'),
      labels: asTexts(metadata['labels']),
      annotations: asTexts(metadata['annotations']),
      creationMs: Number.isNaN(creationMs) ? undefined : creationMs,
      order: 0,
      json,
      source,
    },
  ];
}

function meshOf(object: KubeObject): string | undefined {
  if (object.kind !== 'ConfigMap' || object.name !== 'istio') return undefined;
  const mesh = asObject(object.json['data'])['mesh'];
  return typeof mesh === 'string' ? mesh : undefined;
}

function asObject(value: unknown): Readonly<Record<string, unknown>> {
  return value !== null && typeof value === 'object' && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}

/** YAML gives numbers and booleans where somebody forgot the quotes; labels are text. */
function asTexts(value: unknown): Readonly<Record<string, string>> {
  const texts: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const [key, item] of Object.entries(asObject(value))) texts[key] = String(item);
  return texts;
}

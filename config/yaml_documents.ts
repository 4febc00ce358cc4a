/** YAML and JSON text to documents with positions. Every complaint names `file:line:col`. */
import { type Document, isMap, isScalar, type Node, parseDocument, visit, type YAMLError } from 'yaml';
import { ConfigError } from '../proxy/config_error.ts';
import { JsonPlaces, parseJson } from './json_text.ts';
import type { SourceDocument } from './kube_object.ts';

/** A file larger than this is refused: parsing takes a third of a second per megabyte. */
export const MAX_FILE_BYTES = 64 * 1024 * 1024;
/** Values nested deeper than this are refused, before anything walks them. */
export const MAX_DEPTH = 100;
/** Nodes that aliases may expand to (a "billion laughs" ends here). */
const MAX_ALIASES = 1000;

export interface ParsedDocument {
  readonly json: Readonly<Record<string, unknown>>;
  readonly source: SourceDocument;
}

/** By their text: what did not change is not parsed again. */
export type DocumentCache = Map<string, ReadDocument>;
interface ReadDocument {
  readonly json: unknown;
  readonly places: { offsetOf(path: readonly (string | number)[]): number };
}

/** The documents of a text, empty ones left out. @throws {ConfigError} with its origin. */
export function parseDocuments(text: string, file: string, cache: DocumentCache = new Map()): ParsedDocument[] {
  if (text.length > MAX_FILE_BYTES) {
    throw new ConfigError(
      '',
      `Cannot read ${file}: it has ${text.length} bytes, at most ${MAX_FILE_BYTES} are accepted`,
      { origin: file },
    );
  }
  const documents: ParsedDocument[] = [];
  for (const piece of split(text.startsWith('\ufeff') ? text.slice(1) : text)) {
    const parsed = parsePiece(piece, file, cache);
    if (parsed !== undefined) documents.push(parsed);
  }
  return documents;
}

interface Piece {
  readonly text: string;
  /** Of its first line in the file, from 1. */
  readonly line: number;
}

/** Cuts at `---` lines. A marker inside a block scalar stands indented, so that a line that begins with it is one. */
function split(text: string): Piece[] {
  const pieces: Piece[] = [];
  let start = 0;
  let line = 1;
  let startLine = 1;
  for (let at = 0; at < text.length; ) {
    const newline = text.indexOf('\n', at);
    const end = newline < 0 ? text.length : newline + 1;
    if (at > start && /^---(?:\s|$)/.test(text.slice(at, at + 4))) {
      pieces.push({ text: text.slice(start, at), line: startLine });
      start = at;
      startLine = line;
    }
    at = end;
    line++;
  }
  pieces.push({ text: text.slice(start), line: startLine });
  return pieces;
}

function parsePiece({ text, line }: Piece, file: string, cache: DocumentCache): ParsedDocument | undefined {
  const place = placesIn(text, file, line);
  const document = new LazyDocument(text);
  let read = cache.get(text);
  if (read === undefined) {
    checkDepth(text, file, line);
    const json = parseJson(text);
    read =
      json !== undefined
        ? { json, places: new JsonPlaces(text) }
        : { json: parseYaml(document, place, `${file}:${line}`), places: document };
    cache.set(text, read);
  }
  const { json, places } = read;
  if (json === null || json === undefined) return undefined;
  if (typeof json !== 'object' || Array.isArray(json)) {
    const origin = place(document.get().contents?.range?.[0] ?? 0);
    throw new ConfigError(
      '',
      `Cannot use ${origin}: an object is wanted, got ${Array.isArray(json) ? 'a list' : 'a plain value'}`,
      { origin },
    );
  }
  return {
    json: json as Record<string, unknown>,
    source: {
      file,
      line: line + firstLine(text),
      locate: (path) => place(places.offsetOf(path)),
    },
  };
}

/** @throws {ConfigError} */
function parseYaml(lazy: LazyDocument, place: (offset: number) => string, start: string): unknown {
  let document: Document.Parsed;
  try {
    document = lazy.get();
  } catch (error) {
    throw new ConfigError('', `Cannot read ${start}: ${(error as Error).message}`, { cause: error, origin: start });
  }
  const [error] = document.errors;
  if (error !== undefined) {
    const origin = place(error.pos[0]);
    throw new ConfigError('', `Cannot parse ${origin}: ${explain(error)}`, { origin });
  }
  try {
    return document.toJS({ maxAliasCount: MAX_ALIASES });
  } catch (cause) {
    // Only aliases can fail here: of one without an anchor the place is known.
    const dangling = danglingAlias(document);
    const origin = dangling === undefined ? start : place(dangling);
    throw new ConfigError('', `Cannot read ${origin}: ${(cause as Error).message}`, { cause, origin });
  }
}

/**
 * The document with its positions: fifty times the text's size, and wanted only for complaints and origins. It goes
 * when memory is wanted, and is parsed again when somebody asks for a place.
 */
class LazyDocument {
  readonly #text: string;
  #document: WeakRef<Document.Parsed> | undefined = undefined;

  constructor(text: string) {
    this.#text = text;
  }

  get(): Document.Parsed {
    const known = this.#document?.deref();
    if (known !== undefined) return known;
    const document = parseDocument(this.#text, { prettyErrors: false, uniqueKeys: true, version: '1.2' });
    this.#document = new WeakRef(document);
    return document;
  }

  offsetOf(path: readonly (string | number)[]): number {
    return offsetIn(this.get(), path);
  }
}

/** Where an alias stands that has no anchor before it. */
function danglingAlias(document: Document.Parsed): number | undefined {
  let found: number | undefined;
  visit(document, {
    Alias(_key, node) {
      if (node.resolve(document) !== undefined) return undefined;
      found = node.range?.[0];
      return visit.BREAK;
    },
  });
  return found;
}

/** `file:line:col` of an offset. The table of lines is made when it is first asked. */
function placesIn(text: string, file: string, line: number): (offset: number) => string {
  let starts: number[] | undefined;
  return (offset) => {
    if (starts === undefined) {
      starts = [0];
      for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
    }
    let low = 0;
    for (let high = starts.length - 1; low < high; ) {
      const middle = (low + high + 1) >> 1;
      if ((starts[middle] as number) <= offset) low = middle;
      else high = middle - 1;
    }
    return `${file}:${line + low}:${offset - (starts[low] as number) + 1}`;
  };
}

/** The line, from 0, on which the document's content begins: markers, directives, comments and blank lines come before. */
function firstLine(text: string): number {
  let line = 0;
  for (let at = 0; at < text.length; line++) {
    const newline = text.indexOf('\n', at);
    const end = newline < 0 ? text.length : newline;
    if (!/^(?:---)?\s*(?:#|$)|^%/.test(text.slice(at, end))) return line;
    at = end + 1;
  }
  return line;
}

/** Where a field stands; of a field that is not there, its nearest parent. A key's place rather than its value's. */
function offsetIn(document: Document.Parsed, path: readonly (string | number)[]): number {
  for (let length = path.length; length > 0; length--) {
    const parent = document.getIn(path.slice(0, length - 1), true) as Node | undefined;
    const key = path[length - 1];
    if (isMap(parent)) {
      const pair = parent.items.find((item) => isScalar(item.key) && String(item.key.value) === String(key));
      const range = (pair?.key as Node | undefined)?.range;
      if (range !== undefined && range !== null) return range[0];
    }
    const node = document.getIn(path.slice(0, length), true) as Node | undefined;
    if (node?.range !== undefined && node.range !== null) return node.range[0];
  }
  return document.contents?.range?.[0] ?? 0;
}

/** Counts brackets and indentation, so that nothing deep ever reaches a recursive parser. */
function checkDepth(text: string, file: string, line: number): void {
  let brackets = 0;
  let lineAt = line;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 10) lineAt++;
    else if (code === 91 || code === 123) {
      if (++brackets > MAX_DEPTH) {
        const origin = `${file}:${lineAt}`;
        throw new ConfigError('', `Cannot read ${origin}: values are nested deeper than ${MAX_DEPTH}`, { origin });
      }
    } else if ((code === 93 || code === 125) && brackets > 0) brackets--;
  }
  const deep = /^(?: {200}| *(?:[-?] ){100})/m.exec(text);
  if (deep !== null && indentationDepth(text) > MAX_DEPTH) {
    throw new ConfigError('', `Cannot read ${file}: values are nested deeper than ${MAX_DEPTH}`, { origin: file });
  }
}

/** How many different indentations stand open at the deepest line, `- ` counted as one each. */
function indentationDepth(text: string): number {
  const open: number[] = [];
  let deepest = 0;
  for (const line of text.split('\n')) {
    if (line.trim() === '') continue;
    const indent = line.length - line.trimStart().length;
    while (open.length > 0 && (open.at(-1) as number) >= indent) open.pop();
    open.push(indent);
    const dashes = /^(?:[-?] )*/.exec(line.trimStart())?.[0].length ?? 0;
    deepest = Math.max(deepest, open.length + dashes / 2);
  }
  return deepest;
}

function explain(error: YAMLError): string {
  switch (error.code) {
    case 'DUPLICATE_KEY':
      return 'the same key stands twice in one map';
    case 'TAB_AS_INDENT':
      return 'a tab is used for indentation: use spaces';
    default:
      return error.message.split('\n')[0] ?? error.code;
  }
}

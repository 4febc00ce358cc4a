/** JSON as a part of YAML that is read thirty times as fast: large bootstraps are written by programs. */

/** @returns undefined where the text is no JSON object, or one that YAML would refuse: the YAML parser then has the word. */
export function parseJson(text: string): Readonly<Record<string, unknown>> | undefined {
  if (!/^\s*\{/.test(text)) return undefined;
  let json: unknown;
  let keys = 0;
  try {
    json = JSON.parse(text, (_key, value: unknown) => {
      if (value !== null && typeof value === 'object' && !Array.isArray(value)) keys += Object.keys(value).length;
      return value;
    });
  } catch {
    return undefined;
  }
  // JSON takes the last of two equal keys; in YAML they are a mistake.
  return keys === colonsOutsideStrings(text) ? (json as Record<string, unknown>) : undefined;
}

function colonsOutsideStrings(text: string): number {
  let colons = 0;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === 58) colons++;
    else if (code === 34) {
      // Valid JSON: every string ends.
      for (at++; text.charCodeAt(at) !== 34; at++) if (text.charCodeAt(at) === 92) at++;
    }
  }
  return colons;
}

interface Child {
  /** Of the key, or of the item itself. */
  readonly place: number;
  readonly value: number;
}

/** Where values stand in a valid JSON text: each object and list is looked through when it is first asked. */
export class JsonPlaces {
  readonly #text: string;
  readonly #children = new Map<number, ReadonlyMap<string, Child>>();

  constructor(text: string) {
    this.#text = text;
  }

  /** Of a field's key or a list's item; of what is not there, its nearest parent. */
  offsetOf(path: readonly (string | number)[]): number {
    let place = this.#skipSpace(0);
    let value = place;
    for (const key of path) {
      const child = this.#childrenAt(value).get(String(key));
      if (child === undefined) break;
      ({ place, value } = child);
    }
    return place;
  }

  #childrenAt(offset: number): ReadonlyMap<string, Child> {
    let children = this.#children.get(offset);
    if (children === undefined) {
      children = this.#read(offset);
      this.#children.set(offset, children);
    }
    return children;
  }

  #read(offset: number): ReadonlyMap<string, Child> {
    const children = new Map<string, Child>();
    const text = this.#text;
    const opening = text[offset];
    if (opening !== '{' && opening !== '[') return children;
    let at = this.#skipSpace(offset + 1);
    for (let index = 0; text[at] !== '}' && text[at] !== ']' && at < text.length; index++) {
      const place = at;
      let key = String(index);
      if (opening === '{') {
        const end = this.#skipValue(at);
        key = JSON.parse(text.slice(at, end)) as string;
        at = this.#skipSpace(this.#skipSpace(end) + 1);
      }
      children.set(key, { place, value: at });
      at = this.#skipSpace(this.#skipValue(at));
      if (text[at] === ',') at = this.#skipSpace(at + 1);
    }
    return children;
  }

  #skipSpace(from: number): number {
    let at = from;
    while (this.#text.charCodeAt(at) <= 32) at++;
    return at;
  }

  /** The end of the value that begins at `from`. */
  #skipValue(from: number): number {
    const text = this.#text;
    let depth = 0;
    for (let at = from; at < text.length; at++) {
      const code = text.charCodeAt(at);
      if (code === 34) {
        for (at++; text.charCodeAt(at) !== 34; at++) if (text.charCodeAt(at) === 92) at++;
        if (depth === 0) return at + 1;
      } else if (code === 123 || code === 91) depth++;
      else if (code === 125 || code === 93) {
        if (depth === 0) return at;
        if (--depth === 0) return at + 1;
      } else if (depth === 0 && (code === 44 || code <= 32)) return at;
    }
    return text.length;
  }
}

/** Where the parts of a JSON text lie, found without decoding it. The text is one that JSON.stringify has written. */

export interface JsonRange {
  /** Of an object's field; undefined: an element of a list. */
  readonly key: string | undefined;
  readonly start: number;
  readonly end: number;
}

/** Bytes looked at between two words to the caller. */
const STEP_BYTES = 65_536;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;

/** Fields or elements of the object or list between `start` and `end`, in order. undefined: it goes on looking, others may have a turn. */
export function* jsonChildren(bytes: Buffer, start: number, end: number): Generator<JsonRange | undefined> {
  const isObject = bytes[start] === 0x7b;
  let at = start + 1;
  let nextStep = at + STEP_BYTES;
  const last = end - 1;
  while (at < last) {
    let key: string | undefined;
    if (isObject) {
      const keyEnd = endOfString(bytes, at);
      key = JSON.parse(bytes.toString('utf8', at, keyEnd)) as string;
      at = keyEnd;
      if (bytes[at] === COLON) at++;
    }
    const from = at;
    let depth = 0;
    while (at < last) {
      const byte = bytes[at];
      if (byte === QUOTE) {
        at = endOfString(bytes, at);
      } else {
        if (depth === 0 && byte === COMMA) break;
        if (byte === 0x7b || byte === 0x5b) depth++;
        else if (byte === 0x7d || byte === 0x5d) depth--;
        at++;
      }
      if (at >= nextStep) {
        nextStep = at + STEP_BYTES;
        yield undefined;
      }
    }
    yield { key, start: from, end: at };
    at++;
  }
}

/** The objects that stand behind a key, wherever they are; not those within another one of that name. */
export function* objectsNamed(bytes: Buffer, key: string): Generator<JsonRange> {
  // Within a text the quotes are escaped: this finds keys only.
  const wanted = `${JSON.stringify(key)}:{`;
  for (let at = bytes.indexOf(wanted); at >= 0; ) {
    const start = at + wanted.length - 1;
    const end = endOfContainer(bytes, start);
    yield { key, start, end };
    at = bytes.indexOf(wanted, end);
  }
}

/** Behind the object or list that begins at `start`. */
function endOfContainer(bytes: Buffer, start: number): number {
  let at = start;
  let depth = 0;
  do {
    const byte = bytes[at];
    if (byte === QUOTE) {
      at = endOfString(bytes, at);
      continue;
    }
    if (byte === 0x7b || byte === 0x5b) depth++;
    else if (byte === 0x7d || byte === 0x5d) depth--;
    at++;
  } while (depth > 0);
  return at;
}

/** Behind the closing quote of the string that begins at `at`. */
function endOfString(bytes: Buffer, at: number): number {
  let i = at + 1;
  while (bytes[i] !== QUOTE) i += bytes[i] === BACKSLASH ? 2 : 1;
  return i + 1;
}

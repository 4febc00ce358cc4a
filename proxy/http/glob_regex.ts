/** Regexes that are nothing but literals with `.*` and `.+` between them, matched without a regex engine. */

/** Whole-text matching. Equal to RE2 for every text without a line feed, which `.` does not match. */
export class Glob {
  /** Literals; between two of them stands a wildcard. The first and last may be empty. */
  readonly pieces: readonly string[];
  /** Least length of the wildcard behind each piece but the last. */
  readonly #least: readonly number[];

  constructor(pieces: readonly string[], least: readonly number[]) {
    this.pieces = pieces;
    this.#least = least;
  }

  matches(text: string): boolean {
    const { pieces } = this;
    const first = pieces[0] as string;
    if (pieces.length === 1) return text === first;
    if (!text.startsWith(first)) return false;
    let at = first.length;
    const end = pieces.length - 1;
    for (let i = 1; i < end; i++) {
      const piece = pieces[i] as string;
      const found = text.indexOf(piece, at + (this.#least[i - 1] as number));
      if (found < 0) return false;
      at = found + piece.length;
    }
    const last = pieces[end] as string;
    return text.length - last.length >= at + (this.#least[end - 1] as number) && text.endsWith(last);
  }
}

/** undefined: the pattern has more to it. */
export function globOf(pattern: string): Glob | undefined {
  const pieces: string[] = [];
  const least: number[] = [];
  let piece = '';
  for (let i = 0; i < pattern.length; i++) {
    const char = pattern[i] as string;
    const next = pattern[i + 1];
    if (char === '.') {
      if (next !== '*' && next !== '+') return undefined;
      // A third sign would make it lazy or possessive.
      if (i + 2 < pattern.length && '*+?{'.includes(pattern[i + 2] as string)) return undefined;
      if (piece === '' && pieces.length > 0) {
        // `.*.+`: one wildcard of both lengths.
        least[least.length - 1] = (least.at(-1) as number) + (next === '+' ? 1 : 0);
      } else {
        pieces.push(piece);
        least.push(next === '+' ? 1 : 0);
        piece = '';
      }
      i++;
    } else if (char === '\\') {
      // `\.` is a dot; `\d` is not a letter.
      if (next === undefined || /[a-z0-9]/i.test(next)) return undefined;
      if (i + 2 < pattern.length && '*+?{'.includes(pattern[i + 2] as string)) return undefined;
      piece += next;
      i++;
    } else {
      if ('^$|()[]{}*+?'.includes(char)) return undefined;
      if (next !== undefined && '*+?{'.includes(next)) return undefined;
      piece += char;
    }
  }
  pieces.push(piece);
  return new Glob(pieces, least);
}

/** Lines of a log that somebody else writes. */
import { readFileSync } from 'node:fs';

/** Waits until `count` lines stand there, whole. */
export async function linesOf(path: string, count: number): Promise<string[]> {
  for (let attempt = 0; attempt < 3000; attempt++) {
    const found = readLines(path);
    if (found.length >= count) return found;
    // Envoy flushes its logs when it likes.
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`${path} has ${readLines(path).length} lines, ${count} are wanted`);
}

/** Whole lines; none where there is no file. */
export function readLines(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n').slice(0, -1);
  } catch {
    return [];
  }
}

/** RE2 regexes, which run in linear time. The library (260 KB) is loaded with the first one: few configurations have any. */
import { createRequire } from 'node:module';
import type { RE2JS } from 're2js';

export type Re2 = ReturnType<typeof RE2JS.compile>;

let library: typeof RE2JS | undefined;

/** @throws {Error} when RE2 does not accept it. */
export function compileRe2(pattern: string): Re2 {
  library ??= (createRequire(import.meta.url)('re2js') as { RE2JS: typeof RE2JS }).RE2JS;
  return library.compile(pattern);
}

/**
 * `npm test`: every *.test.ts below test/ (or those whose path holds a word given), one process a file.
 * The runner's summary comes last; skipped tests stand there with their reasons.
 */
import { spawnSync } from 'node:child_process';
import { globSync } from 'node:fs';
import { availableParallelism } from 'node:os';

const words = process.argv.slice(2);
const files = globSync('test/**/*.test.ts')
  .filter((file) => words.length === 0 || words.some((word) => file.includes(word)))
  .sort();
if (files.length === 0) {
  console.error(`No test file holds ${words.join(' or ')} in its path`);
  process.exit(2);
}
const { status, signal } = spawnSync(
  process.execPath,
  [
    '--test',
    '--disable-warning=ExperimentalWarning',
    // As bin/pillion starts: a larger young generation makes other pauses.
    '--max-semi-space-size=2',
    '--import',
    new URL('./support/end_at_once.ts', import.meta.url).href,
    // Of a file as of a test; bounds failure only, on a machine that does other things too.
    '--test-timeout=300000',
    `--test-concurrency=${availableParallelism()}`,
    '--test-reporter=spec',
    ...files,
  ],
  { stdio: 'inherit' },
);
process.exit(signal === null ? (status ?? 1) : 1);

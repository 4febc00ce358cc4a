/** Tables of consistent hashing over 10,000 hosts: how long one takes to build, and how large it is. */
import { buildHashTable } from '../../proxy/load_balancers/hash_table.ts';

const keys = Array.from({ length: 10_000 }, (_, index) => `10.0.${index >> 8}.${index & 255}:8080`);
const weights = keys.map(() => 1);
const RUNS = 5;

for (const [kind, size] of [
  ['maglev', 65_537],
  ['ring', 1024],
  ['ring', 65_536],
  ['ring', 1_048_576],
  ['ring', 8_388_608],
] as const) {
  let bestMs = Number.POSITIVE_INFINITY;
  let bytes = 0;
  for (let run = 0; run < RUNS; run++) {
    const startMs = performance.now();
    bytes = buildHashTable({ kind, size, maximum: 8_388_608, keys, weights }).byteLength;
    bestMs = Math.min(bestMs, performance.now() - startMs);
  }
  const name = `${kind}, ${size} ${kind === 'ring' ? 'points at least' : 'entries'}`;
  console.log(
    `  ${name.padEnd(48)} ${bestMs.toFixed(1).padStart(8)} ms ${(bytes / 2 ** 20).toFixed(2).padStart(8)} MB`,
  );
}

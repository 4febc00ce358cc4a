/** `npm run soak`: ten minutes of everything; `npm run soak -- NAME SECONDS`: one of the long forms of what `npm test` runs for seconds. */
import { churn } from './churn.ts';
import { faults } from './faults.ts';
import { kill } from './kill.ts';
import { matrix } from './matrix.ts';
import { mixed } from './mixed.ts';
import { reload, wrkLoad } from './reload.ts';
import { sameMinute } from './same_minute.ts';

/** The default of all. */
const MIXED_SECONDS = 600;
const OTHERS_SECONDS = 60;

const [name = 'mixed', text] = process.argv.slice(2);
const seconds = Number(text ?? (name === 'mixed' ? MIXED_SECONDS : OTHERS_SECONDS));
const ends: (() => unknown)[] = [];
const scope = { after: (end: () => unknown) => void ends.push(end) };
const soaks: Readonly<Record<string, () => Promise<unknown>>> = {
  mixed: () => mixed(scope, seconds, console.log),
  reload: () => reload(scope, seconds, wrkLoad, console.log),
  churn: () => churn(scope, seconds, console.log),
  faults: () => faults(scope, seconds, console.log),
  matrix: () => matrix(seconds, console.log),
  minute: () => sameMinute(scope, seconds, console.log),
  kill: () => kill(scope, Math.max(1, Math.round(seconds / 2)), console.log),
};
const soak = soaks[name];
if (soak === undefined || !(seconds > 0)) {
  console.error(`usage: npm run soak -- ${Object.keys(soaks).join('|')} SECONDS`);
  process.exit(2);
}
await soak();
for (const end of ends.reverse()) await end();
console.log(`${name}: fine`);
process.exit(0);

/** `npm run soak -- reload|churn|kill|faults|matrix|minute SECONDS`: the long forms of what `npm test` runs for seconds. */
import { churn } from './churn.ts';
import { faults } from './faults.ts';
import { kill } from './kill.ts';
import { matrix } from './matrix.ts';
import { reload, wrkLoad } from './reload.ts';
import { sameMinute } from './same_minute.ts';

const [name = '', text = '60'] = process.argv.slice(2);
const seconds = Number(text);
const ends: (() => unknown)[] = [];
const scope = { after: (end: () => unknown) => void ends.push(end) };
const soaks: Readonly<Record<string, () => Promise<unknown>>> = {
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

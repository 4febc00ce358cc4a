/** `npm run proof`: 20,000 requests through three replicas, one killed and restarted every second, one failing every other time. */
import { prove } from '../test/integration/nothing_falls_over.ts';

const REQUESTS = Number(process.argv[2] ?? 20_000);
const MOST_ATTEMPTS = 1.4;

const after: (() => unknown)[] = [];
const { asked, failed, attemptsEach, tookMs, kills } = await prove(
  { after: (callback) => after.push(callback) },
  REQUESTS,
  1000,
  2,
);
for (const callback of after.reverse()) await callback();
const fine = failed.size === 0 && attemptsEach <= MOST_ATTEMPTS;
process.stdout.write(
  `${asked} requests in ${Math.round(tookMs / 1000)} s, one replica killed ${kills} times: ` +
    `${[...failed.values()].reduce((sum, count) => sum + count, 0)} failed, ${attemptsEach.toFixed(3)} attempts each\n`,
);
for (const [answer, count] of failed) process.stdout.write(`  ${count} × ${answer}\n`);
process.exitCode = fine ? 0 : 1;

/** The short form of the minute in which everything happens. */
import { test } from 'node:test';
import { sameMinute } from './same_minute.ts';

test(
  'reloads, new roots and certificates, a drained upstream and a killed thread at the same time: no request that may be asked again fails',
  { timeout: 110_000 },
  (t) => sameMinute(t, 4, (line) => t.diagnostic(line)),
);

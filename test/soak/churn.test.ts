/** The short form of the churn soak. */
import { test } from 'node:test';
import { churn } from './churn.ts';

test(
  'clusters, hosts and threads that come and go leave every slot free and every gauge zero',
  { timeout: 110_000 },
  (t) => churn(t, 4, (line) => t.diagnostic(line)),
);

/** The short form of the reload soak. */
import { test } from 'node:test';
import { nodeLoad, reload } from './reload.ts';

test(
  'no request on a connection of its own is lost while the configuration changes five times a second',
  { timeout: 110_000 },
  (t) => reload(t, 3, nodeLoad, (line) => t.diagnostic(line)),
);

/** The soak of everything, for three seconds; `npm run soak` runs it for ten minutes. */
import { test } from 'node:test';
import { mixed } from './mixed.ts';

test('all protocols under all faults while configurations change: nothing fails that may be sent again', (t) =>
  mixed(t, 3, (line) => t.diagnostic(line)));

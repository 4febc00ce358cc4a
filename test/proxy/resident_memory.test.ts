/** Which mappings may be dropped: only clean ones of Node's own file. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cleanFileMappings } from '../../proxy/resident_memory.ts';

const mapping = (head: string, anonymousKb: number): string =>
  `${head}\nSize:  64 kB\nRss:  64 kB\nAnonymous:  ${anonymousKb} kB\nSwap: 0 kB\n`;

test('only unwritable, untouched, private mappings of the file itself are dropped', () => {
  const smaps = [
    mapping('00400000-00410000 r--p 00000000 fe:00 77    /usr/bin/node', 0),
    mapping('00410000-00500000 r-xp 00010000 fe:00 77    /usr/bin/node', 0),
    mapping('00500000-00510000 r--p 00100000 fe:00 77    /usr/bin/node', 12),
    mapping('00510000-00520000 rw-p 00110000 fe:00 77    /usr/bin/node', 0),
    mapping('00520000-00530000 r--s 00110000 fe:00 77    /usr/bin/node', 0),
    mapping('00530000-00540000 r-xp 00010000 fe:00 78    /usr/lib/libc.so', 0),
    mapping('00540000-00550000 r-xp 00010000 fe:00 77    /usr/bin/node (deleted)', 0),
    mapping('00550000-00560000 rw-p 00000000 00:00 0 ', 0),
  ].join('');
  assert.deepEqual(cleanFileMappings(smaps, '/usr/bin/node'), [
    { start: 0x400000n, end: 0x410000n },
    { start: 0x410000n, end: 0x500000n },
  ]);
});

/** Gives memory back that starting took and running does not need. Linux with glibc; elsewhere nothing happens. */
import { dlopen } from 'node:ffi';
import { readFileSync } from 'node:fs';
import { getHeapStatistics, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** A start leaves most of what it frees in malloc's arenas; so does optimising compilation under the first load. */
const FIRST_TRIM_MS = 1000;
const TRIM_EVERY_MS = 2000;
/** What a start leaves on this thread's heap would stay there for hours: nothing here is busy enough to collect it. */
const COLLECT_MS = 4000;
/** Of an ordinary mesh it holds 20 to 30 MB. */
const LARGE_HEAP_BYTES = 64 * 1024 * 1024;
const MADV_DONTNEED = 4;

type Libc = {
  readonly malloc_trim: (pad: bigint) => number;
  readonly madvise: (address: bigint, bytes: bigint, advice: number) => number;
};

/** Called once, when the proxy is ready. @returns what stops it. */
export function keepMemorySmall(): () => void {
  const libc = openLibc();
  if (libc === undefined) return () => {};
  const first = setTimeout(() => {
    // 0.2 ms, 1.5 ms after a start: freed pages at the ends and in the middle of all arenas.
    libc.malloc_trim(0n);
    dropStartPages(libc);
  }, FIRST_TRIM_MS).unref();
  const collect = setTimeout(() => {
    collectGarbage();
    libc.malloc_trim(0n);
  }, COLLECT_MS).unref();
  const timer = setInterval(() => libc.malloc_trim(0n), TRIM_EVERY_MS).unref();
  return () => {
    clearTimeout(first);
    clearTimeout(collect);
    clearInterval(timer);
  };
}

/**
 * 60 to 100 ms, once, on the control thread: no request waits for it. As a last resort V8 also moves what is left
 * together and gives the pages back; otherwise it keeps a third of what it freed (10 MB). Not with ten thousand clusters:
 * it collects twice, and a control plane would wait for a second.
 */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  const flavor = getHeapStatistics().used_heap_size < LARGE_HEAP_BYTES ? 'last-resort' : 'regular';
  (runInNewContext('gc') as (options: object) => void)({ type: 'major', execution: 'sync', flavor });
}

function openLibc(): Libc | undefined {
  if (process.platform !== 'linux') return undefined;
  try {
    const { functions } = dlopen(null, {
      malloc_trim: { arguments: ['u64'], return: 'i32' },
      madvise: { arguments: ['u64', 'u64', 'i32'], return: 'i32' },
    });
    return functions as unknown as Libc;
  } catch {
    // musl has no malloc_trim.
    return undefined;
  }
}

/**
 * Unmaps the pages of Node's own file: half of them served only the start (its snapshot, the tables of ICU, the
 * compiler of modules). They stay in the page cache; what is still used comes back by a minor fault of 16 pages.
 */
function dropStartPages(libc: Libc): void {
  for (const { start, end } of cleanFileMappings(readFileSync('/proc/self/smaps', 'latin1'), process.execPath)) {
    libc.madvise(start, end - start, MADV_DONTNEED);
  }
}

/** Mappings of `file` that nobody can write and nobody has: dropping them loses nothing. smaps as in proc(5). */
export function cleanFileMappings(smaps: string, file: string): { readonly start: bigint; readonly end: bigint }[] {
  const found: { readonly start: bigint; readonly end: bigint }[] = [];
  let candidate: { readonly start: bigint; readonly end: bigint } | undefined;
  for (const line of smaps.split('\n')) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ (\d+)\s*(.*)$/.exec(line);
    if (head !== null) {
      const [, start, end, permissions = '', inode, path] = head;
      // After an upgrade in place the kernel says "(deleted)": the pages are the old file's all the same, but leave it.
      const ours = path === file && inode !== '0' && permissions[1] === '-' && permissions[3] === 'p';
      candidate = ours ? { start: BigInt(`0x${start}`), end: BigInt(`0x${end}`) } : undefined;
    } else if (candidate !== undefined && line.startsWith('Anonymous:')) {
      // Relocated read-only data is private memory, not the file's.
      if (/^Anonymous:\s+0 kB$/.test(line)) found.push(candidate);
      candidate = undefined;
    }
  }
  return found;
}

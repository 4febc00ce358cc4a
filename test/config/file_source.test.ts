/** Watched files: edits, renames, Kubernetes' links, mistakes. */
import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { FileSource } from '../../config/file_source.ts';
import type { Inputs } from '../../config/inputs.ts';
import type { ResourceChange } from '../../config/resources.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import type { Scope } from '../support/scope.ts';

const object = (name: string): string => `apiVersion: v1\nkind: Service\nmetadata: { name: ${name} }\n`;

/** A resource for each object, by name. */
function compile({ objects }: Inputs) {
  return objects.map(({ name }) => ({ type: 'cluster' as const, name, version: name, json: { name }, origin: name }));
}

class Watched {
  readonly source: FileSource;
  readonly changes: ResourceChange[] = [];
  readonly complaints: string[] = [];
  #wake: () => void = () => {};

  constructor(scope: Scope, paths: readonly string[]) {
    this.source = new FileSource({ paths, compile, watch: true });
    scope.after(() => this.source.stop());
    this.source.start({
      update: (change) => {
        this.changes.push(change);
        this.#wake();
        return { accepted: [], rejected: [] };
      },
      unreadable: (reasons) => {
        this.complaints.push(...reasons);
        this.#wake();
      },
      check: () => undefined,
      refused: () => {},
      claimAddresses: () => Promise.resolve(new Map()),
      runtimeLayer: () => {},
      initialized: () => {},
      whenWarmed: (callback) => callback(),
      statistics: { counter: () => ({ inc() {}, add() {} }), gauge: () => ({ set() {} }), text: () => {} },
    });
  }

  get names(): string[] {
    return this.changes.at(-1)?.upserts.map(({ name }) => name) ?? [];
  }

  async until(says: string, holds: () => boolean): Promise<void> {
    const deadline = performance.now() + 30_000;
    while (!holds()) {
      if (performance.now() > deadline) assert.fail(`never: ${says}`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        setTimeout(resolve, 50);
      });
    }
  }
}

function folder(scope: Scope): string {
  const path = mkdtempSync(join(tmpdir(), 'pillion-files-'));
  scope.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

test('an edit is seen at once, whether in place or by a rename', async (t) => {
  const base = folder(t);
  const file = join(base, 'mesh.yaml');
  // Time of this process: where it stands still, so does this.
  let turns = 0;
  const clock = setInterval(() => turns++, 20);
  t.after(() => clearInterval(clock));
  writeFileSync(file, object('one'));
  const watched = new Watched(t, [file]);
  await watched.until('the first', () => watched.names.join() === 'one');
  let started = turns;
  writeFileSync(file, object('two'));
  await watched.until('in place', () => watched.names.join() === 'two');
  assert.ok(turns - started < 75);
  started = turns;
  writeFileSync(`${file}.tmp`, object('three'));
  renameSync(`${file}.tmp`, file);
  await watched.until('by rename', () => watched.names.join() === 'three');
  assert.ok(turns - started < 75);
});

test('files and folders that come and go in a watched folder are seen', async (t) => {
  const base = folder(t);
  writeFileSync(join(base, 'a.yaml'), object('a'));
  const watched = new Watched(t, [base]);
  await watched.until('the first', () => watched.names.join() === 'a');
  writeFileSync(join(base, 'b.yaml'), object('b'));
  await watched.until('one more', () => watched.names.join() === 'a,b');
  mkdirSync(join(base, 'inner'));
  writeFileSync(
    join(base, 'inner/c.json'),
    JSON.stringify({ apiVersion: 'v1', kind: 'Service', metadata: { name: 'c' } }),
  );
  await watched.until('one in a new folder', () => watched.names.join() === 'a,b,c');
  writeFileSync(
    join(base, 'inner/c.json'),
    JSON.stringify({ apiVersion: 'v1', kind: 'Service', metadata: { name: 'd' } }),
  );
  await watched.until('an edit there', () => watched.names.join() === 'a,b,d');
  rmSync(join(base, 'a.yaml'));
  await watched.until('one less', () => watched.names.join() === 'b,d');
  // What is hidden or not YAML is nobody's business.
  const seen = watched.changes.length;
  writeFileSync(join(base, 'notes.txt'), 'x');
  writeFileSync(join(base, '.hidden.yaml'), 'x: [');
  await watched.source.reload();
  assert.equal(watched.changes.length, seen);
});

const NEIGHBOURS = {
  'a log that is written to': (base: string, turn: number) => appendFileSync(join(base, 'access.log'), `${turn}\n`),
  'a lock that comes and goes': (base: string, turn: number) =>
    turn % 2 === 0 ? writeFileSync(join(base, 'lock'), '') : rmSync(join(base, 'lock'), { force: true }),
};

for (const [neighbour, act] of Object.entries(NEIGHBOURS)) {
  test(`changes are seen beside ${neighbour} every 20 ms`, async (t) => {
    const base = folder(t);
    writeFileSync(join(base, 'mesh.yaml'), object('one'));
    const watched = new Watched(t, [base]);
    await watched.until('the first', () => watched.names.join() === 'one');
    let turn = 0;
    const busy = setInterval(() => act(base, turn++), 20);
    t.after(() => clearInterval(busy));
    await watched.until('the neighbour is at work', () => turn > 5);
    for (const name of ['two', 'three']) {
      const before = turn;
      writeFileSync(join(base, 'mesh.yaml'), object(name));
      await watched.until(name, () => watched.names.join() === name);
      // In the neighbour's turns: where this process gets no time, it has none either.
      assert.ok(turn - before < 100, `it took ${turn - before} turns`);
    }
  });
}

test("Kubernetes' swap of links is one change", async (t) => {
  const base = folder(t);
  const generation = (name: string, text: string): void => {
    mkdirSync(join(base, name));
    writeFileSync(join(base, name, 'mesh.yaml'), text);
  };
  generation('..2026_1', object('old'));
  symlinkSync('..2026_1', join(base, '..data'));
  symlinkSync('..data/mesh.yaml', join(base, 'mesh.yaml'));
  const watched = new Watched(t, [base]);
  await watched.until('the first', () => watched.names.join() === 'old');
  generation('..2026_2', object('new'));
  symlinkSync('..2026_2', join(base, '..data_tmp'));
  renameSync(join(base, '..data_tmp'), join(base, '..data'));
  rmSync(join(base, '..2026_1'), { recursive: true });
  await watched.until('the swap', () => watched.names.join() === 'new');
  assert.equal(watched.changes.length, 2);
  assert.deepEqual(watched.complaints, []);
});

test('a mistake is said once, with its place, and what is mended is taken', async (t) => {
  const file = join(folder(t), 'mesh.yaml');
  writeFileSync(file, object('one'));
  const watched = new Watched(t, [file]);
  await watched.until('the first', () => watched.names.join() === 'one');
  writeFileSync(file, `${object('one')}spec: [`);
  await watched.until('the complaint', () => watched.complaints.length > 0);
  assert.match(watched.complaints[0] as string, /mesh\.yaml:\d+:\d+/);
  // The second look of the poll must not say it again.
  await new Promise((resolve) => setTimeout(resolve, 1300));
  assert.equal(watched.complaints.length, 1);
  assert.equal(watched.changes.length, 1);
  assert.equal(await watched.source.reload(), false);
  assert.equal(watched.complaints.length, 2, 'who asks is answered');
  writeFileSync(file, object('two'));
  await watched.until('mended', () => watched.names.join() === 'two');
});

test('nothing is told when nothing changed', async (t) => {
  const file = join(folder(t), 'mesh.yaml');
  writeFileSync(file, object('one'));
  const watched = new Watched(t, [file]);
  await watched.until('the first', () => watched.names.join() === 'one');
  writeFileSync(file, object('one'));
  assert.equal(await watched.source.reload(), true);
  assert.equal(watched.changes.length, 1);
});

test('prepare fails where there is nothing to start with', async () => {
  const source = new FileSource({ paths: ['/no/such/file'], compile, watch: false });
  await assert.rejects(source.prepare(), ConfigError);
});

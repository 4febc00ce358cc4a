/** `pillion run -- CMD`: the application beside its proxy. */
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { PillionProcess, pillion, runPillion } from '../support/pillion_process.ts';

const FREE = [
  '--outbound',
  '127.0.0.1:0',
  '--admin',
  '127.0.0.1:0',
  '--status',
  '127.0.0.1:0',
  '--metrics',
  '127.0.0.1:0',
];
const RUN = ['run', '-c', 'examples/shop', ...FREE];

test('the application starts when the proxy serves, has our streams, and its exit code is ours', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pillion-app-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const admin = join(folder, 'admin');
  // It can call through the proxy at once: the admin's address is there and it is ready.
  const script = `curl -s -o /dev/null -w '%{http_code}\\n' http://$(cat ${admin})/ready; read line; echo "said $line"; exit 7`;
  const { code, stdout } = await runPillion(t, [...RUN, '--admin-address-path', admin, '--', 'sh', '-c', script], {
    input: 'hello\n',
  });
  assert.equal(stdout, '200\nsaid hello\n');
  assert.equal(code, 7);
});

test('signals reach the application, and the proxy drains only after it has gone', async (t) => {
  const script = `trap 'echo term; sleep 0.3; curl -s -o /dev/null -w "%{http_code}\\n" http://$(cat $ADMIN)/stats; exit 3' TERM; echo up; while :; do sleep 0.05; done`;
  const folder = mkdtempSync(join(tmpdir(), 'pillion-app-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const admin = join(folder, 'admin');
  const running = new PillionProcess(t, [...RUN, '--admin-address-path', admin, '--', 'sh', '-c', script], {
    env: { ADMIN: admin },
  });
  await running.until(/^up\n/m);
  // Ours, not the application's: it would end it.
  running.signal('SIGHUP');
  running.signal('SIGTERM');
  const { code, stdout } = await running.ended;
  assert.equal(stdout, 'up\nterm\n200\n');
  assert.equal(code, 3);
});

test('signals that a program may use for itself reach the application, and end nobody', async (t) => {
  const names = ['USR1', 'WINCH', 'CONT', 'URG', 'PWR'] as const;
  const script = `${names.map((name) => `trap 'echo ${name}' ${name}`).join('; ')}; trap 'exit 4' TERM; echo up; while :; do sleep 0.02; done`;
  const running = new PillionProcess(t, [...RUN, '--', 'sh', '-c', script]);
  await running.until(/^up\n/m);
  for (const name of names) {
    running.signal(`SIG${name}`);
    await running.until(new RegExp(`^${name}\n`, 'm'));
  }
  running.signal('SIGTERM');
  const { code, stdout, stderr } = await running.ended;
  assert.equal(code, 4);
  assert.equal(stdout, ['up', ...names, ''].join('\n'));
  assert.doesNotMatch(stderr, /Debugger/);
});

test('an application that a signal ended gives 128 and the signal’s number', async (t) => {
  const { code } = await runPillion(t, [...RUN, '--', 'sh', '-c', 'kill -KILL $$']);
  assert.equal(code, 137);
});

for (const [says, parameters, expected, complaint] of [
  [
    'there is no such program',
    [...RUN, '--', '/no/such/program'],
    127,
    /Cannot start "\/no\/such\/program": there is no such program/,
  ],
  ['it is not executable', [...RUN, '--', '/etc/passwd'], 126, /Cannot start "\/etc\/passwd": it may not be executed/],
  ['no command follows', [...RUN, '--'], 2, /After "--" a command is wanted/],
  [
    'the command is another one',
    ['validate', '-c', 'examples/shop', '--', 'true'],
    2,
    /"-- COMMAND" belongs to "run", not to "validate"/,
  ],
  [
    'the proxy cannot start',
    ['run', '-c', '/no/such', ...FREE, '--', 'sh', '-c', 'echo never'],
    3,
    /there is no such file/,
  ],
] as const) {
  test(`run -- CMD exits ${expected} when ${says}`, async (t) => {
    const { code, stdout, stderr } = await runPillion(t, parameters);
    assert.match(stderr, complaint);
    assert.equal(code, expected);
    assert.equal(stdout, '');
  });
}

const namespaces = spawnSync('unshare', ['--pid', '--fork', '--mount-proc', 'true']).status === 0;

test('as process 1 it leaves no zombie behind', {
  skip: !existsSync('/proc/1/stat') || !namespaces ? 'no right to make a PID namespace (unshare --pid)' : false,
}, async (t) => {
  // The orphans' parent ends at once: they are process 1's.
  const script = `for i in 1 2 3 4 5; do (sleep 0.1 & ) ; done; sleep 0.6; for p in /proc/[0-9]*; do cat $p/stat 2>/dev/null; done | grep -c ') Z ' ; exit 5`;
  const { code, stdout, stderr } = await runPillion(
    t,
    ['--pid', '--fork', '--mount-proc', pillion, ...RUN, '--', 'sh', '-c', script],
    { program: 'unshare' },
  );
  assert.equal(stdout, '0\n', stderr);
  assert.equal(code, 5);
});

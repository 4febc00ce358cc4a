/** Every flag of Envoy 1.40 is accepted. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { envoyFlags } from '../../cli/envoy_flags.ts';
import { withoutEnvoy } from '../support/envoy_process.ts';
import { runPillion } from '../support/pillion_process.ts';

/** `envoy --help` of 1.40, with a value where one is wanted. */
const FLAGS: readonly (readonly [flag: string, value?: string])[] = [
  ['--stats-tag', 'a:b'],
  ['--enable-core-dump'],
  ['--socket-mode', '600'],
  ['--socket-path', '@envoy'],
  ['--disable-extensions', 'x'],
  ['--cpuset-threads'],
  ['--enable-mutex-tracing'],
  ['--disable-hot-restart'],
  ['--mode', 'validate'],
  ['--parent-shutdown-time-s', '9'],
  ['--drain-strategy', 'immediate'],
  ['--drain-time-s', '4'],
  ['--file-flush-min-size-kb', '64'],
  ['--file-flush-interval-msec', '1000'],
  ['--service-zone', 'z'],
  ['--service-node', 'n'],
  ['--service-cluster', 'c'],
  ['--hot-restart-version'],
  ['--restart-epoch', '0'],
  ['--log-path', '/dev/null'],
  ['--enable-fine-grain-logging'],
  ['--log-format-escaped'],
  ['--log-format', '%v'],
  ['--component-log-level', 'router:debug,dns:trace'],
  ['--log-level', 'warn'],
  ['--local-address-ip-version', 'v4'],
  ['--admin-address-path', '/dev/null'],
  ['--log-stacktrace-single-entry'],
  ['--skip-deprecated-logs'],
  ['--ignore-unknown-dynamic-fields'],
  ['--reject-unknown-dynamic-fields'],
  ['--allow-unknown-static-fields'],
  ['--allow-unknown-fields'],
  ['--config-yaml', 'static_resources: {}'],
  ['--config-path', 'examples/shop'],
  ['--concurrency', '1'],
  ['--base-id-path', '/dev/null'],
  ['--skip-hot-restart-parent-stats'],
  ['--skip-hot-restart-on-no-parent'],
  ['--use-dynamic-base-id'],
  ['--base-id', '0'],
];

test('pillion accepts every flag of Envoy 1.40 together', async (t) => {
  const { code, stdout, stderr } = await runPillion(
    t,
    FLAGS.flatMap(([flag, value]) => (value === undefined ? [flag] : [flag, value])),
  );
  assert.equal(stderr, '');
  assert.equal(code, 0);
  assert.match(stdout, /^OK: /);
});

test('the list of flags is that of envoy --help', { skip: withoutEnvoy() }, () => {
  const { stdout, stderr } = spawnSync('envoy', ['--help'], { encoding: 'utf8' });
  const listed = [...`${stdout}${stderr}`.matchAll(/^\s+(?:-\w(?: <\w+>)?,\s+)?(--[a-z][a-z-]+)/gm)].map(
    ([, flag]) => flag as string,
  );
  const known = new Set(listed.filter((flag) => !['--version', '--help', '--ignore_rest'].includes(flag)));
  assert.deepEqual([...known].sort(), FLAGS.map(([flag]) => flag).sort());
});

test('every flag of the table is one of Envoy’s', () => {
  const known = new Set(FLAGS.map(([flag]) => flag));
  assert.deepEqual(
    envoyFlags.map(({ flags }) => flags.split(' ')[0] as string).filter((flag) => !known.has(flag)),
    [],
  );
});

test('--log-format shapes the log, and stands beside no application_log_config', async (t) => {
  const bootstrap = (more: Json): string[] => ['--config-yaml', JSON.stringify({ static_resources: {}, ...more })];
  const format = ['--log-format', 'L=%l %v'];
  const both = await runPillion(t, [
    'run',
    ...format,
    ...bootstrap({ application_log_config: { log_format: { text_format: '%v' } } }),
  ]);
  assert.equal(both.code, 3, both.stderr);
  assert.match(both.stderr, /application_log_config\.log_format.*--log-format/);
  const loopback = ['--admin', '--status', '--metrics', '--outbound'].flatMap((flag) => [flag, '127.0.0.1:0']);
  const { code, stderr } = await runPillion(t, [
    'run',
    ...format,
    ...loopback,
    ...bootstrap({}),
    '--base-id',
    '1',
    '--',
    'true',
  ]);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /^L=warning Accepted, without effect here: --base-id$/m);
  assert.match(stderr, /^L=info /m);
});

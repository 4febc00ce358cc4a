/** Flags, ProxyConfig and environment to how a stop goes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type DrainFlags, durationMs, readDrainPolicy } from '../../cli/drain_policy.ts';

const NONE: DrainFlags = { drainTimeMs: undefined, parentShutdownTimeMs: undefined, strategy: undefined };

const cases: readonly (readonly [
  says: string,
  flags: Partial<DrainFlags>,
  config: unknown,
  environment: Record<string, string>,
  expected: { deadlineMs?: number; minimumMs?: number; waitFor?: string; drainTimeMs?: number; strategy?: string },
])[] = [
  [
    'nothing',
    {},
    undefined,
    {},
    { deadlineMs: 5000, minimumMs: 0, waitFor: 'requests', drainTimeMs: 5000, strategy: 'immediate' },
  ],
  ['--drain-time-s', { drainTimeMs: 7000 }, undefined, {}, { deadlineMs: 7000, drainTimeMs: 7000 }],
  [
    'both times',
    { drainTimeMs: 45_000, parentShutdownTimeMs: 60_000, strategy: 'gradual' },
    undefined,
    {},
    { deadlineMs: 60_000, drainTimeMs: 45_000, strategy: 'gradual' },
  ],
  [
    'mesh.defaultConfig',
    {},
    { terminationDrainDuration: '9s', drainDuration: '45s' },
    {},
    { deadlineMs: 9000, drainTimeMs: 45_000 },
  ],
  [
    'PROXY_CONFIG before it',
    {},
    { terminationDrainDuration: '9s' },
    { PROXY_CONFIG: '{"terminationDrainDuration":"11s"}' },
    { deadlineMs: 11_000 },
  ],
  [
    'PROXY_CONFIG as YAML',
    {},
    undefined,
    { PROXY_CONFIG: 'terminationDrainDuration: 1m30s\n' },
    { deadlineMs: 90_000 },
  ],
  ['the older variable', {}, undefined, { TERMINATION_DRAIN_DURATION_SECONDS: '8' }, { deadlineMs: 8000 }],
  [
    'EXIT_ON_ZERO_ACTIVE_CONNECTIONS',
    {},
    { terminationDrainDuration: '9s' },
    { EXIT_ON_ZERO_ACTIVE_CONNECTIONS: 'true' },
    { deadlineMs: Number.POSITIVE_INFINITY, minimumMs: 5000, waitFor: 'connections' },
  ],
  [
    'it with a minimum and a flag',
    { drainTimeMs: 20_000 },
    undefined,
    { EXIT_ON_ZERO_ACTIVE_CONNECTIONS: 'true', MINIMUM_DRAIN_DURATION: '10s' },
    { deadlineMs: 20_000, minimumMs: 10_000 },
  ],
  [
    'a minimum above the default',
    {},
    undefined,
    { MINIMUM_DRAIN_DURATION: '30s' },
    { deadlineMs: 30_000, minimumMs: 30_000, waitFor: 'requests' },
  ],
];

for (const [says, flags, config, environment, expected] of cases) {
  test(`readDrainPolicy follows ${says}`, async () => {
    const { drainTimeMs, strategy, shutdown } = await readDrainPolicy({ ...NONE, ...flags }, config, environment);
    const all: Record<string, unknown> = { drainTimeMs, strategy, ...shutdown };
    for (const [name, value] of Object.entries(expected)) assert.equal(all[name], value, name);
  });
}

test('durations are Go’s, protobuf’s or seconds; anything else is refused by name', async () => {
  assert.equal(durationMs('1m0.5s', 'X'), 60_500);
  assert.equal(durationMs('250ms', 'X'), 250);
  assert.equal(durationMs('3', 'X'), 3000);
  for (const text of ['soon', '5 s', '-1s', '5d', '']) {
    assert.throws(
      () => durationMs(text, 'MINIMUM_DRAIN_DURATION'),
      /MINIMUM_DRAIN_DURATION wants a duration such as 5s/,
    );
  }
  await assert.rejects(readDrainPolicy(NONE, undefined, { PROXY_CONFIG: '{' }), /Cannot read PROXY_CONFIG/);
});

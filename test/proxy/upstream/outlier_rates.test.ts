/** Whose rates stand out: Envoy's own example, and where the rules begin and end. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failureOutliers, type HostRate, successOutliers } from '../../../proxy/upstream/outlier_rates.ts';

const RULES = { successRateMinimumHosts: 5, successRateRequestVolume: 100, successRateStdevFactor: 1900 };

const hosts = (percents: readonly number[], requests: readonly number[] = []): HostRate[] =>
  percents.map((successPercent, index) => ({
    address: `h${index}`,
    requests: requests[index] ?? 100,
    successPercent,
  }));

test('successOutliers finds 50 among four times 100: mean 90, deviation 20, threshold 52 (Envoy’s example)', () => {
  assert.deepEqual(successOutliers(hosts([50, 100, 100, 100, 100]), RULES), [
    { address: 'h0', requests: 100, successPercent: 50, average: 90, threshold: 52 },
  ]);
});

for (const [says, percents, requests, rules, found] of [
  // Mean 80, deviation 24.5: 40 is above 80 − 1.9 × 24.5 = 33.5 only by the factor.
  ['two that are equally bad are each other’s excuse', [50, 50, 100, 100, 100], [], {}, []],
  ['the factor 1000 is one deviation', [50, 50, 100, 100, 100], [], { successRateStdevFactor: 1000 }, ['h0', 'h1']],
  ['a factor of 0 takes all below the mean', [98, 99, 100, 100, 100], [], { successRateStdevFactor: 0 }, ['h0', 'h1']],
  ['equals among equals are no outliers', [0, 0, 0, 0, 0], [], {}, []],
  ['four hosts are too few', [0, 100, 100, 100], [], {}, []],
  ['a host with too few requests is not judged', [50, 100, 100, 100, 100, 100], [99], {}, []],
  ['a host with too few requests makes the others too few', [50, 100, 100, 100, 100], [100, 99], {}, []],
  ['exactly enough requests are enough', [50, 100, 100, 100, 100, 100], [100], {}, ['h0']],
  ['no host at all', [], [], { successRateMinimumHosts: 0 }, []],
] as const) {
  test(`successOutliers: ${says}`, () => {
    const outliers = successOutliers(hosts(percents, requests), { ...RULES, ...rules });
    assert.deepEqual(
      outliers.map(({ address }) => address),
      found,
    );
  });
}

const FAILURES = {
  failurePercentageMinimumHosts: 5,
  failurePercentageRequestVolume: 50,
  failurePercentageThreshold: 85,
};
for (const [says, percents, requests, rules, found] of [
  ['85 of 100 failures are enough, 84 are not', [15, 16, 100, 100, 100], [], {}, ['h0']],
  ['all may be found', [0, 0, 0, 0, 0], [], {}, ['h0', 'h1', 'h2', 'h3', 'h4']],
  ['four hosts are too few', [0, 100, 100, 100], [], {}, []],
  ['a host with too few requests is not judged', [0, 0, 100, 100, 100, 100], [49, 50], {}, ['h1']],
  [
    'a threshold of 0 takes everybody',
    [100, 100],
    [],
    { failurePercentageThreshold: 0, failurePercentageMinimumHosts: 0 },
    ['h0', 'h1'],
  ],
] as const) {
  test(`failureOutliers: ${says}`, () => {
    const outliers = failureOutliers(hosts(percents, requests), { ...FAILURES, ...rules });
    assert.deepEqual(
      outliers.map(({ address }) => address),
      found,
    );
  });
}

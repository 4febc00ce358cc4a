/** Tests of one input's value that are no plain comparison of texts (`custom_match`). */
import { parseCidr } from '../net/cidr.ts';
import { parseCelExpression } from '../policy/condition.ts';
import type { PolicySubject } from '../policy/facts.ts';
import { parseValueMatcher } from '../policy/value_matcher.ts';
import type { Fields } from '../resource_fields.ts';
import { type MatchInput, typeName } from './matcher.ts';

export type ValueTest = (value: unknown) => boolean;

/** For values of this kind of input. @throws {ConfigError} for others than are executed. */
export function parseValueTest(config: Fields, kind: MatchInput<never>['kind']): ValueTest {
  const type = typeName(config);
  const forKind = (wanted: MatchInput<never>['kind']): void => {
    if (kind !== wanted) config.fail('@type', `${type} cannot be asked about this input`);
  };
  switch (type) {
    case 'envoy.extensions.matching.input_matchers.ip.v3.Ip': {
      forKind('text');
      const ranges = config.messages('cidr_ranges').map(parseCidr);
      if (ranges.length === 0) config.fail('cidr_ranges', 'at least one is required');
      return (value) => typeof value === 'string' && ranges.some((range) => range.contains(value));
    }
    case 'xds.type.matcher.v3.CelMatcher': {
      forKind('subject');
      const condition = parseCelExpression(config.requiredMessage('expr_match'));
      return (value) => condition(value as PolicySubject);
    }
    case 'envoy.extensions.matching.input_matchers.metadata.v3.Metadata': {
      forKind('value');
      const test = parseValueMatcher(config.requiredMessage('value'));
      const invert = config.boolean('invert') ?? false;
      return (value) => test(value) !== invert;
    }
    default:
      return config.fail('@type', `the input matcher ${type} is not executed by this version`);
  }
}

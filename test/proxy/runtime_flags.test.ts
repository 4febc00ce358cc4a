/** envoy.config.core.v3.RuntimeFeatureFlag: what a layer says comes before the default. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Fields } from '../../proxy/resource_fields.ts';
import { isOn, parseRuntimeFlag, setRuntimeValues } from '../../proxy/runtime_values.ts';

test('a flag is what the layers say, and its default where they say nothing that is true or false', (t) => {
  t.after(() => setRuntimeValues(new Map()));
  const flag = parseRuntimeFlag(new Fields({ default_value: true, runtime_key: 'k' }));
  assert.equal(isOn(flag), true);
  setRuntimeValues(new Map([['k', 'false']]));
  assert.equal(isOn(flag), false);
  setRuntimeValues(new Map([['k', 'perhaps']]));
  assert.equal(isOn(flag), true);
  assert.equal(isOn(parseRuntimeFlag(undefined)), false);
});

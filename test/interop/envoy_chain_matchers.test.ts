/** Filter chains chosen by a tree of matchers: Envoy's clients get the chains that ours get. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { chainListeners, OVER_TLS, PLAIN, plainStatus, tlsStatuses } from '../support/chain_matcher_cases.ts';
import { type EnvoyProcess, startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { fileScope } from '../support/scope.ts';

const scope = fileScope();
const skip = withoutEnvoy();
let envoy: EnvoyProcess;

before(async () => {
  if (skip === false) envoy = await startEnvoy(scope, chainListeners());
});

for (const [name, , , status] of PLAIN) {
  test(`${name}: ${status ?? 'closed'} in Envoy`, { skip }, async () => {
    assert.equal(await plainStatus(envoy.port(name)), status);
  });
}
for (const [name, , statuses] of OVER_TLS) {
  test(`over TLS, ${name}: the same in Envoy`, { skip }, async () => {
    assert.deepEqual(await tlsStatuses(envoy.port(`TLS ${name}`)), statuses);
  });
}

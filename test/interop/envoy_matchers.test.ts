/** CEL conditions and the matching API of authorization, in Pillion and in Envoy: the same verdict by the same policy. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { type EnvoyProcess, startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { MATCHER_REQUESTS, matcherListeners } from '../support/matcher_cases.ts';
import { RawClient } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';

const scope = fileScope();
const skip = withoutEnvoy();
const LISTENERS = matcherListeners();
let envoy: EnvoyProcess;
let proxy: TestProxy;

before(async () => {
  if (skip !== false) return;
  envoy = await startEnvoy(scope, LISTENERS);
  proxy = await startTestProxy(scope, LISTENERS);
});

/** Every request's verdict, one after the other over one connection. */
async function verdicts(port: number): Promise<string[]> {
  const client = new RawClient(scope, port);
  const found: string[] = [];
  for (const head of MATCHER_REQUESTS) {
    const before = client.received.length;
    client.send(`${head}\r\n`);
    const text = await client.until((received) => ENDED.test(received.slice(before)));
    const [, status, says] = /^HTTP\/1.1 (\d+)[\s\S]*?\r\nx-says: (.*)\r\n/.exec(text.slice(before)) ?? [];
    found.push(`${status} ${sorted(says ?? '')}`);
  }
  client.socket.destroy();
  return found;
}
/** Envoy writes the keys of a Struct in their order. */
const sorted = (says: string): string =>
  says.replace(/\{.*?\}/g, (json) => JSON.stringify(Object.entries(JSON.parse(json) as object).sort()));
const ENDED = /\r\n\r\n(?:RBAC: access denied)?$/;

for (const { name } of LISTENERS) {
  test(`${name}: as Envoy decides`, { skip }, async () => {
    const theirs = await verdicts(envoy.port(name));
    const ours = await verdicts(proxy.port(name));
    MATCHER_REQUESTS.forEach((head, index) => {
      assert.equal(ours[index], theirs[index], JSON.stringify(head));
    });
  });
}

/** External authorization through Pillion and Envoy: the same questions, answers and requests upstream. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { type EnvoyProcess, startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { authorizerAnswer, EXT_AUTHZ_CASES, extAuthzResources } from '../support/ext_authz_cases.ts';
import { exchangeThrough } from '../support/http1_exchange.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { REFUSED_PORT } from '../support/free_port.ts';

const scope = fileScope();
const skip = withoutEnvoy();
let upstream: RawUpstream;
let authorizer: RawUpstream;
let envoy: EnvoyProcess;
let proxy: TestProxy;

before(async () => {
  if (skip !== false) return;
  upstream = await RawUpstream.start(scope, answering());
  authorizer = await RawUpstream.start(scope, (received, socket) => {
    const answer = authorizerAnswer(received);
    // One question a connection: what was asked is the whole of it.
    if (answer !== undefined) socket.end(answer.replace('\r\n', '\r\nconnection: close\r\n'));
  });
  const ports = { up: upstream.port, authz: authorizer.port, grpc: REFUSED_PORT, closed: REFUSED_PORT };
  envoy = await startEnvoy(scope, extAuthzResources(ports));
  proxy = await startTestProxy(scope, extAuthzResources(ports));
});

for (const { says, listener, request } of EXT_AUTHZ_CASES) {
  test(`${listener}: ${says}: as Envoy`, { skip }, async () => {
    const through = async (port: number): Promise<unknown> => {
      const asked = authorizer.received.length;
      const { response, forwarded } = await exchangeThrough(scope, port, upstream, request);
      return {
        response: response.filter((line) => !/^(server|x-envoy-upstream|connection)/.test(line)),
        forwarded,
        question: authorizer.received.slice(asked).map(comparable),
      };
    };
    assert.deepEqual(await through(proxy.port(listener)), await through(envoy.port(listener)));
  });
}

/** Without what Envoy's own client adds to any call. */
function comparable(question: string): string[] {
  const [head = '', body = ''] = question.split('\r\n\r\n');
  const [first = '', ...fields] = head.split('\r\n');
  return [
    first,
    ...fields
      .filter((field) => !/^(x-envoy-(internal|expected-rq-timeout-ms)|x-forwarded-for|x-request-id):/.test(field))
      .sort(),
    body,
  ];
}

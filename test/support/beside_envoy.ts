/** Pillion and Envoy with the same resources in front of one upstream, for all tests of a file. */
import { before } from 'node:test';
import type { Resource } from '../../config/resources.ts';
import { type EnvoyProcess, startEnvoy, withoutEnvoy } from './envoy_process.ts';
import { answering, RawUpstream } from './raw_peers.ts';
import { startTestProxy, type TestProxy } from './running_proxy.ts';
import type { Scope } from './scope.ts';

export class BesideEnvoy {
  /** For node:test's `skip`. */
  readonly skip: string | false = withoutEnvoy();
  upstream!: RawUpstream; // All three are there before the first test that is not skipped.
  envoy!: EnvoyProcess;
  proxy!: TestProxy;

  /** `resources`: for an upstream at that port. */
  constructor(scope: Scope, resources: (upstreamPort: number) => readonly Resource[]) {
    before(async () => {
      if (this.skip !== false) return;
      this.upstream = await RawUpstream.start(scope, answering());
      this.envoy = await startEnvoy(scope, resources(this.upstream.port));
      this.proxy = await startTestProxy(scope, resources(this.upstream.port));
    });
  }
}

/** Which endpoints take the mesh's mutual TLS: those with a sidecar whose PeerAuthentication does not turn it off. */
import type { Endpoint } from './model.ts';
import { MutualTlsModes, type PeerAuthentication } from './peer_authentication.ts';

export class ServerTls {
  readonly #policies: readonly PeerAuthentication[];
  readonly #rootNamespace: string;
  /** Nobody turns it off: most meshes. */
  readonly #everywhere: boolean;
  /** By namespace and labels: the Pods of a Deployment share them. */
  readonly #modes = new Map<string, MutualTlsModes>();

  constructor(policies: readonly PeerAuthentication[], rootNamespace: string) {
    this.#policies = policies;
    this.#rootNamespace = rootNamespace;
    this.#everywhere = !policies.some(({ spec }) =>
      [spec.mtls, ...(spec.portLevelMtls?.values() ?? [])].some((settings) => settings?.mode === 'DISABLE'),
    );
  }

  takes({ instance, port }: Endpoint): boolean {
    if (!instance.mutualTls) return false;
    if (this.#everywhere) return true;
    const { namespace, labels } = instance.workload;
    const key = `${namespace} ${JSON.stringify(labels)}`;
    let modes = this.#modes.get(key);
    if (modes === undefined) {
      modes = new MutualTlsModes(this.#policies, { namespace, labels }, this.#rootNamespace);
      this.#modes.set(key, modes);
    }
    return modes.of(port) !== 'DISABLE';
  }
}

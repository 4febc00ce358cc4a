/** PeerAuthentication (security.istio.io): which ports take mutual TLS, plain text, or both. Source: istio/istio pilot/pkg/security/authn. */
import type { KubeObject } from '../kube_object.ts';
import type { Client } from './context.ts';
import { type At, fail, message, oneOf, openMessage, type Read, type Shape, within } from './shape.ts';
import { checkScope, holdsFor, isUnselective, WORKLOAD_SELECTOR } from './workload_selector.ts';

export type MutualTlsMode = 'STRICT' | 'PERMISSIVE' | 'DISABLE';

const MUTUAL_TLS = message({ mode: oneOf('UNSET', 'DISABLE', 'PERMISSIVE', 'STRICT') });

/** By workload port, not by service port. */
const PORT_MODES: Shape<ReadonlyMap<number, Read<typeof MUTUAL_TLS>>> = (value, at) => {
  if (value === null || typeof value !== 'object' || Array.isArray(value))
    fail(at, 'a map from ports to modes is wanted');
  const out = new Map<number, Read<typeof MUTUAL_TLS>>();
  for (const [port, mode] of Object.entries(value)) {
    const place = within(at, port);
    if (!/^\d+$/.test(port)) fail(place, `a port number is wanted, got "${port}"`);
    if (Number(port) < 1 || Number(port) > 65535) fail(place, `a port from 1 to 65535 is wanted, got ${port}`);
    out.set(Number(port), MUTUAL_TLS(mode ?? {}, place));
  }
  if (out.size === 0) fail(at, 'at least one port is required');
  return out;
};

const SPEC = message({ selector: WORKLOAD_SELECTOR, mtls: MUTUAL_TLS, portLevelMtls: PORT_MODES });
const PEER_AUTHENTICATION = openMessage({ spec: SPEC });

export interface PeerAuthentication {
  readonly object: KubeObject;
  readonly spec: Read<typeof SPEC>;
}

/** @throws {ConfigError} */
export function parsePeerAuthentication(object: KubeObject, at: At): PeerAuthentication {
  const spec = PEER_AUTHENTICATION(object.json, at).spec ?? SPEC({}, within(at, 'spec'));
  checkScope(spec);
  if (spec.portLevelMtls !== undefined && isUnselective(spec)) {
    fail(within(spec.at, 'portLevelMtls'), 'portLevelMtls requires a selector');
  }
  return { object, spec };
}

/** What holds for one workload, and which object decided it. */
export class MutualTlsModes {
  readonly workload: MutualTlsMode;
  /** undefined: Istio's default, no object says anything. */
  readonly decidedBy: KubeObject | undefined;
  readonly #ports = new Map<number, { readonly mode: MutualTlsMode; readonly object: KubeObject }>();

  /** `all`: oldest first. Port beats selector beats namespace beats mesh; at one level the oldest wins. */
  constructor(all: readonly PeerAuthentication[], client: Pick<Client, 'namespace' | 'labels'>, rootNamespace: string) {
    const own = all.filter(({ object, spec }) => holdsFor(object, spec, client, rootNamespace));
    const level = (wanted: (policy: PeerAuthentication) => boolean) => own.find(wanted);
    const selected = own.filter(
      // With a selector the root namespace is a namespace like others.
      ({ object, spec }) => !isUnselective(spec) && object.namespace === client.namespace,
    );
    const chain = [
      selected[0],
      level(({ object, spec }) => isUnselective(spec) && object.namespace === client.namespace),
      level(({ object, spec }) => isUnselective(spec) && object.namespace === rootNamespace),
    ];
    const decided = chain.find((policy) => modeOf(policy?.spec.mtls) !== undefined);
    this.workload = modeOf(decided?.spec.mtls) ?? 'PERMISSIVE';
    this.decidedBy = decided?.object;
    const [first] = selected;
    for (const [port, settings] of first?.spec.portLevelMtls ?? []) {
      this.#ports.set(port, { mode: modeOf(settings) ?? this.workload, object: (first as PeerAuthentication).object });
    }
  }

  of(workloadPort: number): MutualTlsMode {
    return this.#ports.get(workloadPort)?.mode ?? this.workload;
  }

  /** The object that decided the mode of a port; undefined: Istio's default. */
  objectOf(workloadPort: number): KubeObject | undefined {
    return this.#ports.get(workloadPort)?.object ?? this.decidedBy;
  }

  /** Ports with a mode of their own. */
  get ports(): number[] {
    return [...this.#ports.keys()];
  }
}

/** undefined: the wider level decides. */
function modeOf(settings: Read<typeof MUTUAL_TLS> | undefined): MutualTlsMode | undefined {
  const mode = settings?.mode ?? 'UNSET';
  return mode === 'UNSET' ? undefined : mode;
}

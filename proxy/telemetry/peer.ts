/** A workload as the other side of a connection or as ourselves: what metrics call it, and how it says who it is. */

/** Names as metrics print them; `unknown` where nobody said. */
export interface Peer {
  readonly workload: string;
  readonly namespace: string;
  readonly app: string;
  readonly version: string;
  readonly canonicalService: string;
  readonly canonicalRevision: string;
  readonly cluster: string;
}

const UNKNOWN = 'unknown';

export const NOBODY: Peer = {
  workload: UNKNOWN,
  namespace: UNKNOWN,
  app: UNKNOWN,
  version: UNKNOWN,
  canonicalService: UNKNOWN,
  canonicalRevision: 'latest',
  cluster: UNKNOWN,
};

/** Istio's node metadata, our own or a peer's. */
export function peerOfMetadata(metadata: Readonly<Record<string, unknown>>): Peer {
  const text = (value: unknown): string | undefined => (typeof value === 'string' && value !== '' ? value : undefined);
  const given = metadata['LABELS'];
  const labels = (given !== null && typeof given === 'object' ? given : {}) as Readonly<Record<string, unknown>>;
  const workload = text(metadata['WORKLOAD_NAME']) ?? text(metadata['NAME']);
  if (workload === undefined) return NOBODY;
  const app = text(labels['app']);
  const version = text(labels['version']);
  return {
    workload,
    namespace: text(metadata['NAMESPACE']) ?? UNKNOWN,
    app: app ?? UNKNOWN,
    version: version ?? UNKNOWN,
    canonicalService:
      text(labels['service.istio.io/canonical-name']) ?? text(labels['app.kubernetes.io/name']) ?? app ?? workload,
    canonicalRevision:
      text(labels['service.istio.io/canonical-revision']) ??
      text(labels['app.kubernetes.io/version']) ??
      version ??
      'latest',
    cluster: text(metadata['CLUSTER_ID']) ?? UNKNOWN,
  };
}

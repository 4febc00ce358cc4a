/**
 * Where our resources differ from istiod's, each with its reason. The comparison fails for a difference that is not
 * here, and for an entry that no longer differs.
 */
export interface KnownDifference {
  /** Case and proxy, `*` for anything: `sidecar/web-v1-0`. */
  readonly proxy: string;
  /** Type and name: `cluster inbound|0||`. */
  readonly resource: string;
  /** JSON path; '' where one side lacks the resource. */
  readonly path: string;
  readonly reason: string;
  /** What will take it away; undefined: it stays. */
  readonly until?: string;
}

const NO_API_SERVER =
  'The YAML names no targetPort. A real API server fills in the service port; the one that made the dump had none, so istiod saw 0.';
const GRPC_ROUTE =
  'The GRPCRoute attaches to port 9000 of the service; the istiod that made the dump left the port to its default route.';

export const KNOWN_DIFFERENCES: readonly KnownDifference[] = [
  { proxy: 'bookinfo*', resource: 'cluster inbound|0||', path: '', reason: NO_API_SERVER },
  { proxy: 'bookinfo*', resource: 'cluster inbound|9080||', path: '', reason: NO_API_SERVER },
  { proxy: 'bookinfo*', resource: 'listener virtualInbound', path: 'filter_chains[*]', reason: NO_API_SERVER },
  {
    proxy: 'bookinfo*',
    resource: 'listener virtualInbound',
    path: 'listener_filters[*].filter_disabled.*',
    reason: NO_API_SERVER,
  },
  {
    proxy: 'gateway-api-mesh/*',
    resource: 'route 9000',
    path: 'virtual_hosts.cart.shop.svc.cluster.local:9000.routes*',
    reason: GRPC_ROUTE,
  },
];

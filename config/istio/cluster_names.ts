/** Names of clusters as istiod writes them (reference: istio/istio pilot/pkg/model/service.go BuildSubsetKey). */

/** `subset` '' is the whole service. */
export function outboundClusterName(port: number, subset: string, host: string): string {
  return `outbound|${port}|${subset}|${host}`;
}

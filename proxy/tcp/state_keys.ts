/** What network filters say to the TCP proxy behind them, in the connection's filter state. Envoy's names. */

/** Which cluster to take, whatever is configured; set by sni_cluster. */
export const CLUSTER_STATE_KEY = 'envoy.tcp_proxy.cluster';
/** The host and port to resolve, for clusters that make hosts on demand; set by sni_dynamic_forward_proxy. */
export const DYNAMIC_HOST_KEY = 'envoy.upstream.dynamic_host';
export const DYNAMIC_PORT_KEY = 'envoy.upstream.dynamic_port';

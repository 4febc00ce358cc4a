/** The stats_config of Istio's sidecar bootstrap: dashboards know statistics by these labels. */
import type { Json } from '../resources.ts';

const ADDRESS = '((?:[_.[:digit:]]*|[_\\[\\]aAbBcCdDeEfF[:digit:]]*))';

/** Names of clusters keep the dots of `….svc.cluster.local`, which Envoy's own tags would cut. */
export const ISTIO_STATS_CONFIG: Json = {
  use_all_default_tags: false,
  stats_tags: [
    { tag_name: 'cluster_name', regex: '^cluster\\.((.+?(\\..+?\\.svc\\.cluster\\.local)?)\\.)' },
    { tag_name: 'tcp_prefix', regex: '^tcp\\.((.*?)\\.)\\w+?$' },
    { tag_name: 'response_code', regex: '_rq(_(\\d{3}))$' },
    { tag_name: 'response_code_class', regex: '_rq(_(\\dxx))$' },
    { tag_name: 'http_conn_manager_listener_prefix', regex: `^listener(?=\\.).*?\\.http\\.(${ADDRESS}\\.)` },
    {
      tag_name: 'http_conn_manager_prefix',
      regex: '^http\\.(((?:outbound_(?:[0-9]{1,3}\\.{0,1}){4}_\\d{0,5})|(?:[^\\.]+))\\.)',
    },
    { tag_name: 'listener_address', regex: `^listener\\.(${ADDRESS}\\.)` },
  ],
};

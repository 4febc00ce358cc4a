/**
 * Connections to hosts come from the client's own address, and carry a mark by which the kernel leads the answers back
 * (TPROXY). Envoy: envoy.extensions.filters.listener.original_src.v3.
 */
import type { ListenerFilterFactory } from '../../proxy/net/listener_filter.ts';
import { ORIGINAL_SOURCE, type OriginalSource } from '../../proxy/net/original_source.ts';
import { Fields } from '../../proxy/resource_fields.ts';

interface Config {
  /** Of the sockets to hosts; 0: none. */
  readonly mark: number;
}

export default {
  typeUrls: ['type.googleapis.com/envoy.extensions.filters.listener.original_src.v3.OriginalSrc'],
  parse(json): Config {
    const fields = new Fields(json);
    if (fields.boolean('bind_port') === true) {
      fields.fail('bind_port', 'is not supported: the port is chosen by the kernel');
    }
    return { mark: fields.integer('mark') ?? 0 };
  },
  create: ({ mark }) => ({
    inspect(_bytes, facts) {
      const { ip, port } = facts.remoteAddress;
      // A unix socket's client has no address to come from.
      if (port === 0) return 'done';
      facts.filterState ??= new Map();
      facts.filterState.set(ORIGINAL_SOURCE, { ip, mark } satisfies OriginalSource);
      return 'done';
    },
  }),
} satisfies ListenerFilterFactory<Config>;

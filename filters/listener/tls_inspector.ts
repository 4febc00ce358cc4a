/** Finds out whether a client speaks TLS, and for which server name and protocols. Envoy: envoy.extensions.filters.listener.tls_inspector.v3. */
import { readClientHello } from '../../proxy/net/client_hello.ts';
import { fingerprintsOf } from '../../proxy/net/hello_fingerprints.ts';
import type { ListenerFilterFactory } from '../../proxy/net/listener_filter.ts';
import { Fields } from '../../proxy/resource_fields.ts';

interface Config {
  /** Default 16 KiB. */
  readonly maxHelloBytes: number;
  /** Default false: what begins like TLS and is none counts as raw bytes. */
  readonly closeOnMalformed: boolean;
  /** For %TLS_JA3_FINGERPRINT% and %TLS_JA4_FINGERPRINT%. Default: neither. */
  readonly fingerprints: { readonly ja3: boolean; readonly ja4: boolean };
}

const MAX_HELLO_BYTES = 16_384;
/** Of the one record that nearly all hellos are in. */
const RECORD_HEADER_BYTES = 5;

export default {
  typeUrls: ['type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector'],
  parse(json): Config {
    const fields = new Fields(json);
    return {
      fingerprints: {
        ja3: fields.boolean('enable_ja3_fingerprinting') ?? false,
        ja4: fields.boolean('enable_ja4_fingerprinting') ?? false,
      },
      maxHelloBytes: fields.integer('max_client_hello_size', 256, MAX_HELLO_BYTES) ?? MAX_HELLO_BYTES,
      closeOnMalformed: fields.boolean('close_connection_on_client_hello_parsing_errors') ?? false,
    };
  },
  create({ maxHelloBytes, closeOnMalformed, fingerprints }, deps) {
    const count = (name: string) => deps.counter(`tls_inspector.${name}`);
    const [tlsFound, tlsNotFound, tooLarge] = [
      count('tls_found'),
      count('tls_not_found'),
      count('client_hello_too_large'),
    ];
    const bytesProcessed = deps.histogram('tls_inspector.bytes_processed');
    const [sniFound, sniNotFound] = [count('sni_found'), count('sni_not_found')];
    const [alpnFound, alpnNotFound] = [count('alpn_found'), count('alpn_not_found')];
    return {
      inspect(bytes, facts) {
        const hello = readClientHello(bytes, maxHelloBytes);
        if (typeof hello === 'number') {
          facts.wantedBytes = facts.consumedBytes + hello;
          return 'more';
        }
        if (hello === 'too large') {
          tooLarge.inc();
          return 'reject';
        }
        if (hello === 'none' || hello === 'malformed') {
          tlsNotFound.inc();
          return hello === 'malformed' && closeOnMalformed ? 'reject' : 'done';
        }
        tlsFound.inc();
        bytesProcessed.record(hello.message.length + RECORD_HEADER_BYTES);
        (hello.serverName === undefined ? sniNotFound : sniFound).inc();
        (hello.applicationProtocols.length === 0 ? alpnNotFound : alpnFound).inc();
        facts.transportProtocol = 'tls';
        facts.serverName = hello.serverName;
        facts.applicationProtocols = hello.applicationProtocols;
        if (fingerprints.ja3 || fingerprints.ja4) facts.fingerprints = fingerprintsOf(hello.message, fingerprints);
        return 'done';
      },
      inspectEnd() {
        tlsNotFound.inc();
        return closeOnMalformed ? 'reject' : 'done';
      },
    };
  },
} satisfies ListenerFilterFactory<Config>;

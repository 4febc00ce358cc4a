/**
 * What the matching API may look at in authorization: the inputs that Envoy's RBAC filters take, no others. Source:
 * envoy.extensions.matching.common_inputs.{network, ssl}.v3, envoy.type.matcher.v3.HttpRequestHeaderMatchInput.
 */
import { type MatchInput, typeName } from '../matching/matcher.ts';
import type { SocketAddress, TlsInfo } from '../net/connection_info.ts';
import type { Fields } from '../resource_fields.ts';
import type { PolicyFacts } from './facts.ts';
import { parsePath, valueAt } from './value_matcher.ts';

type Read = (facts: PolicyFacts) => string | undefined;

const NETWORK = 'envoy.extensions.matching.common_inputs.network.v3.';
const SSL = 'envoy.extensions.matching.common_inputs.ssl.v3.';

const local = ({ subject }: PolicyFacts): SocketAddress => subject.connection.localAddress;
/** The client's address, as x-forwarded-for has it where that is trusted. */
const remote = ({ subject }: PolicyFacts): SocketAddress => subject.info.remoteAddress;
/** A unix socket has no address. */
const ip = ({ ip: text }: SocketAddress): string | undefined => (text.includes('/') ? undefined : text);

/** Of a certificate that was verified. */
function peer(read: (tls: TlsInfo) => string): Read {
  return ({ subject }) => {
    const { tls } = subject.connection;
    return tls === undefined || !tls.mutual ? undefined : nonEmpty(read(tls));
  };
}

const nonEmpty = (text: string | undefined): string | undefined => (text === '' ? undefined : text);

const TEXTS: Readonly<Record<string, Read>> = {
  [`${NETWORK}DestinationIPInput`]: (facts) => ip(local(facts)),
  [`${NETWORK}DestinationPortInput`]: (facts) => String(local(facts).port),
  [`${NETWORK}SourceIPInput`]: (facts) => ip(remote(facts)),
  [`${NETWORK}SourcePortInput`]: (facts) => String(remote(facts).port),
  [`${NETWORK}DirectSourceIPInput`]: ({ peerIp }) => (peerIp.includes('/') ? undefined : peerIp),
  [`${NETWORK}ServerNameInput`]: ({ subject }) => nonEmpty(subject.connection.requestedServerName),
  [`${SSL}UriSanInput`]: peer(({ peerUriSans }) => peerUriSans.join(',')),
  [`${SSL}DnsSanInput`]: peer(({ peerDnsSans }) => peerDnsSans.join(',')),
  [`${SSL}SubjectInput`]: peer(({ peerSubject }) => peerSubject),
};

/** `http`: whether there are requests. @throws {ConfigError} for inputs that cannot be looked at here. */
export function policyInput(config: Fields, http: boolean): MatchInput<PolicyFacts> {
  const type = typeName(config);
  const read = Object.hasOwn(TEXTS, type) ? TEXTS[type] : undefined;
  if (read !== undefined) return { kind: 'text', read };
  switch (type) {
    case `${NETWORK}FilterStateInput`: {
      const key = config.requiredString('key');
      return {
        kind: 'text',
        read({ subject }) {
          const value = subject.connection.filterState?.get(key);
          return typeof value === 'string' ? value : undefined;
        },
      };
    }
    case `${NETWORK}DynamicMetadataInput`: {
      const filter = config.requiredString('filter');
      const path = parsePath(config);
      return { kind: 'value', read: ({ subject }) => valueAt(subject.info.dynamicMetadata?.get(filter), path) };
    }
    case 'envoy.type.matcher.v3.HttpRequestHeaderMatchInput': {
      if (!http) break;
      // All values of the field as one text: what the API's own matchers in Envoy see.
      const name = config.requiredString('header_name').toLowerCase();
      const field = name === 'host' ? ':authority' : name;
      return { kind: 'text', read: ({ subject }) => subject.requestHeaders?.joined(field) };
    }
    case 'xds.type.matcher.v3.HttpAttributesCelMatchInput':
      if (!http) break;
      return { kind: 'subject', read: ({ subject }) => subject };
    default:
  }
  return config.fail('@type', `authorization cannot look at ${type}`);
}

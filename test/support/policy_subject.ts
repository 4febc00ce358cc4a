/** Requests and connections as authorization rules see them, for tests without sockets. */
import { RequestHeaders } from '../../proxy/http/headers.ts';
import { type Metadata, StreamInfo } from '../../proxy/http/stream_info.ts';
import { socketAddress, type ConnectionInfo } from '../../proxy/net/connection_info.ts';
import type { PolicySubject } from '../../proxy/policy/facts.ts';
import { tlsInfo } from './tls_info.ts';

export interface SubjectOptions {
  readonly method?: string;
  readonly path?: string;
  readonly host?: string;
  readonly headers?: readonly (readonly [string, string])[];
  /** URI SAN of a verified client certificate; undefined: plaintext. */
  readonly principal?: string | undefined;
  readonly dnsSans?: readonly string[];
  readonly subject?: string;
  readonly sni?: string | undefined;
  /** `ip:port`. */
  readonly local?: readonly [string, number];
  readonly peer?: string;
  /** Behind a PROXY header: whose bytes they are. */
  readonly direct?: string;
  /** From x-forwarded-for. */
  readonly remote?: string;
  readonly metadata?: Readonly<Record<string, Record<string, unknown>>> | undefined;
  readonly routeMetadata?: Metadata;
  readonly tcp?: boolean;
}

export function subject(options: SubjectOptions = {}): PolicySubject {
  const headers = new RequestHeaders();
  headers.method = options.method ?? 'GET';
  headers.path = options.path ?? '/';
  headers.authority = options.host ?? 'a.example';
  for (const [name, value] of options.headers ?? []) headers.append(name, value);
  const peer = socketAddress(options.peer ?? '10.0.0.1', 40000);
  const named = options.principal !== undefined || options.dnsSans !== undefined || options.subject !== undefined;
  const connection = {
    id: 1,
    localAddress: socketAddress(...(options.local ?? (['10.1.0.1', 8080] as const))),
    remoteAddress: peer,
    localAddressRestored: false,
    startMs: 0,
    ...(options.direct !== undefined && { directRemoteAddress: socketAddress(options.direct, 40000) }),
    requestedServerName: options.sni,
    alpn: undefined,
    tls: named
      ? tlsInfo({
          peerUriSans: options.principal === undefined ? [] : [options.principal],
          peerDnsSans: options.dnsSans ?? [],
          peerNames: [
            ...(options.principal === undefined ? [] : [{ type: 'uri', value: options.principal } as const]),
            ...(options.dnsSans ?? []).map((value) => ({ type: 'dns', value }) as const),
          ],
          peerSubject: options.subject ?? '',
        })
      : undefined,
    transportFailureReason: undefined,
    terminationDetails: undefined,
    filterState: undefined,
  } satisfies Partial<ConnectionInfo> as unknown as ConnectionInfo;
  const info = new StreamInfo(connection, 1_700_000_000_000, 0);
  if (options.remote !== undefined) info.remoteAddress = socketAddress(options.remote, 0);
  if (options.metadata !== undefined) info.dynamicMetadata = new Map(Object.entries(options.metadata));
  return {
    connection,
    requestHeaders: options.tcp === true ? undefined : headers,
    info,
    route: () => ({ metadata: options.routeMetadata }),
  };
}

/** Formats and requests for access logs, given to Pillion and to Envoy alike. */
import { JSON_FORMAT, TEXT_FORMAT } from '../../config/istio/access_log.ts';
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from './envoy_resources.ts';

/** Each command that both know, by what it prints. */
export const COMMANDS: readonly string[] = [
  '%REQ(:METHOD)%',
  '%REQ(X-MISSING)%',
  '%REQ(X-MISSING?USER-AGENT)%',
  '%REQ(USER-AGENT):4%',
  '%REQ(X-TWICE)%',
  '%RESP(CONTENT-LENGTH)%',
  '%RESP(:STATUS)%',
  '%TRAILER(X)%',
  '%PROTOCOL%',
  '%RESPONSE_CODE%',
  '%RESPONSE_CODE_DETAILS%',
  '%RESPONSE_FLAGS%',
  '%RESPONSE_FLAGS_LONG%',
  '%BYTES_RECEIVED%',
  '%BYTES_SENT%',
  '%UPSTREAM_CLUSTER%',
  '%UPSTREAM_CLUSTER_RAW%',
  '%UPSTREAM_HOST%',
  '%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%',
  '%UPSTREAM_TRANSPORT_FAILURE_REASON%',
  '%UPSTREAM_REQUEST_ATTEMPT_COUNT%',
  '%UPSTREAM_PROTOCOL%',
  '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%',
  '%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%',
  '%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%',
  '%DOWNSTREAM_TLS_VERSION%',
  '%DOWNSTREAM_PEER_URI_SAN%',
  '%REQUESTED_SERVER_NAME%',
  '%ROUTE_NAME%',
  '%HOSTNAME%',
  '%CONNECTION_TERMINATION_DETAILS%',
  '%METADATA(ROUTE:a:b)%',
  '%METADATA(CLUSTER:c:d:e)%',
  '%METADATA(CLUSTER:c)%',
  '%CLUSTER_METADATA(c:d)%',
  '%DYNAMIC_METADATA(x:y)%',
  '%FILTER_STATE(k)%',
  '%PATH(NQ)%',
  '%PATH(WQ)%',
  '%PATH(WQ:PATH)%',
  '%QUERY_PARAM(q)%',
  '%QUERY_PARAM(none)%',
  '%START_TIME(%Y/%m/%d)%',
  '%START_TIME(%s)%',
  '%START_TIME(%H:%M:%S)%',
  '%REQUEST_HEADER(USER-AGENT)%',
  '%RESPONSE_HEADER(CONTENT-LENGTH)%',
  '%RESPONSE_TRAILER(X)%',
  '%RESPONSE_TRAILERS_BYTES%',
  '%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%',
  '%GRPC_STATUS%',
  '%GRPC_STATUS_NUMBER%',
  '%REQUESTED_SERVER_NAME(SNI_FIRST)%',
  '%REQUESTED_SERVER_NAME(HOST_FIRST:HOST)%',
  '%COALESCE({"operators":["REQUESTED_SERVER_NAME",{"command":"REQ","param":":authority","max_length":3}]})%',
  '%QUERY_PARAMS%',
  '%QUERY_PARAMS(ORIG)%',
  '%QUERY_PARAMS(DECODED)%',
  '%VIRTUAL_CLUSTER_NAME%',
  '%FILTER_CHAIN_NAME%',
  '%ACCESS_LOG_TYPE%',
  '%CUSTOM_FLAGS%',
  '%LOCAL_REPLY_BODY%',
  '%TRACE_ID%',
  '%SPAN_ID%',
  '%UPSTREAM_HOST_NAME%',
  '%UPSTREAM_HOST_NAME_WITHOUT_PORT%',
  '%UPSTREAM_HOSTS_ATTEMPTED%',
  '%UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT%',
  '%UPSTREAM_HOST_NAMES_ATTEMPTED%',
  '%UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT%',
  '%UPSTREAM_HEADER_BYTES_RECEIVED%',
  '%UPSTREAM_WIRE_BYTES_RECEIVED%',
  '%DOWNSTREAM_HEADER_BYTES_RECEIVED%',
  '%DOWNSTREAM_WIRE_BYTES_RECEIVED%',
  '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(16)%',
  '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(12)%',
  '%DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT%',
  '%UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(32)%',
  '%ROUTE_RESOLUTION_COUNT%',
  '%CEL(request.method + " " + request.url_path)%',
  '%CEL(response.code >= 400 ? "bad" : "good")%',
  '%CEL(request.headers["user-agent"])%',
  '%CEL(has(request.headers.referer))%',
  '%CEL(size(request.path))%',
  '%CEL(response.flags)%',
  '%CEL(request.query)%',
  '%CEL(upstream.request_attempt_count)%',
  '%CEL(xds.route_name)%',
  '%CEL(xds.cluster_name)%',
  '%CEL(xds.route_metadata.filter_metadata["a"]["b"])%',
  '%CEL(connection.mtls)%',
  '%CEL(response.code_details)%',
  '%CEL(request.protocol)%',
  '%CEL(request.host)%',
  '%CEL(1 / 0 == 1 || request.method == "GET")%',
  '%CEL(request.path.matches("^/pl.*n"))%',
  '%CEL("a" in ["a","b"])%',
  '%DYNAMIC_METADATA(x)%',
  '100%%',
  '%ENVIRONMENT(PILLION_NO_SUCH)%',
  '%DOWNSTREAM_LOCAL_PORT%',
];

export const REQUESTS: readonly { readonly says: string; readonly request: string }[] = [
  {
    says: 'a plain request',
    request:
      'GET /plain?q=1&r=2 HTTP/1.1\r\nhost: a.example\r\nuser-agent: tester/1\r\nx-twice: 1\r\nx-twice: 2\r\nconnection: close\r\n\r\n',
  },
  {
    says: 'a body',
    request:
      'POST /plain HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nx-forwarded-for: 10.1.2.3\r\nx-request-id: abc\r\nconnection: close\r\n\r\nhello',
  },
  { says: 'a rewritten path', request: 'GET /old/x?q=%20 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n' },
  { says: 'no route', request: 'GET /nowhere HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n' },
  { says: 'no cluster', request: 'GET /gone HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n' },
  { says: 'no host', request: 'GET /empty HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n' },
  { says: 'a refused connection', request: 'GET /refused HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n' },
  { says: 'a direct answer', request: 'GET /direct HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n' },
  {
    says: 'a quote and a control character',
    request: 'GET /plain HTTP/1.1\r\nhost: a\r\nuser-agent: "x"\ty\\\r\nconnection: close\r\n\r\n',
  },
];

/** `text`, `json` and `all` (one command a line, numbered), each to its own file. */
export function listenersFor(
  upstreamPort: number,
  refusedPort: number,
  logs: Readonly<Record<'text' | 'json' | 'all' | 'typed', string>>,
): Resource[] {
  const routes = (): Json => ({
    // As in what is pushed: a route may name a cluster that is not there yet.
    validate_clusters: false,
    ...routeConfig([
      {
        name: 'plain',
        match: { prefix: '/plain' },
        route: { cluster: 'up' },
        metadata: { filter_metadata: { a: { b: 'from the route' } } },
      },
      { name: 'old', match: { prefix: '/old/' }, route: { cluster: 'up', prefix_rewrite: '/new/' } },
      { name: 'gone', match: { prefix: '/gone' }, route: { cluster: 'gone' } },
      { name: 'empty', match: { prefix: '/empty' }, route: { cluster: 'empty' } },
      { name: 'refused', match: { prefix: '/refused' }, route: { cluster: 'refused' } },
      {
        name: 'direct',
        match: { prefix: '/direct' },
        direct_response: { status: 418, body: { inline_string: 'tea' } },
      },
    ]),
  });
  const log = (path: string, format: Json): Json => ({
    name: 'envoy.access_loggers.file',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog',
      path,
      log_format: format,
    },
  });
  const text = (inline_string: string): Json => ({ text_format_source: { inline_string } });
  return [
    httpListener({
      routes: routes(),
      manager: {
        access_log: [
          log(logs.text, text(TEXT_FORMAT)),
          log(logs.json, { json_format: JSON_FORMAT }),
          log(logs.all, text(`${COMMANDS.map((command, index) => `${index} ${command}`).join('\t')}\n`)),
          log(logs.typed, {
            json_format: {
              number: '%RESPONSE_CODE%',
              text: 'code %RESPONSE_CODE%',
              absent: '%REQ(X-MISSING)%',
              nested: { list: ['%PROTOCOL%', '%BYTES_SENT%'], metadata: '%CLUSTER_METADATA(c)%' },
              constant: 7,
              yes: true,
            },
          }),
        ],
      },
    }),
    staticCluster('up', [upstreamPort], {
      alt_stat_name: 'alternative',
      metadata: { filter_metadata: { c: { d: { e: 'deep' }, f: 1.5 } } },
    }),
    staticCluster('empty', []),
    staticCluster('refused', [refusedPort]),
  ];
}

/** What differs from run to run, replaced. */
export function comparableLine(line: string): string {
  return (
    line
      .replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, 'TIME')
      .replace(/\d\d:\d\d:\d\d/g, 'CLOCK')
      .replace(/\b1[6-9]\d{8}\b/g, 'EPOCH')
      .replace(/127\.0\.0\.1:\d+/g, '127.0.0.1:PORT')
      .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, 'UUID')
      .replace(/("duration":|"upstream_service_time":)"?\d+"?/g, '$1N')
      // Istio's text: bytes received and sent, then duration and service time.
      .replace(
        /(" \d+ \d+) \d+ (\d+|-) "/,
        (_, bytes: string, time: string) => `${bytes} N ${time === '-' ? '-' : 'N'} "`,
      )
  );
}

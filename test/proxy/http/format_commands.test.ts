/** Every command of Envoy 1.40's access logs is known; those that no live comparison reaches are tried here. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type FormatInput, compileFormat, compileJsonValue } from '../../../proxy/http/formatter.ts';
import { RequestHeaders, ResponseHeaders } from '../../../proxy/http/headers.ts';
import { StreamInfo } from '../../../proxy/http/stream_info.ts';
import { type ConnectionInfo, plainConnection, socketAddress } from '../../../proxy/net/connection_info.ts';
import { MeshCa } from '../../support/mesh_ca.ts';
import { tlsInfo } from '../../support/tls_info.ts';

/** What `envoy --mode validate` of 1.40.0 accepts, without parameters and with them. */
const ENVOY = (
  'ACCESS_LOG_TYPE BYTES_RECEIVED BYTES_RETRANSMITTED BYTES_SENT CLUSTER_METADATA(a:b) COMMON_DURATION(DS_RX_BEG:DS_TX_END:ms) ' +
  'CONNECTION_ID CONNECTION_TERMINATION_DETAILS CUSTOM_FLAGS DOWNSTREAM_CX_RTT DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED ' +
  'DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT DOWNSTREAM_DETECTED_CLOSE_TYPE DOWNSTREAM_DIRECT_LOCAL_ADDRESS ' +
  'DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT DOWNSTREAM_DIRECT_LOCAL_PORT ' +
  'DOWNSTREAM_DIRECT_REMOTE_ADDRESS DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT DOWNSTREAM_DIRECT_REMOTE_PORT ' +
  'DOWNSTREAM_HANDSHAKE_DURATION DOWNSTREAM_HEADER_BYTES_RECEIVED DOWNSTREAM_HEADER_BYTES_SENT DOWNSTREAM_LOCAL_ADDRESS ' +
  'DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT(16) DOWNSTREAM_LOCAL_CLOSE_REASON ' +
  'DOWNSTREAM_LOCAL_DNS_SAN DOWNSTREAM_LOCAL_EMAIL_SAN DOWNSTREAM_LOCAL_IP_SAN DOWNSTREAM_LOCAL_OTHERNAME_SAN ' +
  'DOWNSTREAM_LOCAL_PORT DOWNSTREAM_LOCAL_SUBJECT DOWNSTREAM_LOCAL_URI_SAN DOWNSTREAM_PEER_CERT DOWNSTREAM_PEER_CERT_V_END ' +
  'DOWNSTREAM_PEER_CERT_V_START(%Y) DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1 DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256 ' +
  'DOWNSTREAM_PEER_CHAIN_SERIALS DOWNSTREAM_PEER_DNS_SAN DOWNSTREAM_PEER_EMAIL_SAN DOWNSTREAM_PEER_FINGERPRINT_1 ' +
  'DOWNSTREAM_PEER_FINGERPRINT_256 DOWNSTREAM_PEER_IP_SAN DOWNSTREAM_PEER_ISSUER DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256 ' +
  'DOWNSTREAM_PEER_ISSUER_SERIAL DOWNSTREAM_PEER_OTHERNAME_SAN DOWNSTREAM_PEER_SERIAL DOWNSTREAM_PEER_SUBJECT ' +
  'DOWNSTREAM_PEER_URI_SAN DOWNSTREAM_REMOTE_ADDRESS DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT DOWNSTREAM_REMOTE_PORT ' +
  'DOWNSTREAM_TLS_CIPHER DOWNSTREAM_TLS_GROUP DOWNSTREAM_TLS_SESSION_ID DOWNSTREAM_TLS_VERSION ' +
  'DOWNSTREAM_TRANSPORT_FAILURE_REASON DOWNSTREAM_WIRE_BYTES_RECEIVED DOWNSTREAM_WIRE_BYTES_SENT DURATION DYNAMIC_METADATA(a) ' +
  'EMIT_TIME EMIT_TIME_LOCAL ENVIRONMENT(HOME) FILTER_CHAIN_NAME FILTER_STATE(a) GRPC_STATUS GRPC_STATUS(SNAKE_STRING) ' +
  'GRPC_STATUS_NUMBER HOSTNAME LOCAL_REPLY_BODY METADATA(ROUTE:a) PACKETS_RETRANSMITTED PATH(NQ:ORIG) PROTOCOL QUERY_PARAM(a) ' +
  'QUERY_PARAMS QUERY_PARAMS(DECODED) REQ(a) REQUESTED_SERVER_NAME REQUESTED_SERVER_NAME(SNI_FIRST:HOST) REQUEST_DURATION ' +
  'REQUEST_HEADER(a) REQUEST_HEADERS_BYTES REQUEST_TX_DURATION RESP(a) RESPONSE_CODE RESPONSE_CODE_DETAILS ' +
  'RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES) RESPONSE_DURATION RESPONSE_FLAGS RESPONSE_FLAGS_LONG RESPONSE_HEADER(a) ' +
  'RESPONSE_HEADERS_BYTES RESPONSE_TRAILER(a) RESPONSE_TRAILERS_BYTES RESPONSE_TX_DURATION ROUNDTRIP_DURATION ROUTE_NAME ' +
  'ROUTE_RESOLUTION_COUNT ROUTE_RESOLUTION_TIME_US SPAN_ID START_TIME START_TIME(%f) START_TIME_LOCAL STREAM_ID ' +
  'TLS_JA3_FINGERPRINT TLS_JA4_FINGERPRINT TRACE_ID TRAILER(a) UNIQUE_ID UPSTREAM_CLUSTER UPSTREAM_CLUSTER_RAW ' +
  'UPSTREAM_CONNECTION_ID UPSTREAM_CONNECTION_IDS_ATTEMPTED UPSTREAM_CONNECTION_POOL_READY_DURATION ' +
  'UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT UPSTREAM_DETECTED_CLOSE_TYPE ' +
  'UPSTREAM_FILTER_STATE(a) UPSTREAM_HEADER_BYTES_RECEIVED UPSTREAM_HEADER_BYTES_SENT UPSTREAM_HOST UPSTREAM_HOSTS_ATTEMPTED ' +
  'UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT UPSTREAM_HOST_NAME UPSTREAM_HOST_NAMES_ATTEMPTED ' +
  'UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT UPSTREAM_HOST_NAME_WITHOUT_PORT UPSTREAM_LOCAL_ADDRESS ' +
  'UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT UPSTREAM_LOCAL_CLOSE_REASON UPSTREAM_LOCAL_DNS_SAN UPSTREAM_LOCAL_IP_SAN ' +
  'UPSTREAM_LOCAL_PORT UPSTREAM_LOCAL_URI_SAN UPSTREAM_METADATA(a) UPSTREAM_PEER_CERT UPSTREAM_PEER_CERT_V_END ' +
  'UPSTREAM_PEER_CERT_V_START UPSTREAM_PEER_DNS_SAN UPSTREAM_PEER_IP_SAN UPSTREAM_PEER_ISSUER UPSTREAM_PEER_SUBJECT ' +
  'UPSTREAM_PEER_URI_SAN UPSTREAM_PROTOCOL UPSTREAM_REMOTE_ADDRESS UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID ' +
  'UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT UPSTREAM_REMOTE_PORT UPSTREAM_REQUEST_ATTEMPT_COUNT UPSTREAM_SERVER_NAME ' +
  'UPSTREAM_TLS_CIPHER UPSTREAM_TLS_GROUP UPSTREAM_TLS_SESSION_ID UPSTREAM_TLS_VERSION UPSTREAM_TRANSPORT_FAILURE_REASON ' +
  'UPSTREAM_WIRE_BYTES_RECEIVED UPSTREAM_WIRE_BYTES_SENT VIRTUAL_CLUSTER_NAME CEL(request.path)'
).split(' ');

function connection(more: Partial<ConnectionInfo> = {}): ConnectionInfo {
  return { ...plainConnection(7, socketAddress('10.0.0.1', 80), socketAddress('10.1.10.23', 4000), 90), ...more };
}

function input(
  change: (info: StreamInfo, request: RequestHeaders, response: ResponseHeaders) => void = () => {},
  more: Partial<ConnectionInfo> = {},
): FormatInput {
  const info = new StreamInfo(connection(more), 1_700_000_000_123, 100);
  info.endMs = 150;
  const requestHeaders = new RequestHeaders();
  requestHeaders.method = 'POST';
  requestHeaders.path = '/a?b=c';
  requestHeaders.authority = 'web.example:8080';
  const responseHeaders = new ResponseHeaders();
  responseHeaders.status = 200;
  info.responseCode = 200;
  change(info, requestHeaders, responseHeaders);
  return { info, requestHeaders, responseHeaders, responseTrailers: undefined };
}

const text = (format: string, from: FormatInput): string => compileFormat(format, { absent: 'dash' }).format(from);

test('every command of Envoy 1.40 compiles, and prints on an empty stream', () => {
  for (const command of ENVOY) {
    const printed = text(`%${command}%`, input());
    assert.equal(typeof printed, 'string', command);
    assert.notEqual(printed, '', command);
  }
});

for (const [command, expected, from] of [
  ['%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(16)%', '10.1.0.0/16', input()],
  ['%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(33)%', '-', input()],
  [
    '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(64)%',
    '2001:db8:1234:5678::/64',
    input(undefined, { remoteAddress: socketAddress('2001:db8:1234:5678:9abc:def0:1234:5678', 1) }),
  ],
  [
    '%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%',
    '9.9.9.9:1',
    input(undefined, { directRemoteAddress: socketAddress('9.9.9.9', 1) }),
  ],
  ['%REQUESTED_SERVER_NAME(SNI_FIRST)%', 'sni.example', input(undefined, { requestedServerName: 'sni.example' })],
  ['%REQUESTED_SERVER_NAME(HOST_FIRST)%', 'web.example', input(undefined, { requestedServerName: 'sni.example' })],
  ['%FILTER_CHAIN_NAME%', 'chain-1', input(undefined, { filterChainName: 'chain-1' })],
  [
    '%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%',
    'InvalidArgument INVALID_ARGUMENT 3 3',
    input((_info, request, response) => {
      request.set('content-type', 'application/grpc+proto');
      response.set('grpc-status', '3');
    }),
  ],
  [
    '%GRPC_STATUS% %GRPC_STATUS%',
    'Unavailable Unavailable',
    input((info, request) => {
      request.set('content-type', 'application/grpc');
      info.responseCode = 503;
    }),
  ],
  [
    '%UPSTREAM_HOSTS_ATTEMPTED% %UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT% %UPSTREAM_CONNECTION_IDS_ATTEMPTED%',
    '10.0.0.5:80,10.0.0.6:80 a.example,10.0.0.6 3,4',
    input((info) => {
      info.hostChosen({ address: socketAddress('10.0.0.5', 80), hostname: 'a.example:80', metadata: undefined }, 110);
      info.connectionReady({ ...connection(), id: 3 }, 'HTTP/1.1', 112);
      info.hostChosen({ address: socketAddress('10.0.0.6', 80), hostname: '', metadata: undefined }, 120);
      info.connectionReady({ ...connection(), id: 4 }, 'HTTP/1.1', 125);
    }),
  ],
  [
    '%COMMON_DURATION(US_CX_BEG:US_CX_END:us)% %COMMON_DURATION(DS_RX_BEG:US_TX_BEG:ms)% %UPSTREAM_CONNECTION_POOL_READY_DURATION% %COMMON_DURATION(DS_RX_BEG:mine:ms)%',
    '2500 25 5 -',
    input((info) => {
      info.hostChosen({ address: socketAddress('10.0.0.6', 80), hostname: '', metadata: undefined }, 120);
      info.connectionReady(connection({ startMs: 90, connectStartMs: 87.5 }), 'HTTP/1.1', 125);
    }),
  ],
  [
    '%COALESCE({"operators":[{"command":"REQ","param":"x-none"},{"command":"REQ","param":":path"}]}):3%',
    '/a?',
    input(),
  ],
  ['%CEL(request.path.startsWith("/a") ? request.host : "")%', 'web.example:8080', input()],
  ['%PATH(NQ)% %QUERY_PARAMS%', '/a b=c', input()],
  ['%START_TIME(%s.%3f)%', '1700000000.123', input()],
] as const) {
  test(`${command} prints ${expected}`, () => assert.equal(text(command, from), expected));
}

test('TLS commands read the certificate that the peer showed', () => {
  const { chain } = new MeshCa().issue('spiffe://cluster.local/ns/a/sa/b');
  const tls = tlsInfo({
    peerUriSans: ['spiffe://cluster.local/ns/a/sa/b'],
    peerValidFromMs: Date.parse('2026-01-02T03:04:05Z'),
    peerValidToMs: Date.parse('2027-01-02T03:04:05Z'),
    peerCertificatePem: chain,
  });
  const from = input(
    (info) => {
      info.upstreamTls = tls;
    },
    { tls },
  );
  assert.equal(text('%DOWNSTREAM_PEER_CERT_V_START%', from), '2026-01-02T03:04:05.000Z');
  assert.equal(text('%UPSTREAM_PEER_CERT_V_END(%Y/%m)%', from), '2027/01');
  assert.equal(
    text('%DOWNSTREAM_PEER_URI_SAN% %UPSTREAM_PEER_URI_SAN%', from),
    `${tls.peerUriSans[0]} ${tls.peerUriSans[0]}`,
  );
  assert.equal(text('%DOWNSTREAM_PEER_EMAIL_SAN%', from), '-');
  assert.equal(text('%DOWNSTREAM_PEER_CERT%', from), encodeURIComponent(chain));
});

test('UNIQUE_ID is another UUID each time', () => {
  const { format } = compileFormat('%UNIQUE_ID%', { absent: 'dash' });
  assert.match(format(input()), /^[0-9a-f-]{36}$/);
  assert.notEqual(format(input()), format(input()));
});

test('typed JSON keeps numbers and objects', () => {
  assert.equal(compileJsonValue('%DURATION%')(input()), 50);
  assert.equal(compileJsonValue('%REQUEST_HEADERS_BYTES%')(input()), 0);
});

for (const [format, says] of [
  ['%NO_SUCH%', /there is no command NO_SUCH/],
  ['%COMMON_DURATION%', /START:END:PRECISION is wanted/],
  ['%COMMON_DURATION(A:B:s)%', /PRECISION one of ms, us, ns/],
  ['%GRPC_STATUS(x)%', /CAMEL_STRING, SNAKE_STRING or NUMBER/],
  ['%REQUESTED_SERVER_NAME(x)%', /SNI_ONLY, SNI_FIRST or HOST_FIRST/],
  ['%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT(x)%', /a prefix length/],
  ['%COALESCE(x)%', /its parameter is JSON/],
  ['%COALESCE({"operators":["NO_SUCH"]})%', /there is no command NO_SUCH/],
  ['%CEL(request.)%', /a name is wanted/],
  ['%START_TIME(%Q)%', /not a time directive/],
] as const) {
  test(`${format} is refused`, () => assert.throws(() => compileFormat(format, { absent: 'dash' }), says));
}

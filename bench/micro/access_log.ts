/** Access log: a line in Istio's text format, with its share of what handing over a batch costs. */
import { RequestHeaders, ResponseHeaders } from '../../proxy/http/headers.ts';
import { StreamInfo } from '../../proxy/http/stream_info.ts';
import { plainConnection, socketAddress, type ConnectionInfo } from '../../proxy/net/connection_info.ts';
import { ThreadAccessLogs } from '../../proxy/telemetry/thread_access_logs.ts';
import { bench } from './harness.ts';
import { ISTIO_FORMAT } from '../bootstrap.ts';

const connection: ConnectionInfo = plainConnection(
  1,
  socketAddress('10.1.2.3', 8080),
  socketAddress('10.1.2.4', 51234),
  1,
);
let sent = 0;
const counter = { inc() {}, add() {} };
const logs = new ThreadAccessLogs(
  {
    send(_path, lines) {
      sent += lines.length;
      return true;
    },
  },
  { written: counter, dropped: counter },
);
const log = logs.create({
  kind: 'file',
  path: '/x',
  format: { kind: 'text', format: ISTIO_FORMAT },
  filter: undefined,
});
const HEAD = Buffer.from(
  '/shop/catalog/7 catalog.default.svc.cluster.local:8080 curl/7.88.1 0d3f7eea-65f1-4560-be88-db89a326f161',
);
const upstream = socketAddress('10.1.2.9', 8080);

bench('a line of 360 bytes', (index) => {
  const head = HEAD.latin1Slice();
  const requestHeaders = new RequestHeaders();
  requestHeaders.path = head.slice(0, 15);
  requestHeaders.authority = head.slice(16, 54);
  requestHeaders.fields.push(
    'user-agent',
    head.slice(55, 66),
    'x-request-id',
    head.slice(67),
    'x-forwarded-proto',
    'http',
  );
  const responseHeaders = new ResponseHeaders();
  responseHeaders.fields.push('server', 'envoy', 'x-envoy-upstream-service-time', '1');
  const info = new StreamInfo(connection, 1_790_000_000_000 + (index >> 5), 100.5);
  info.responseCode = 200;
  info.responseCodeDetails = 'via_upstream';
  info.endMs = 102.5;
  info.bytesSent = 64;
  info.upstreamHost = upstream;
  info.upstreamLocalAddress = connection.localAddress;
  info.upstreamCluster = 'outbound|8080||catalog.default.svc.cluster.local';
  info.routeName = 'default';
  log.log({ info, requestHeaders, responseHeaders, responseTrailers: undefined });
  return sent;
});

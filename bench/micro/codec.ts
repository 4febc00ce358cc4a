/** HTTP/1.1: a head of 280 bytes in, a small answer out. */
import type { CodecCallbacks, StreamDecoder, StreamEncoder } from '../../proxy/http/codec.ts';
import { ResponseHeaders } from '../../proxy/http/headers.ts';
import { Http1ServerCodec } from '../../proxy/http1/server_codec.ts';
import { bench } from './harness.ts';

const HEAD = Buffer.from(
  'GET /shop/catalog/7?color=green HTTP/1.1\r\nhost: catalog.default.svc.cluster.local:8080\r\nuser-agent: curl/7.88.1\r\naccept: */*\r\naccept-encoding: gzip, deflate, br\r\nx-request-id: 0d3f7eea-65f1-4560-be88-db89a326f161\r\nx-forwarded-proto: http\r\ncookie: session=1234567890\r\n\r\n',
);
const BODY = Buffer.alloc(64, 'x');
let encoder: StreamEncoder | undefined;
let written = 0;
const decoder: StreamDecoder = {
  decode1xx() {},
  decodeHeaders() {},
  decodeData() {},
  decodeTrailers() {},
  onReset() {},
  onDrain() {},
};
const callbacks: CodecCallbacks = {
  newStream(opened) {
    encoder = opened;
    return decoder;
  },
  onGoAway() {},
  onSettings() {},
  write(bytes) {
    written += bytes.length;
    return true;
  },
  readDisable() {},
  onMessageComplete() {},
  onInputWanted() {},
  onLocalReset() {},
};
const codec = new Http1ServerCodec(callbacks, {});
bench(`decode a head of ${HEAD.length} bytes, encode a 64-byte answer`, () => {
  codec.dispatch(HEAD);
  const headers = new ResponseHeaders();
  headers.set('content-length', '64');
  headers.set('content-type', 'text/plain');
  encoder?.encodeHeaders(headers, false);
  encoder?.encodeData(BODY, true);
  return written;
});

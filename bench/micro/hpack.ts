/** HPACK: blocks of a client that uses the dynamic table, of a server that does not, and a request with an id of its own. */
import { DecodedBlock, HpackDecoder } from '../../proxy/http2/hpack/decoder.ts';
import { HpackEncoder } from '../../proxy/http2/hpack/encoder.ts';
import { bench } from './harness.ts';

const LIMITS = { maxListBytes: 61_440, maxCount: 100 };
const REQUEST: readonly string[] = [
  ':method',
  'GET',
  ':scheme',
  'http',
  ':path',
  '/shop/catalog/7',
  ':authority',
  'catalog.default.svc.cluster.local:8080',
  'user-agent',
  'h2load nghttp2/1.52.0',
  'x-forwarded-proto',
  'http',
];
/** As nginx sends it: 200, server, date, content-type and content-length, none of them for the table. */
const ANSWER = Buffer.from(
  `88${'7689aa6355e580ae17b05c' /* nginx/1.22.1 */}${'6196df697e940b8a681fa50400b8a01ab8276e34f298b46f' /* a date */}` +
    `${'5f8b1d75d0620d263d4c7441ea'}${'5c023634'}`,
  'hex',
);
const out = Buffer.alloc(4096);
const block = new DecodedBlock();

function encode(encoder: HpackEncoder, id: string | undefined): number {
  let at = encoder.start(out, 0);
  for (let i = 0; i < REQUEST.length; i += 2) {
    at = encoder.field(REQUEST[i] as string, REQUEST[i + 1] as string, out, at);
  }
  return id === undefined ? at : encoder.field('x-request-id', id, out, at);
}

const source = new HpackEncoder();
const decoder = new HpackDecoder(4096);
for (let i = 0; i < 3; i++) decoder.decode(out, 0, encode(source, undefined), LIMITS, block);
const indexed = Buffer.from(out.subarray(0, encode(source, undefined)));
bench(`decode a request of ${indexed.length} bytes from the table`, () => {
  decoder.decode(indexed, 0, indexed.length, LIMITS, block);
  return block.count;
});
const plain = new HpackDecoder(4096);
if (!plain.decode(ANSWER, 0, ANSWER.length, LIMITS, block)) throw new Error('the answer cannot be decoded');
bench(`decode an answer of ${ANSWER.length} bytes without the table`, () => {
  plain.decode(ANSWER, 0, ANSWER.length, LIMITS, block);
  return block.count;
});
const encoder = new HpackEncoder();
bench('encode a request with an id that never repeats', (index) => {
  const digits = Buffer.from(`${index}`.padStart(12, '0'));
  return encode(encoder, digits.latin1Slice(0, 12));
});

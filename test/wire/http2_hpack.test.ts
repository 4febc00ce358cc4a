/** HPACK: the stories that other encoders made, our own encoder against our decoder, and blocks that are none. */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { DecodedBlock, HpackDecoder } from '../../proxy/http2/hpack/decoder.ts';
import { HpackEncoder } from '../../proxy/http2/hpack/encoder.ts';
import { Kind } from '../../proxy/http2/hpack/field_kind.ts';
import { huffmanDecode, huffmanEncode, huffmanLength } from '../../proxy/http2/hpack/huffman.ts';
import { root } from '../support/pillion_process.ts';

const STORIES = `${root}../shared/data/hpack`;
const skip = existsSync(STORIES) ? false : `the HPACK stories are not here: ${STORIES}`;
const NO_LIMITS = { maxListBytes: 1e9, maxCount: 1e9 };

interface Story {
  readonly cases: readonly {
    readonly wire?: string;
    readonly header_table_size?: number;
    readonly headers: readonly Readonly<Record<string, string>>[];
  }[];
}

function storiesOf(encoder: string): [name: string, story: Story][] {
  return globSync(`${STORIES}/${encoder}/*.json`)
    .sort()
    .map((path) => [path.slice(STORIES.length + 1), JSON.parse(readFileSync(path, 'utf8')) as Story]);
}

function texts(headers: readonly Readonly<Record<string, string>>[]): string[] {
  return headers.flatMap((field) => Object.entries(field).flat());
}

/** Encodes fields as a block; the buffer is longer than the bound says it must be. */
function encode(encoder: HpackEncoder, fields: readonly string[]): Buffer {
  const out = Buffer.alloc(HpackEncoder.bound(fields) + 64);
  let at = encoder.start(out, 0);
  for (let i = 0; i < fields.length; i += 2) at = encoder.field(fields[i] as string, fields[i + 1] as string, out, at);
  assert.ok(at <= HpackEncoder.bound(fields) + 12, 'the bound holds');
  return out.subarray(0, at);
}

function decode(decoder: HpackDecoder, block: Buffer): string[] | undefined {
  const into = new DecodedBlock();
  return decoder.decode(block, 0, block.length, NO_LIMITS, into) ? [...into.texts] : undefined;
}

for (const encoder of ['go-hpack', 'nghttp2']) {
  test(`HpackDecoder gives the fields of every story when ${encoder} encoded them`, { skip }, () => {
    const stories = storiesOf(encoder);
    assert.ok(stories.length > 10);
    for (const [name, { cases }] of stories) {
      const decoder = new HpackDecoder(4096);
      for (const [index, { wire = '', headers }] of cases.entries()) {
        assert.deepEqual(decode(decoder, Buffer.from(wire, 'hex')), texts(headers), `${name}, case ${index}`);
      }
    }
  });
}

for (const size of [4096, 256, 0]) {
  test(`HpackDecoder gives back what HpackEncoder made of every story when the table has ${size} bytes`, {
    skip,
  }, () => {
    for (const [name, { cases }] of storiesOf('raw-data')) {
      const encoder = new HpackEncoder();
      const decoder = new HpackDecoder(4096);
      encoder.setTableLimit(size);
      for (const [index, { headers }] of cases.entries()) {
        const fields = texts(headers);
        assert.deepEqual(decode(decoder, encode(encoder, fields)), fields, `${name}, case ${index}`);
        assert.equal(decoder.tableBytes, encoder.tableBytes, `${name}, case ${index}: the tables are in step`);
        assert.ok(encoder.tableBytes <= size);
      }
    }
  });
}

test('HpackEncoder and HpackDecoder stay in step when table sizes change between random blocks', () => {
  const name = fc.oneof(
    fc.constantFrom(':path', 'x-a', 'x-b', 'date', 'cookie', 'authorization'),
    fc.stringMatching(/^[a-z-]{1,30}$/),
  );
  const value = fc.oneof(fc.constantFrom('', '1', 'some value'), fc.string({ unit: 'binary-ascii', maxLength: 60 }));
  const step = fc.oneof(
    fc.record({ fields: fc.array(fc.tuple(name, value), { maxLength: 12 }) }),
    fc.record({ size: fc.integer({ min: 0, max: 5000 }) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const encoder = new HpackEncoder();
      const decoder = new HpackDecoder(4096);
      for (const each of steps) {
        if ('size' in each) encoder.setTableLimit(each.size);
        else {
          const fields = each.fields.flat();
          assert.deepEqual(decode(decoder, encode(encoder, fields)), fields);
          assert.equal(decoder.tableBytes, encoder.tableBytes);
        }
      }
    }),
    { numRuns: 300 },
  );
});

test('huffmanDecode gives back every latin1 text when huffmanEncode wrote it', () => {
  const all = String.fromCharCode(...Array.from({ length: 256 }, (_, code) => code));
  fc.assert(
    fc.property(fc.oneof(fc.constant(all), fc.string({ unit: 'binary', maxLength: 200 })), (given) => {
      const text = Buffer.from(given, 'latin1').toString('latin1');
      const out = Buffer.alloc(huffmanLength(text) + 8);
      const end = huffmanEncode(text, out, 0);
      assert.equal(end, huffmanLength(text));
      assert.equal(huffmanDecode(out, 0, end), text);
    }),
  );
});

const REFUSED: readonly [what: string, hex: string][] = [
  ['index 0', '80'],
  ['an index beyond the tables', 'be'],
  ['a name index beyond the tables', '7e0161'],
  ['a size update behind a field', '8220'],
  ['a size update beyond our setting', '3fe21f'],
  ['an integer without its end', 'ff'],
  ['an integer of more than 28 bits', 'ff8080808080808001'],
  ['a text longer than the block', '400a61'],
  ['a literal without its value', '400161'],
  ['Huffman padding of eight bits', '4001618207ff'],
  ['Huffman padding by zeros', '4001618100'],
  ['Huffman with the end-of-string symbol', '40016184ffffffff'],
];
for (const [what, hex] of REFUSED) {
  test(`HpackDecoder refuses the block when it holds ${what}`, () => {
    assert.equal(decode(new HpackDecoder(4096), Buffer.from(hex, 'hex')), undefined);
  });
}

test('HpackDecoder counts the decoded size, and keeps nothing beyond it, when one entry is named again and again', () => {
  const decoder = new HpackDecoder(4096);
  const value = 'v'.repeat(3900);
  const entry = Buffer.concat([Buffer.from([0x40, 1, 0x61, 0x7f, 0xbd, 0x1d]), Buffer.from(value)]);
  assert.equal(decode(decoder, entry)?.[1]?.length, 3900);
  const bomb = Buffer.alloc(16_000, 0xbe);
  const into = new DecodedBlock();
  assert.equal(decoder.decode(bomb, 0, bomb.length, { maxListBytes: 61_440, maxCount: 100 }, into), true);
  assert.equal(into.overflow, 'bytes');
  assert.equal(into.listBytes, 16_000 * (3900 + 33));
  assert.ok(into.kinds.length < 20);
});

test('HpackDecoder knows what a field is when its name or value is none that HTTP/2 takes', () => {
  const kinds = (name: string, value: string): number => {
    const into = new DecodedBlock();
    const block = Buffer.concat([
      Buffer.from([0, name.length]),
      Buffer.from(name),
      Buffer.from([value.length]),
      Buffer.from(value, 'latin1'),
    ]);
    assert.ok(new HpackDecoder(4096).decode(block, 0, block.length, NO_LIMITS, into));
    return into.kinds[0] as number;
  };
  assert.equal(kinds('x-a', 'b'), Kind.regular);
  for (const name of ['X-A', 'x a', 'x:a', ':x', 'x\u0000a', '']) assert.equal(kinds(name, 'b'), Kind.badName, name);
  for (const value of ['a\rb', 'a\nb', 'a\0b', ' a', 'a ', '\ta', 'a\t', '\u007f']) {
    assert.equal(kinds('x-a', value), Kind.badValue, JSON.stringify(value));
  }
  for (const name of ['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade']) {
    assert.equal(kinds(name, 'b'), Kind.connection, name);
  }
  assert.equal(kinds('x-a', 'caf\u00e9\tb'), Kind.regular);
});

test('HpackDecoder gives each text as it was written when texts come again on other connections', () => {
  const text = fc.oneof(fc.constantFrom('nginx', 'text/plain'), fc.string({ unit: 'binary-ascii', maxLength: 60 }));
  fc.assert(
    fc.property(fc.array(text, { minLength: 1, maxLength: 20 }), fc.boolean(), (values, huffman) => {
      const fields = values.flatMap((value) => ['x-a', value]);
      const pieces = values.map((value) => {
        const bytes = Buffer.from(value, 'latin1');
        const packed = Buffer.alloc(huffmanLength(value) + 8);
        const payload = huffman ? packed.subarray(0, huffmanEncode(value, packed, 0)) : bytes;
        if (payload.length >= 127) return undefined;
        return Buffer.concat([
          Buffer.from([0, 3]),
          Buffer.from('x-a'),
          Buffer.from([payload.length | (huffman ? 0x80 : 0)]),
          payload,
        ]);
      });
      fc.pre(pieces.every((piece) => piece !== undefined));
      const block = Buffer.concat(pieces as Buffer[]);
      for (let again = 0; again < 4; again++) assert.deepEqual(decode(new HpackDecoder(4096), block), fields);
    }),
  );
});

test('HpackEncoder names an entry of the table when many values of one name stand there', () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder(4096);
  for (const values of [20, 90]) {
    for (let round = 0; round < 4; round++) {
      for (let value = 0; value < values; value++) {
        const fields = ['x-a', `value-${value}`, 'x-a', `value-${value}`];
        const block = encode(encoder, fields);
        assert.deepEqual(decode(decoder, block), fields);
        assert.equal(decoder.tableBytes, encoder.tableBytes);
        if (values === 20 && round > 0) assert.equal(block.length, 2, 'two indexes');
      }
    }
  }
});

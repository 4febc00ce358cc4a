/** LineBuffer: whatever a text holds, its bytes are those of the escaped text, at any length and after any other. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { LineBuffer } from '../../../proxy/telemetry/line_buffer.ts';
import { escapeControls } from '../../../proxy/telemetry/thread_access_logs.ts';

const piece = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 200 }),
  fc.string({ unit: 'grapheme', maxLength: 200 }),
  fc.stringMatching(/^[\x00-\xff]{0,100}$/),
  fc.constantFrom('', '-', '\t', 'a\u007fb', 'forged\n[line]', 'é', '😀'.repeat(40), 'x'.repeat(5000)),
);

test('LineBuffer.text holds the escaped text as UTF-8 when it was written in pieces', () => {
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 12 }), (pieces) => {
      const buffer = new LineBuffer();
      for (const text of pieces) {
        buffer.text(text);
        buffer.raw(Buffer.from('|'));
      }
      const expected = pieces.map((text) => Buffer.concat([utf8(text), Buffer.from('|')]));
      assert.deepEqual(buffer.take().toString('hex'), Buffer.concat(expected).toString('hex'));
    }),
    { numRuns: 500 },
  );
});

test('LineBuffer.plain changes nothing when the text holds controls and more than ASCII', () => {
  const buffer = new LineBuffer();
  const text = JSON.stringify({ a: '\u007f é 😀\n' });
  buffer.plain(text);
  assert.equal(buffer.take().toString(), text);
});

/** Each stretch between two controls is encoded by itself: half of a surrogate pair never meets the other half there. */
function utf8(text: string): Buffer {
  return Buffer.from(escapeControls(text));
}

/** Frames: the published cases, and a connection's bytes cut at every place. */
import assert from 'node:assert/strict';
import { existsSync, globSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { FrameType, PREFACE } from '../../proxy/http2/constants.ts';
import { FrameReader } from '../../proxy/http2/frame_reader.ts';
import { payload, unpad } from '../../proxy/http2/frames/data.ts';
import { readUint31, readUint32 } from '../../proxy/http2/frames/frame_header.ts';
import { readHeaders } from '../../proxy/http2/frames/headers.ts';
import { dependsOn } from '../../proxy/http2/frames/priority.ts';
import { readSettings } from '../../proxy/http2/frames/settings.ts';
import { answer, frame, GET, POST, ServerWire, uint32 } from '../support/http2_wire.ts';
import { root } from '../support/pillion_process.ts';

const CASES = `${root}../shared/data/http2-frames`;
const skip = existsSync(CASES) ? false : `the HTTP/2 frames are not here: ${CASES}`;

interface Case {
  readonly wire: string;
  readonly description: string;
  readonly error: readonly number[] | null;
  readonly frame: {
    readonly length: number;
    readonly type: number;
    readonly flags: number;
    readonly stream_identifier: number;
    readonly frame_payload: Readonly<Record<string, unknown>>;
  } | null;
}

const cases: Case[] =
  skip === false
    ? globSync(`${CASES}/*/*.json`)
        .sort()
        .map((path) => JSON.parse(readFileSync(path, 'utf8')))
    : [];

test('frames come out as published when they are well-formed', { skip }, () => {
  let seen = 0;
  for (const { wire, frame: expected, description } of cases) {
    if (expected === null) continue;
    seen++;
    const bytes = Buffer.from(wire, 'hex');
    assert.equal(new FrameReader(16_384).frameAt(bytes, 0), bytes.length, description);
    assert.equal(bytes.length - 9, expected.length);
    assert.equal(bytes[3], expected.type);
    assert.equal(bytes[4], expected.flags);
    assert.equal(readUint31(bytes, 5), expected.stream_identifier);
    assert.deepEqual(parsed(bytes, expected), known(expected), description);
  }
  assert.equal(seen, 12);
});

/** What our readers see of a payload. */
function parsed(bytes: Buffer, { type, flags, stream_identifier }: NonNullable<Case['frame']>): unknown {
  const from = 9;
  const end = bytes.length;
  const text = (): string => bytes.toString('latin1', payload.from, payload.end);
  switch (type) {
    case FrameType.DATA:
      assert.ok(unpad(bytes, from, end, flags));
      return text();
    case FrameType.HEADERS:
      assert.equal(readHeaders(bytes, from, end, flags, stream_identifier), undefined);
      return text();
    case FrameType.PRIORITY:
      return dependsOn(bytes, from);
    case FrameType.RST_STREAM:
      return readUint32(bytes, from);
    case FrameType.SETTINGS: {
      const settings: number[][] = [];
      assert.equal(
        readSettings(bytes, from, end, (id, value) => settings.push([id, value])),
        0,
      );
      return settings;
    }
    case FrameType.PUSH_PROMISE:
      assert.ok(unpad(bytes, from, end, flags));
      return readUint31(bytes, payload.from);
    case FrameType.PING:
      return bytes.toString('latin1', from, end);
    case FrameType.GOAWAY:
      return [readUint31(bytes, from), readUint32(bytes, from + 4), bytes.toString('latin1', from + 8)];
    case FrameType.WINDOW_UPDATE:
      return readUint31(bytes, from);
    default:
      return bytes.toString('latin1', from, end);
  }
}

/** The same of the published form. */
function known({ type, frame_payload: fields }: NonNullable<Case['frame']>): unknown {
  switch (type) {
    case FrameType.DATA:
      return fields['data'];
    case FrameType.PRIORITY:
      return fields['stream_dependency'];
    case FrameType.RST_STREAM:
      return fields['error_code'];
    case FrameType.SETTINGS:
      return fields['settings'];
    case FrameType.PUSH_PROMISE:
      return fields['promised_stream_id'];
    case FrameType.PING:
      return fields['opaque_data'];
    case FrameType.GOAWAY:
      return [fields['last_stream_id'], fields['error_code'], fields['additional_debug_data']];
    case FrameType.WINDOW_UPDATE:
      return fields['window_size_increment'];
    default:
      return fields['header_block_fragment'];
  }
}

for (const { wire, error, description } of cases) {
  if (error === null) continue;
  test(`Http2ServerCodec answers with error ${error.join(' or ')} when it gets a ${description}`, () => {
    const server = new ServerWire().start().feed(Buffer.from(wire, 'hex'));
    const said = server.take().at(-1);
    const code =
      said?.type === FrameType.GOAWAY
        ? said.payload.readUInt32BE(4)
        : said?.type === FrameType.RST_STREAM
          ? said.payload.readUInt32BE(0)
          : -1;
    assert.ok(error.includes(code), `said ${JSON.stringify(said)}`);
  });
}

test('Http2ServerCodec hears the same when a connection’s bytes are split at every place', () => {
  const script = Buffer.concat([
    PREFACE,
    frame(FrameType.SETTINGS, 0, 0, Buffer.concat([Buffer.from([0, 4]), uint32(100_000)])),
    frame(FrameType.HEADERS, 0x5, 1, GET),
    frame(FrameType.PING, 0, 0, 'abcdefgh'),
    frame(FrameType.HEADERS, 0, 3, POST.subarray(0, 10)),
    frame(FrameType.CONTINUATION, 0x4, 3, POST.subarray(10)),
    frame(FrameType.DATA, 0x8, 3, '\x03body...'),
    frame(FrameType.WINDOW_UPDATE, 0, 3, uint32(10)),
    frame(FrameType.DATA, 0x1, 3, 'end'),
  ]);
  const run = (pieces: readonly Buffer[]): unknown => {
    const server = new ServerWire();
    server.onRequest = (request) => {
      if (request.ended) answer(request, 200, 'ok');
    };
    for (const piece of pieces) server.feed(piece);
    const frames = server
      .take()
      .map(({ type, flags, streamId, payload: body }) => `${type} ${flags} ${streamId} ${body.toString('hex')}`);
    return { frames, error: server.error, requests: server.requests.map(({ body, ended }) => ({ body, ended })) };
  };
  const whole = run([script]);
  assert.deepEqual((whole as { requests: unknown }).requests, [
    { body: '', ended: true },
    { body: 'bodyend', ended: true },
  ]);
  for (let at = 1; at < script.length; at++) {
    assert.deepEqual(run([script.subarray(0, at), script.subarray(at)]), whole, `split at ${at}`);
  }
  assert.deepEqual(run(Array.from(script, (_, at) => script.subarray(at, at + 1))), whole, 'byte by byte');
});

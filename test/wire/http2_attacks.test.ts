/** attacks.md rows 14–16 and 19–25 against the HTTP/2 codecs: each flood has a limit, a counter and an end. */
import assert from 'node:assert/strict';
import { setFlagsFromString } from 'node:v8';
import { describe, it, test } from 'node:test';
import { runInNewContext } from 'node:vm';
import { ErrorCode, FrameType } from '../../proxy/http2/constants.ts';
import { ResponseHeaders } from '../../proxy/http/headers.ts';
import {
  answer,
  ClientWire,
  type Frame,
  frame,
  GET,
  literals,
  POST,
  ServerWire,
  uint32,
} from '../support/http2_wire.ts';

const END = 0x1;
const END_HEADERS = 0x4;
const headers = (streamId: number, block = GET, flags = END | END_HEADERS): Buffer =>
  frame(FrameType.HEADERS, flags, streamId, block);
const rst = (streamId: number, code: number = ErrorCode.CANCEL): Buffer =>
  frame(FrameType.RST_STREAM, 0, streamId, uint32(code));
const ping = (): Buffer => frame(FrameType.PING, 0, 0, 'abcdefgh');

function goAwayCode(frames: readonly Frame[]): number | undefined {
  return frames.find(({ type }) => type === FrameType.GOAWAY)?.payload.readUInt32BE(4);
}

function resetCode(frames: readonly Frame[], streamId = 1): number | undefined {
  return frames
    .find(({ type, streamId: id }) => type === FrameType.RST_STREAM && id === streamId)
    ?.payload.readUInt32BE(0);
}

interface Flood {
  readonly name: string;
  readonly counter: string;
  readonly options?: ConstructorParameters<typeof ServerWire>[0];
  readonly prepare?: (server: ServerWire) => void;
  /** The n-th piece; the connection must be over before 100,000 of them. */
  readonly piece: (n: number) => Buffer;
}

const FLOODS: readonly Flood[] = [
  {
    name: 'row 19: streams are opened and reset at once',
    counter: 'premature_reset_flood',
    piece: (n) => Buffer.concat([headers(2 * n + 1, POST, END_HEADERS), rst(2 * n + 1)]),
  },
  {
    name: 'row 19: the server is made to reset streams',
    counter: 'premature_reset_flood',
    piece: (n) =>
      Buffer.concat([headers(2 * n + 1, POST, END_HEADERS), frame(FrameType.WINDOW_UPDATE, 0, 2 * n + 1, uint32(0))]),
  },
  {
    name: 'row 20: CONTINUATION never ends',
    counter: 'inbound_continuation_flood',
    piece: (n) => (n === 0 ? headers(1, GET, END) : frame(FrameType.CONTINUATION, 0, 1, 'a')),
  },
  {
    name: 'row 20: CONTINUATION is empty',
    counter: 'inbound_empty_frames_flood',
    piece: (n) => (n === 0 ? headers(1, GET, END) : frame(FrameType.CONTINUATION, 0, 1)),
  },
  { name: 'row 23: PING', counter: 'inbound_control_frames_flood', piece: ping },
  {
    name: 'row 23: PING whose answers are not read',
    counter: 'outbound_control_flood',
    prepare: (server) => {
      server.carrier = 2;
    },
    piece: ping,
  },
  {
    name: 'row 23: SETTINGS',
    counter: 'inbound_control_frames_flood',
    piece: () => frame(FrameType.SETTINGS, 0, 0, Buffer.concat([Buffer.from([0, 4]), uint32(70_000)])),
  },
  {
    name: 'row 23: empty DATA',
    counter: 'inbound_empty_frames_flood',
    piece: (n) => (n === 0 ? headers(1, POST, END_HEADERS) : frame(FrameType.DATA, 0, 1)),
  },
  {
    name: 'row 23: DATA of padding only',
    counter: 'inbound_empty_frames_flood',
    piece: (n) => (n === 0 ? headers(1, POST, END_HEADERS) : frame(FrameType.DATA, 0x8, 1, '\x03abc')),
  },
  {
    name: 'row 23: PRIORITY',
    counter: 'inbound_priority_frames_flood',
    piece: (n) => frame(FrameType.PRIORITY, 0, 2 * n + 1, Buffer.concat([uint32(0), Buffer.from([1])])),
  },
  {
    name: 'row 23: WINDOW_UPDATE of one byte',
    counter: 'inbound_window_update_frames_flood',
    piece: () => frame(FrameType.WINDOW_UPDATE, 0, 0, uint32(1)),
  },
  {
    name: 'row 23: RST_STREAM of a stream that is over',
    counter: 'inbound_control_frames_flood',
    prepare: (server) => void server.feed(headers(1, POST, END_HEADERS), rst(1)),
    piece: () => rst(1),
  },
  {
    name: 'row 24: DATA of a stream that is over',
    counter: 'inbound_control_frames_flood',
    prepare: (server) => void server.feed(headers(1, POST, END_HEADERS), rst(1)),
    piece: () => frame(FrameType.DATA, 0, 1, 'x'),
  },
  {
    name: 'row 25: frames that nobody knows',
    counter: 'inbound_control_frames_flood',
    piece: () => frame(0xa, 0, 0, 'origin'),
  },
  {
    name: 'streams beyond the limit',
    counter: 'inbound_control_frames_flood',
    options: { maxConcurrentStreams: 1 },
    piece: (n) => headers(2 * n + 1, POST, END_HEADERS),
  },
  {
    name: 'malformed requests',
    counter: 'inbound_control_frames_flood',
    piece: (n) => headers(2 * n + 1, literals(':method', 'GET')),
  },
];

describe('Http2ServerCodec ends the connection with ENHANCE_YOUR_CALM and counts', () => {
  for (const { name, counter, options, prepare, piece } of FLOODS) {
    it(`when ${name}`, () => {
      const server = new ServerWire(options).start();
      prepare?.(server);
      let sent = 0;
      while (server.error === undefined && sent < 100_000) server.feed(piece(sent++));
      assert.ok(server.error !== undefined, 'it goes on');
      assert.equal(server.error.status, 0);
      assert.equal(
        server.error.details.replace('_frames_flood', '_flood'),
        `http2.${counter.replace('_frames_flood', '_flood')}`,
      );
      server.codec.output.flush();
      assert.equal(goAwayCode(server.take()), ErrorCode.ENHANCE_YOUR_CALM);
      assert.equal(server.statistics.get(`http2.${counter}`), 1);
      server.codec.dispose();
      assert.equal(server.statistics.get('http2.streams_active'), 0);
    });
  }

  it('when the flood comes in one piece', () => {
    const server = new ServerWire().start();
    server.feed(...Array.from({ length: 5000 }, ping));
    assert.equal(goAwayCode(server.take()), ErrorCode.ENHANCE_YOUR_CALM);
  });
});

test('Http2ServerCodec goes on for hours when a client pings every ten seconds', () => {
  const server = new ServerWire().start();
  for (let count = 0; count < 20_000; count++) {
    server.clockMs += 10_000;
    server.feed(ping());
  }
  assert.equal(server.error, undefined);
});

test('Http2ServerCodec serves a hundred thousand ordinary requests when every tenth is cancelled', () => {
  const server = new ServerWire().start();
  server.onRequest = (request) => {
    if (request.ended) answer(request, 200);
  };
  for (let count = 0; count < 100_000; count++) {
    server.clockMs += 0.1;
    const id = 2 * count + 1;
    if (count % 10 === 0) server.feed(headers(id, POST, END_HEADERS), rst(id));
    else server.feed(headers(id));
    server.sent = [];
  }
  assert.equal(server.error, undefined);
  assert.equal(server.codec.streams.size, 0);
});

const MALFORMED: readonly [what: string, block: Buffer][] = [
  ['CR in a value', literals(':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'a', 'x', 'a\rb')],
  ['LF in a value', literals(':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'a', 'x', 'a\nb: c')],
  ['NUL in a value', literals(':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'a', 'x', 'a\0b')],
  ['a space in a name', literals(':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'a', 'x y', 'a')],
  ['a colon in a name', literals(':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'a', 'x:y', 'a')],
  ['a capital in a name', literals(':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'a', 'X', 'a')],
  ['LF in a name', literals(':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'a', 'x\ny', 'a')],
  ['a space in the path', literals(':method', 'GET', ':scheme', 'http', ':path', '/a b', ':authority', 'a')],
  [
    'CRLF in the path',
    literals(':method', 'GET', ':scheme', 'http', ':path', '/a HTTP/1.1\r\nx: y', ':authority', 'a'),
  ],
  ['a path without a slash', literals(':method', 'GET', ':scheme', 'http', ':path', 'a', ':authority', 'a')],
  ['a space in the method', literals(':method', 'GET /x', ':scheme', 'http', ':path', '/', ':authority', 'a')],
  [
    'user information in the authority',
    literals(':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'u@a'),
  ],
  ['two different hosts', literals(':method', 'GET', ':scheme', 'http', ':path', '/', 'host', 'a', 'host', 'b')],
  [
    'transfer-encoding',
    literals(':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'a', 'transfer-encoding', 'chunked'),
  ],
  ['connection', literals(':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'a', 'connection', 'close')],
  [
    'te other than trailers',
    literals(':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'a', 'te', 'gzip'),
  ],
  [
    'content-length that is none',
    literals(':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'a', 'content-length', '+1'),
  ],
  [
    'two content-lengths',
    literals(
      ':method',
      'GET',
      ':scheme',
      'http',
      ':path',
      '/',
      ':authority',
      'a',
      'content-length',
      '0',
      'content-length',
      '1',
    ),
  ],
  [
    'a content-length without a body',
    literals(':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'a', 'content-length', '5'),
  ],
  ['CONNECT with a path', literals(':method', 'CONNECT', ':scheme', 'http', ':path', '/', ':authority', 'a:1')],
  [
    'extended CONNECT that was not offered',
    literals(':method', 'CONNECT', ':protocol', 'websocket', ':scheme', 'http', ':path', '/', ':authority', 'a'),
  ],
];
for (const [what, block] of MALFORMED) {
  test(`Http2ServerCodec resets the stream and tells nobody when row 16 sends ${what}`, () => {
    const server = new ServerWire().start().feed(headers(1, block));
    assert.equal(resetCode(server.take()), ErrorCode.PROTOCOL_ERROR);
    assert.equal(server.requests.length, 0);
    assert.equal(server.error, undefined);
    server.feed(headers(3));
    assert.equal(server.requests.length, 1, 'the connection goes on');
  });
}

test('Http2ServerCodec resets the stream when row 16 sends a body of another length than content-length', () => {
  const block = Buffer.concat([POST, literals('content-length', '3')]);
  for (const [data, flags] of [
    ['1234', 0],
    ['12', END],
  ] as const) {
    const server = new ServerWire().start().feed(headers(1, block, END_HEADERS), frame(FrameType.DATA, flags, 1, data));
    assert.equal(resetCode(server.take()), ErrorCode.PROTOCOL_ERROR);
    assert.equal(server.requests[0]?.resetReason, 'protocol error');
    assert.equal(server.requests[0]?.body, '');
  }
});

test('Http2ServerCodec keeps its limits to the byte and the field when row 21 sends heads at them', () => {
  const bytes =
    4 * 32 +
    ':method'.length +
    'GET'.length +
    ':scheme'.length +
    'http'.length +
    ':path'.length +
    1 +
    ':authority'.length +
    1;
  const head = (size: number): Buffer => Buffer.concat([GET, literals('x', 'v'.repeat(size - bytes - 33))]);
  for (const [size, served] of [
    [999, true],
    [1000, true],
    [1001, false],
  ] as const) {
    const server = new ServerWire({ maxHeaderListBytes: 1000 }).start().feed(headers(1, head(size)));
    assert.equal(server.requests.length === 1, served, String(size));
    assert.equal(resetCode(server.take()), served ? undefined : ErrorCode.ENHANCE_YOUR_CALM);
    assert.equal(server.statistics.get('http2.header_overflow'), served ? 0 : 1);
  }
  for (const [count, served] of [
    [100, true],
    [101, false],
  ] as const) {
    const crumbs = literals(...Array.from({ length: count - 4 }, () => ['cookie', 'a=b']).flat());
    const server = new ServerWire().start().feed(headers(1, Buffer.concat([GET, crumbs])));
    assert.equal(server.requests.length === 1, served, String(count));
    assert.equal(server.statistics.get('http2.too_many_headers'), served ? 0 : 1);
  }
});

test('Http2ServerCodec ends the connection when row 22 sends a block that cannot be decoded', () => {
  for (const block of ['\x80', '\xff\xff\xff\xff\xff\x0f', '\x40\x0aabc']) {
    const server = new ServerWire().start().feed(headers(1, Buffer.from(block, 'latin1')));
    assert.equal(goAwayCode(server.take()), ErrorCode.COMPRESSION_ERROR);
  }
});

test('Http2ServerCodec ends the connection when row 24 widens a window beyond 2^31 - 1', () => {
  const server = new ServerWire().start().feed(frame(FrameType.WINDOW_UPDATE, 0, 0, uint32(0x7fffffff)));
  assert.equal(goAwayCode(server.take()), ErrorCode.FLOW_CONTROL_ERROR);
  const onStream = new ServerWire()
    .start()
    .feed(headers(1, POST, END_HEADERS), frame(FrameType.WINDOW_UPDATE, 0, 1, uint32(0x7fffffff)));
  assert.equal(resetCode(onStream.take()), ErrorCode.FLOW_CONTROL_ERROR);
});

test('Http2ServerCodec ends the connection or the stream when a peer sends beyond a window', () => {
  const chunk = Buffer.alloc(16_384);
  const server = new ServerWire().start().feed(headers(1, POST, END_HEADERS));
  server.requests[0]?.stream?.readDisable(true);
  for (let sent = 0; sent < 5; sent++) server.feed(frame(FrameType.DATA, 0, 1, chunk));
  assert.equal(resetCode(server.take()), ErrorCode.FLOW_CONTROL_ERROR);
});

test('Http2ServerCodec holds no more than the window when a stream’s reader stops, and gives it all afterwards', () => {
  const server = new ServerWire().start().feed(headers(1, POST, END_HEADERS));
  const [request] = server.requests;
  request?.stream?.readDisable(true);
  server.feed(frame(FrameType.DATA, 0, 1, 'a'.repeat(16_000)), frame(FrameType.DATA, END, 1, 'b'.repeat(1000)));
  assert.equal(request?.body, '');
  request?.stream?.readDisable(false);
  assert.equal(request?.body, 'a'.repeat(16_000) + 'b'.repeat(1000));
  assert.equal(request?.ended, true);
});

test('Http2ServerCodec queues no more than its watermark says when windows stall, and goes on when they open', () => {
  const server = new ServerWire().start(Buffer.concat([Buffer.from([0, 4]), uint32(0)]));
  server.feed(headers(1));
  const [request] = server.requests;
  const head = new ResponseHeaders();
  request?.stream?.encodeHeaders(head, false);
  let queued = 0;
  while (request?.stream?.encodeData(Buffer.alloc(10_000), false)) queued += 10_000;
  assert.ok(queued <= 65_536);
  assert.equal(server.take().filter(({ type }) => type === FrameType.DATA).length, 0);
  server.feed(frame(FrameType.WINDOW_UPDATE, 0, 1, uint32(60_000)));
  assert.equal(request?.drains, 1);
  server.codec.output.flush();
  assert.equal(
    server.take().reduce((sum, { type, payload }) => (type === FrameType.DATA ? sum + payload.length : sum), 0),
    60_000,
  );
});

describe('Http2ClientCodec is not harmed', () => {
  const status200 = Buffer.from([0x88]);

  it('when row 14 sends interim answers without end', () => {
    const client = new ClientWire().start();
    const response = client.get();
    for (let count = 0; count < 40; count++) client.feed(headers(1, literals(':status', '103'), END_HEADERS));
    assert.equal(response.resetReason, 'protocol error');
    assert.ok(response.interim.length <= 32);
  });

  it('when row 14 answers HEAD or 204 with a length and no body', () => {
    const client = new ClientWire().start();
    const response = client.get();
    client.feed(headers(1, Buffer.concat([Buffer.from([0x89]), literals('content-length', '5')])));
    assert.equal(response.ended, true);
  });

  it('when row 25 says GOAWAY and then allows no streams', () => {
    const client = new ClientWire().start();
    const response = client.get();
    client.feed(frame(FrameType.GOAWAY, 0, 0, Buffer.concat([uint32(0), uint32(0)])));
    client.codec.peerGoAway(0);
    assert.equal(response.resetReason, 'remote refused stream reset');
    client.feed(frame(FrameType.SETTINGS, 0, 0, Buffer.concat([Buffer.from([0, 3]), uint32(0)])));
    assert.equal(client.codec.room, 0);
    assert.equal(client.error, undefined);
  });

  it('when row 25 sends trailers that end nothing', () => {
    const client = new ClientWire().start();
    const response = client.get();
    client.feed(headers(1, status200, END_HEADERS), headers(1, literals('grpc-status', '0'), END_HEADERS));
    assert.equal(response.resetReason, 'protocol error');
  });

  it('when a server pushes', () => {
    const client = new ClientWire().start();
    client.get();
    client.feed(frame(FrameType.PUSH_PROMISE, END_HEADERS, 1, Buffer.concat([uint32(2), GET])));
    client.codec.output.flush();
    assert.equal(goAwayCode(client.take()), ErrorCode.PROTOCOL_ERROR);
  });

  it('when row 25 floods with ORIGIN and ALTSVC', () => {
    const client = new ClientWire().start();
    let sent = 0;
    while (client.error === undefined && sent++ < 10_000) client.feed(frame(0xc, 0, 0, 'x'));
    client.codec.output.flush();
    assert.equal(goAwayCode(client.take()), ErrorCode.ENHANCE_YOUR_CALM);
  });

  it('when an answer has a field that HTTP/2 does not know, or CR in a value', () => {
    for (const block of [
      literals('connection', 'close'),
      literals('x', 'a\r\nb'),
      literals(':path', '/'),
      literals(':status', '200'),
    ]) {
      const client = new ClientWire().start();
      const response = client.get();
      client.feed(headers(1, Buffer.concat([status200, block])));
      assert.equal(response.resetReason, 'protocol error');
      assert.equal(response.headers, undefined);
    }
  });
});

test('codecs leave the heap flat when each attack comes 10,000 times', () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const run = (times: number): void => {
    for (let count = 0; count < times; count++) {
      const { options, prepare, piece } = FLOODS[count % FLOODS.length] as Flood;
      const server = new ServerWire(options).start();
      prepare?.(server);
      server.feed(...Array.from({ length: 20 }, (_, n) => piece(n)));
      server.codec.dispose();
    }
  };
  run(500);
  collect();
  const before = process.memoryUsage().heapUsed;
  run(10_000 * FLOODS.length);
  collect();
  const grown = process.memoryUsage().heapUsed - before;
  assert.ok(grown < 1024 * 1024, `the heap has grown by ${grown} bytes`);
});

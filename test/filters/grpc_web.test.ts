/** The grpc_web filter before a real gRPC server: binary and text, trailers in the body, base64 cut anywhere. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { startEchoServer } from '../support/grpc_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';

const scope = fileScope();
let proxy: TestProxy;

before(async () => {
  const server = await startEchoServer(scope);
  proxy = await startTestProxy(scope, [
    httpListener({
      filters: [
        {
          name: 'envoy.filters.http.grpc_web',
          typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.grpc_web.v3.GrpcWeb' },
        },
      ],
      routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'echo' } }]),
    }),
    staticCluster('echo', [server.port], {
      typed_extension_protocol_options: {
        'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
          '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
          explicit_http_config: { http2_protocol_options: {} },
        },
      },
    }),
  ]);
});

function message(text: string): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(Buffer.byteLength(text), 1);
  return Buffer.concat([head, Buffer.from(text)]);
}

/** Messages of a body: flags and text. */
function messages(body: Buffer): [flags: number, text: string][] {
  const out: [number, string][] = [];
  for (let at = 0; at < body.length; ) {
    const length = body.readUInt32BE(at + 1);
    out.push([body[at] as number, body.toString('utf8', at + 5, at + 5 + length)]);
    at += 5 + length;
  }
  return out;
}

/** The pieces of base64 that were padded one by one. */
function fromText(text: string): Buffer {
  return Buffer.concat((text.match(/[A-Za-z0-9+/]+={0,2}/g) ?? []).map((part) => Buffer.from(part, 'base64')));
}

function post(type: string, body: Buffer | string, method = 'Unary'): Promise<Response> {
  return fetch(`http://127.0.0.1:${proxy.port()}/test.Echo/${method}`, {
    method: 'POST',
    headers: { 'content-type': type, 'x-grpc-web': '1' },
    body: typeof body === 'string' ? body : new Uint8Array(body),
  });
}

test('a binary call gets its message and then its trailers as a message', async () => {
  const response = await post('application/grpc-web+proto', message('hello'));
  assert.equal(response.status, 200);
  assert.equal(response.headers.get('content-type'), 'application/grpc-web+proto');
  const [answer, trailers, ...more] = messages(Buffer.from(await response.arrayBuffer()));
  assert.deepEqual(answer, [0, 'hello']);
  assert.equal(trailers?.[0], 0x80);
  assert.match(trailers?.[1] ?? '', /(^|\r\n)grpc-status:0\r\n/);
  assert.match(trailers?.[1] ?? '', /(^|\r\n)x-end:yes\r\n/);
  assert.deepEqual(more, []);
});

test('a text call gets base64', async () => {
  const response = await post('application/grpc-web-text', message('hello').toString('base64'));
  assert.equal(response.headers.get('content-type'), 'application/grpc-web-text+proto');
  assert.deepEqual(messages(fromText(await response.text()))[0], [0, 'hello']);
});

test('base64 with padding between its pieces is one body', async () => {
  const whole = message('one body in pieces');
  const text =
    whole.subarray(0, 7).toString('base64') +
    whole.subarray(7, 11).toString('base64') +
    whole.subarray(11).toString('base64');
  const response = await post('application/grpc-web-text+proto', text);
  assert.deepEqual(messages(fromText(await response.text()))[0], [0, 'one body in pieces']);
});

test('a stream of messages comes whole, in binary and in text', async () => {
  for (const type of ['application/grpc-web', 'application/grpc-web-text']) {
    const isText = type.endsWith('text');
    const response = await post(type, isText ? message('xy').toString('base64') : message('xy'), 'Download');
    const body = isText ? fromText(await response.text()) : Buffer.from(await response.arrayBuffer());
    const all = messages(body);
    assert.equal(all.length, 11, type);
    assert.ok(all.slice(0, 10).every(([flags, text]) => flags === 0 && text === 'xy'));
  }
});

test('a call that fails without a message has its status in the head or in the trailers', async () => {
  const response = await post('application/grpc-web+proto', message('fail'));
  const [trailers] = messages(Buffer.from(await response.arrayBuffer()));
  assert.match(trailers?.[1] ?? `grpc-status:${response.headers.get('grpc-status')}`, /grpc-status:5/);
});

test('what is no base64 is answered 400', async () => {
  const response = await post('application/grpc-web-text', '!!!!');
  // A gRPC request gets its answer as gRPC: 400 is INTERNAL (13).
  assert.equal(response.headers.get('grpc-status'), '13');
  assert.match(decodeURIComponent(response.headers.get('grpc-message') ?? ''), /base64/);
});

test('other requests pass as they are', async () => {
  const response = await post('text/plain', 'x');
  assert.equal(response.status, 415, 'the gRPC server itself refuses it');
  assert.equal(response.headers.get('content-type'), null);
});

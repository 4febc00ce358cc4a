/** Replies that the proxy makes itself, worded by configuration: in Pillion and, where it is installed, in Envoy. */
import assert from 'node:assert/strict';
import { before, describe, it } from 'node:test';

import type { Json, Resource } from '../../config/resources.ts';
import { startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';

const scope = fileScope();
let up: RawUpstream;

const status = (value: number): Json => ({
  status_code_filter: { comparison: { op: 'EQ', value: { default_value: value, runtime_key: `k${value}` } } },
});
const byHeader = (value: string): Json => ({
  header_filter: { header: { name: 'x-case', string_match: { exact: value } } },
});

const config: Json = {
  mappers: [
    {
      filter: byHeader('json'),
      body_format_override: {
        json_format: {
          code: '%RESPONSE_CODE%',
          said: '%LOCAL_REPLY_BODY%',
          none: '%REQ(x-none)%',
          in: { path: 'p=%PATH%' },
        },
      },
    },
    {
      filter: byHeader('typed'),
      status_code: 499,
      body: { inline_string: '<b>é 100%</b>' },
      body_format_override: {
        text_format_source: { inline_string: '%LOCAL_REPLY_BODY%|%RESPONSE_CODE%|%REQ(x-none)%|%RESP(x-more)%' },
        content_type: 'text/html; charset=UTF-8',
      },
      headers_to_add: [
        { header: { key: 'x-more', value: '%RESPONSE_CODE%' } },
        { header: { key: 'server', value: 'mine' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
      ],
    },
    { filter: byHeader('moved'), status_code: 200 },
    { filter: byHeader('empty'), body: { inline_string: '' } },
    {
      filter: { and_filter: { filters: [status(404), { response_flag_filter: { flags: ['NR'] } }] } },
      status_code: 410,
      body: { inline_bytes: Buffer.from('no such place').toString('base64') },
    },
    { filter: status(404), body: { inline_string: 'never: the one before is first' } },
    { filter: status(503), status_code: 429 },
  ],
  body_format: { text_format: '[%LOCAL_REPLY_BODY%] %RESPONSE_CODE%\n' },
};

function resources(local_reply_config: Json): Resource[] {
  const fixed = (prefix: string, direct_response: Json): Json => ({ match: { prefix }, direct_response });
  return [
    httpListener({
      manager: { local_reply_config },
      routes: routeConfig([
        fixed('/direct', { status: 200, body: { inline_string: 'fixed' } }),
        fixed('/bare', { status: 204 }),
        { match: { prefix: '/moved' }, redirect: { path_redirect: '/there' } },
        { match: { prefix: '/up' }, route: { cluster: 'up' } },
        { match: { prefix: '/none' }, route: { cluster: 'none' } },
      ]),
    }),
    staticCluster('up', [up.port]),
    staticCluster('none', []),
  ];
}

before(async () => {
  up = await RawUpstream.start(scope, answering('from the service'));
});

describe('Pillion', () => cases(false, async (json) => (await startTestProxy(scope, resources(json))).port()));
describe('Envoy', () => cases(withoutEnvoy(), async (json) => (await startEnvoy(scope, resources(json))).port('test')));

function cases(skip: string | false, start: (json: Json) => Promise<number>): void {
  let port: number;
  let plain: number;
  before(async () => {
    if (skip !== false) return;
    port = await start(config);
    plain = await start({ mappers: config['mappers'] });
  });

  const ask = async (path: string, headers: Record<string, string> = {}, at = port, method = 'GET') => {
    const response = await fetch(`http://127.0.0.1:${at}${path}`, { headers, method, redirect: 'manual' });
    const get = (name: string): string | null => response.headers.get(name);
    return { status: response.status, text: await response.text(), type: get('content-type'), get };
  };
  const is = async (answer: ReturnType<typeof ask>, code: number, text: string, type: string | null): Promise<void> => {
    const { status: found, text: body, type: contentType } = await answer;
    assert.deepEqual([found, body, contentType], [code, text, type]);
  };

  it('takes the first mapper that matches, status and body', { skip }, () =>
    is(ask('/'), 410, '[no such place] 410\n', 'text/plain'),
  );

  it('leaves the body without a format as it is', { skip }, async () => {
    await is(ask('/', {}, plain), 410, 'no such place', 'text/plain');
    await is(ask('/none', {}, plain), 429, 'no healthy upstream', 'text/plain');
    await is(ask('/direct', {}, plain), 200, 'fixed', 'text/plain');
  });

  it('formats every other reply of its own', { skip }, async () => {
    await is(ask('/none'), 429, '[no healthy upstream] 429\n', 'text/plain');
    await is(ask('/direct'), 200, '[fixed] 200\n', 'text/plain');
  });

  it("leaves the service's answers alone", { skip }, async () => {
    const { status: code, text } = await ask('/up', { 'x-case': 'typed' });
    assert.deepEqual([code, text], [200, 'from the service']);
  });

  it('writes JSON with types', { skip }, async () => {
    const { status: code, text, type } = await ask('/none/a', { 'x-case': 'json' });
    assert.deepEqual([code, type], [503, 'application/json']);
    assert.deepEqual(JSON.parse(text), {
      code: 503,
      said: 'no healthy upstream',
      none: null,
      in: { path: 'p=/none/a' },
    });
    assert.equal(text.endsWith('\n'), true);
  });

  it('gives content type, and headers made before the status changes', { skip }, async () => {
    const { status: code, text, type, get } = await ask('/none', { 'x-case': 'typed' });
    assert.deepEqual([code, text, type], [499, '<b>é 100%</b>|499|-|503', 'text/html; charset=UTF-8']);
    assert.equal(get('x-more'), '503');
    assert.equal(get('content-length'), String(Buffer.byteLength(text)));
  });

  it('an empty body in a text format', { skip }, () =>
    is(ask('/none', { 'x-case': 'empty' }), 503, '[] 503\n', 'text/plain'),
  );

  it('a redirect that is none any more still names its place', { skip }, async () => {
    assert.match(String((await ask('/moved')).get('location')), /\/there$/);
    const { status: code, get } = await ask('/moved', { 'x-case': 'moved' });
    assert.equal(code, 200);
    assert.match(String(get('location')), /\/there$/);
  });

  it('HEAD has the length and no body', { skip }, async () => {
    const { status: code, text, get } = await ask('/none', {}, port, 'HEAD');
    assert.deepEqual([code, text, get('content-length')], [429, '', '26']);
  });

  it('gRPC gets the text as message and the status of the new code', { skip }, async () => {
    const grpc = { 'content-type': 'application/grpc' };
    const missing = await ask('/', grpc, plain, 'POST');
    assert.deepEqual(
      [missing.status, missing.type, missing.get('grpc-status'), missing.get('grpc-message'), missing.text],
      [200, 'application/grpc', '2', 'no such place', ''],
    );
    const typed = await ask('/none', { ...grpc, 'x-case': 'typed' }, port, 'POST');
    assert.deepEqual([typed.status, typed.type, typed.get('x-more')], [200, 'application/grpc', '503']);
    assert.equal(typed.get('grpc-message'), '<b>%C3%A9 100%25</b>|499|-|503');
  });
}

describe('A configuration', () => {
  const refused = (name: string, json: Json, message: RegExp): void =>
    void it(`with ${name} is refused`, () => assert.rejects(startTestProxy(scope, resources(json)), message));
  refused('a mapper without filter', { mappers: [{ status_code: 400 }] }, /local_reply_config\.mappers\[0\]\.filter/);
  refused('a body in a file', { mappers: [{ filter: status(1), body: { filename: '/x' } }] }, /body\.filename/);
  refused('a status out of range', { mappers: [{ filter: status(1), status_code: 600 }] }, /status_code/);
  refused('an unknown command', { body_format: { text_format: '%NOPE%' } }, /body_format.*NOPE/);
  refused('a format of nothing', { body_format: {} }, /body_format\.text_format_source/);
});

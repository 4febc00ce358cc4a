/** llhttp's own request fixtures: what its strict parser refuses, Http1ServerCodec refuses too, or says here why not. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type LlhttpFixture, llhttpFixtures } from '../support/llhttp_fixtures.ts';
import { everySplit, ServerWire, type WireEvent } from '../support/wire.ts';

const FOLDER = fileURLToPath(new URL('../../../shared/data/llhttp-request', import.meta.url));
const skip = existsSync(FOLDER) ? false : '../shared/data/llhttp-request is absent';
const fixtures: readonly LlhttpFixture[] = skip === false ? llhttpFixtures(FOLDER) : [];
const strictErrors = fixtures.filter(({ type, error }) => type === 'request' && error !== undefined);

const HELD = 'a pause, no error: the request is valid, and what follows is held until the upgrade is answered';
const TOKEN_METHOD = 'any token in capitals is a method (RFC 9110 §16.1), llhttp has a list';
const EXTENSION = 'extensions are dropped unread and written never; no CR or LF can hide in one';

/** Inputs of `strictErrors` that are accepted. */
const ACCEPTED: Readonly<Record<string, string>> = {
  'connection.md: No restart when keep-alive is off (1.0)':
    'what follows a close is not refused but never read; the connection closes behind the answer',
  'connection.md: Multiple tokens with folding and LWS': HELD,
  'connection.md: Setting a flag and pausing': HELD,
  'connection.md: Upgrade GET request': HELD,
  'connection.md: Emitting part of body and pausing': 'a request with a body is read as one that asks for no upgrade',
  'connection.md: Upgrade POST request': 'a request with a body is read as one that asks for no upgrade',
  'method.md: CONNECT request': HELD,
  'method.md: CONNECT request with CAPS': HELD,
  'uri.md: Underscore in hostname': HELD,
  'invalid.md: HTTP protocol and ANNOUNCE method': TOKEN_METHOD,
  'invalid.md: Invalid method': TOKEN_METHOD,
  'transfer-encoding.md: No extension after semicolon': EXTENSION,
  'transfer-encoding.md: Unbalanced chunk extensions quoting': EXTENSION,
};

/** Most fixtures have no Host and some no end: with both, what is refused is refused for its own fault. */
function completed(input: string): string {
  const withHost = /^host:/im.test(input) ? input : input.replace(/(HTTP\/\d\.\d ?\r\n)/, '$1Host: example.com\r\n');
  if (withHost.includes('\r\n\r\n')) return withHost;
  return `${withHost}${withHost.endsWith('\r\n') ? '' : '\r\n'}\r\n`;
}

function eventsOf(pieces: readonly Buffer[]): readonly WireEvent[] {
  const wire = new ServerWire({ acceptHttp10: true }, { onEnd: (request) => request.answer(200) });
  for (const piece of pieces) wire.feed(piece);
  return wire.events;
}

function refusalOf(input: string): { readonly error: number; readonly details: string } | undefined {
  const last = eventsOf([Buffer.from(input, 'latin1')]).at(-1);
  return typeof last === 'object' && 'error' in last ? last : undefined;
}

describe('llhttp fixtures', { skip }, () => {
  test('llhttp fixtures hold 63 strict request errors when they are read', () => {
    assert.equal(strictErrors.length, 63);
    assert.equal(new Set(fixtures.map(({ name }) => name)).size, fixtures.length, 'names are distinct');
  });

  for (const { name, input, error } of strictErrors) {
    const reason = ACCEPTED[name];
    if (reason === undefined) {
      test(`Http1ServerCodec refuses as llhttp does when the input is ${name} (${error?.reason})`, () => {
        const refusal = refusalOf(completed(input));
        assert.ok(refusal !== undefined, `accepted ${JSON.stringify(completed(input))}`);
        assert.ok(refusal.error === 400 || refusal.error === 501, `status ${refusal.error}`);
        assert.notEqual(refusal.details, 'missing_host_header', 'refused for want of a Host, not for its fault');
      });
    } else {
      test(`Http1ServerCodec accepts, for ${reason}, when the input is ${name}`, () => {
        assert.equal(refusalOf(completed(input)), undefined, 'refused after all: take it off the table');
      });
    }
  }

  test('the table of accepted inputs names only strict errors when fixtures change', () => {
    const names = new Set(strictErrors.map(({ name }) => name));
    assert.deepEqual(
      Object.keys(ACCEPTED).filter((name) => !names.has(name)),
      [],
    );
  });

  test('Http1ServerCodec says the same of every fixture when it is split at every byte', () => {
    for (const { name, input } of fixtures) {
      let expected: readonly WireEvent[] | undefined;
      for (const [split, pieces] of everySplit(completed(input))) {
        const events = eventsOf(pieces);
        expected ??= events;
        assert.deepEqual({ name, split, events }, { name, split, events: expected });
      }
    }
  });
});

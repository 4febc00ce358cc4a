/** One request as bytes through a proxy to a recording upstream, in a form that two proxies can be compared by. */
import { RawClient, type RawUpstream } from './raw_peers.ts';
import type { Scope } from './scope.ts';

export interface Outcome {
  /** Status line and sorted fields, then the body; `open`: the connection stays open. */
  readonly response: readonly string[];
  /** What the upstream got of it, the same way; empty: nothing. */
  readonly forwarded: readonly string[];
}

/** Up to the answer's end, or the connection's. What differs from run to run is replaced: dates, ids, times, ports. */
export async function exchangeThrough(
  scope: Scope,
  port: number,
  upstream: RawUpstream,
  request: string,
): Promise<Outcome> {
  const lengths = upstream.received.map((text) => text.length);
  const client = new RawClient(scope, port);
  client.send(request);
  const response = await client.until((received) => isComplete(received, request)).catch(() => client.received);
  client.socket.destroy();
  const forwarded = upstream.received.map((text, index) => text.slice(lengths[index] ?? 0)).join('');
  return { response: comparable(response), forwarded: comparable(forwarded) };
}

/** Whether the last message has all of the body that its head announces; an answer to HEAD has none. */
function isComplete(received: string, request: string): boolean {
  const end = received.indexOf('\r\n\r\n');
  if (end < 0) return false;
  const rest = received.slice(end + 4);
  if (/^HTTP\/1\.1 1\d\d /.test(received)) return isComplete(rest, request);
  if (request.startsWith('HEAD ')) return true;
  const length = /\r\ncontent-length: (\d+)/i.exec(received.slice(0, end));
  return length === null ? rest.endsWith('0\r\n\r\n') : rest.length >= Number(length[1]);
}

function comparable(message: string): string[] {
  if (message === '') return [];
  const end = message.indexOf('\r\n\r\n');
  const [first = '', ...fields] = message.slice(0, end).split('\r\n');
  const body = message.slice(end + 4);
  // An interim answer is one line before the final one.
  if (/^HTTP\/1\.1 1\d\d /.test(first)) return [first, ...comparable(body)];
  return [
    first,
    ...fields
      .filter((field) => !/^(?:date|x-envoy-expected-rq-timeout-ms):/i.test(field))
      .map((field) =>
        field
          .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/, 'UUID')
          .replace(/^(x-envoy-upstream-service-time|x-forwarded-port): \d+$/, '$1: N'),
      )
      .sort(),
    ...(body === '' ? [] : ['', ...body.split('\r\n')]),
  ];
}

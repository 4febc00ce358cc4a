/** The backend of mocks, tests and load tests: answers what it was asked. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';

export interface EchoIdentity {
  readonly workload: string;
  readonly version: string;
}

const MAX_DELAY_MS = 600_000;
const MAX_BYTES = 1024 * 1024 * 1024;
const MAX_CHUNKS = 10_000;
const BLOCK = Buffer.alloc(65_536, 'x');
const small = new Map<number, Buffer>();

/** `/status/N`, `/delay/MS`, `/bytes/N`, `/stream/N`; anything else: JSON of the request. */
export function createEchoServer(identity: EchoIdentity): Server {
  return createServer((request, response) => {
    let bodyBytes = 0;
    request.on('data', (chunk: Buffer) => {
      bodyBytes += chunk.length;
    });
    request.on('end', () => answer(identity, request, response, bodyBytes));
    request.on('error', () => response.destroy());
  });
}

function answer(identity: EchoIdentity, request: IncomingMessage, response: ServerResponse, bodyBytes: number): void {
  const path = (request.url ?? '/').split('?', 1)[0] as string;
  const match = /\/(status|delay|bytes|stream)\/([^/]*)$/.exec(path);
  if (match === null) return describe(identity, request, response, bodyBytes, 200);
  const [, what, text = ''] = match;
  const number = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  switch (what) {
    case 'status':
      if (!(number >= 200 && number <= 599))
        return refuse(response, `/status/N wants a status from 200 to 599, got "${text}"`);
      return describe(identity, request, response, bodyBytes, number);
    case 'delay':
      if (!(number <= MAX_DELAY_MS))
        return refuse(response, `/delay/MS wants 0 to ${MAX_DELAY_MS} milliseconds, got "${text}"`);
      setTimeout(() => describe(identity, request, response, bodyBytes, 200), number);
      return;
    case 'bytes':
      if (!(number <= MAX_BYTES)) return refuse(response, `/bytes/N wants 0 to ${MAX_BYTES} bytes, got "${text}"`);
      return sendBytes(response, number);
    default:
      if (!(number <= MAX_CHUNKS)) return refuse(response, `/stream/N wants 0 to ${MAX_CHUNKS} lines, got "${text}"`);
      return sendLines(identity, response, number);
  }
}

function describe(
  { workload, version }: EchoIdentity,
  request: IncomingMessage,
  response: ServerResponse,
  bodyBytes: number,
  status: number,
): void {
  const body = `${JSON.stringify({
    workload,
    version,
    method: request.method,
    path: request.url,
    host: request.headers.host,
    headers: request.headers,
    bodyBytes,
  })}\n`;
  const empty = status === 204 || status === 304;
  response.writeHead(
    status,
    empty ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
  );
  response.end(empty ? undefined : body);
}

function refuse(response: ServerResponse, message: string): void {
  response.writeHead(400, { 'content-type': 'text/plain' }).end(`${message}\n`);
}

function sendBytes(response: ServerResponse, count: number): void {
  response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': count });
  if (count <= BLOCK.length) {
    let block = small.get(count);
    if (block === undefined) {
      block = BLOCK.subarray(0, count);
      if (small.size < 64) small.set(count, block);
    }
    response.end(block);
    return;
  }
  let left = count;
  const more = (): void => {
    while (left > 0) {
      const size = Math.min(left, BLOCK.length);
      left -= size;
      if (!response.write(size === BLOCK.length ? BLOCK : BLOCK.subarray(0, size))) {
        response.once('drain', more);
        return;
      }
    }
    response.end();
  };
  more();
}

function sendLines({ workload }: EchoIdentity, response: ServerResponse, count: number): void {
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  let line = 0;
  const next = (): void => {
    if (response.destroyed) return;
    if (line === count) {
      response.end();
      return;
    }
    response.write(`${JSON.stringify({ workload, line: ++line })}\n`);
    setImmediate(next);
  };
  next();
}

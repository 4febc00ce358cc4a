/** `pillion healthcheck` and `pillion wait`: is a proxy ready, for containers without curl. */
import { get } from 'node:http';
import { CommandError, exitCodes } from './exit_codes.ts';
import { warn } from './print.ts';

const PROBE_TIMEOUT_MS = 2000;
const POLL_MS = 100;

/** @returns 0 when the proxy answers 200, 1 otherwise. @throws {CommandError} for a bad URL. */
export async function healthcheck(url: string): Promise<number> {
  const complaint = await probe(url);
  if (complaint === undefined) return exitCodes.fine;
  warn(`${url}: ${complaint}`);
  return exitCodes.failure;
}

/** Polls until ready. @returns 0, or 1 when the time is over. @throws {CommandError} */
export async function wait(url: string, timeoutText: string): Promise<number> {
  const untilMs = performance.now() + timeoutMs(timeoutText);
  for (;;) {
    const complaint = await probe(url);
    if (complaint === undefined) return exitCodes.fine;
    if (performance.now() >= untilMs) {
      warn(`${url} is not ready after ${timeoutText}: ${complaint}`);
      return exitCodes.failure;
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function timeoutMs(text: string): number {
  const match = /^(\d{1,7}(?:\.\d+)?)(ms|s|m)?$/.exec(text);
  if (match === null) throw new CommandError(exitCodes.usage, `--timeout wants a duration such as 60s, got "${text}"`);
  return Number(match[1]) * { ms: 1, s: 1000, m: 60_000 }[(match[2] ?? 's') as 'ms' | 's' | 'm'];
}

/** @returns what is wrong; undefined: ready. */
function probe(url: string): Promise<string | undefined> {
  if (!URL.canParse(url) || !url.startsWith('http://')) {
    throw new CommandError(exitCodes.usage, `--url wants an http:// URL, got "${url}"`);
  }
  return new Promise((resolve) => {
    const request = get(url, { timeout: PROBE_TIMEOUT_MS, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode === 200 ? undefined : `it answers ${response.statusCode}`);
    });
    request.once('timeout', () => request.destroy(new Error(`no answer within ${PROBE_TIMEOUT_MS} ms`)));
    request.once('error', (error: NodeJS.ErrnoException) => {
      resolve(error.code === 'ECONNREFUSED' ? 'nobody listens there' : error.message || (error.code ?? 'failed'));
    });
  });
}

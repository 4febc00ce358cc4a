/** One scrape for the pod: the proxy's metrics, then the application's (istio.md §3.5). */
import type { IncomingHttpHeaders } from 'node:http';
import type { AdminAnswer, AdminState } from './state.ts';

export interface ScrapeTarget {
  readonly port: number;
  readonly path: string;
}

const DEFAULT_TIMEOUT_MS = 10_000;
/** An application whose metrics are longer loses the rest. */
const MAX_APPLICATION_BYTES = 64 * 1024 * 1024;

/** ISTIO_PROMETHEUS_ANNOTATIONS: `{"scrape":"true","port":"8080","path":"/metrics"}`. undefined: nothing to scrape. */
export function readScrapeTarget(json: string, complain: (message: string) => void): ScrapeTarget | undefined {
  if (json === '') return undefined;
  try {
    const { scrape, port, path } = JSON.parse(json) as Readonly<Record<string, unknown>>;
    if (String(scrape) !== 'true') return undefined;
    const number = port === undefined || port === '' ? 80 : Number(port);
    if (!Number.isInteger(number) || number < 1 || number > 65_535) throw new Error(`port "${String(port)}" is none`);
    return { port: number, path: path === undefined || path === '' ? '/metrics' : String(path) };
  } catch (error) {
    complain(`Cannot read ISTIO_PROMETHEUS_ANNOTATIONS: ${(error as Error).message}`);
    return undefined;
  }
}

/** The application is asked while the proxy's own part is written; if it fails, the rest is still there, and it is counted. */
export function mergedMetrics(
  own: AdminAnswer,
  target: ScrapeTarget | undefined,
  headers: IncomingHttpHeaders,
  state: AdminState,
): AdminAnswer {
  if (target === undefined) return own;
  const seconds = Number(headers['x-prometheus-scrape-timeout-seconds']);
  const timeoutMs = seconds > 0 ? seconds * 1000 : DEFAULT_TIMEOUT_MS;
  const application = scrape(target, timeoutMs).catch((error: Error) => {
    const { log } = state.options;
    state.aggregate.own.counter('istio_agent.scrape_failures_total').inc();
    log.log('warning', 'stats', `Cannot scrape the application at port ${target.port}: ${error.message}`);
    return '';
  });
  return { ...own, body: both(own.body, application) };
}

async function* both(own: AdminAnswer['body'], application: Promise<string>): AsyncGenerator<string> {
  if (typeof own === 'string') yield own;
  else yield* own;
  const text = await application;
  if (text !== '') yield text.endsWith('\n') ? text : `${text}\n`;
}

/** In the text format: OpenMetrics writes counters' types another way, and both could not stand in one answer. */
async function scrape({ port, path }: ScrapeTarget, timeoutMs: number): Promise<string> {
  const url = `http://127.0.0.1:${port}${path.startsWith('/') ? '' : '/'}${path}`;
  const response = await fetch(url, {
    headers: { accept: 'text/plain;version=0.0.4' },
    signal: AbortSignal.timeout(timeoutMs),
  });
  if (!response.ok) {
    await response.body?.cancel();
    throw new Error(`it answered ${response.status}`);
  }
  let text = '';
  for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    text += chunk;
    if (text.length > MAX_APPLICATION_BYTES)
      throw new Error(`its metrics are longer than ${MAX_APPLICATION_BYTES} bytes`);
  }
  return text.replace(/^# EOF\n?$/m, '');
}

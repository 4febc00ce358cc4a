/**
 * Istio's agent port, 15020, in one process with the proxy: readiness, the application's own probes, merged metrics.
 * Source: istio/istio pilot/cmd/pilot-agent/status/server.go; istio.md §2.4, §3.5.
 */
import type { IncomingMessage } from 'node:http';
import { AppProbes } from './app_probes.ts';
import { mergedMetrics, readScrapeTarget, type ScrapeTarget } from './merged_metrics.ts';
import { type AdminAnswer, type AdminEndpoint, type AdminState, text } from './state.ts';

export interface AgentEnvironment {
  /** ISTIO_KUBE_APP_PROBERS: the injector's JSON; '' for none. */
  readonly probers: string;
  /** ISTIO_PROMETHEUS_ANNOTATIONS: where the application's own metrics are; '' for nowhere. */
  readonly prometheus: string;
  /** The pod's address, at which the application is probed. INSTANCE_IP; default 127.0.0.1. */
  readonly podIp: string;
}

export class AgentPort {
  readonly #state: AdminState;
  readonly #metrics: AdminEndpoint;
  readonly #probes: AppProbes;
  readonly #target: ScrapeTarget | undefined;

  /** `metrics`: the proxy's own. What of the environment cannot be read is logged and left out. */
  constructor(state: AdminState, metrics: AdminEndpoint, environment: AgentEnvironment) {
    this.#state = state;
    this.#metrics = metrics;
    const { log } = state.options;
    const complain = (message: string): void => log.log('error', 'hc', message);
    this.#probes = new AppProbes(environment.probers, environment.podIp, complain);
    this.#target = readScrapeTarget(environment.prometheus, complain);
  }

  async answer(request: IncomingMessage, url: URL): Promise<AdminAnswer> {
    const { pathname } = url;
    const state = this.#state;
    switch (pathname) {
      case '/healthz/ready': {
        if (state.state() === 'LIVE') return text('');
        const waiting = state.unready();
        return text(`${state.state()}${waiting.length === 0 ? '' : `: waiting for ${waiting.join(', ')}`}\n`, 503);
      }
      case '/stats/prometheus':
      case '/metrics':
        return mergedMetrics(
          await this.#metrics.answer(state, new URLSearchParams()),
          this.#target,
          request.headers,
          state,
        );
      case '/quitquitquit':
      case '/drain': {
        const refusal = refuseCommand(request);
        if (refusal !== undefined) return refusal;
        if (pathname === '/drain') state.drain('inbound', { graceful: true, skipExit: true });
        else state.quit();
        return text('OK\n');
      }
      default:
        return pathname.startsWith('/app-health/') || pathname.startsWith('/app-lifecycle/')
          ? this.#probes.run(pathname, request.headers)
          : text('404 page not found\n', 404);
    }
  }
}

/** Ending the proxy is for the pod itself. */
function refuseCommand({ method, socket }: IncomingMessage): AdminAnswer | undefined {
  const from = socket.remoteAddress ?? '';
  if (!from.startsWith('127.') && from !== '::1' && !from.startsWith('::ffff:127.'))
    return text('Only requests from localhost are allowed\n', 403);
  return method === 'POST' ? undefined : text('Method not allowed, POST required\n', 405);
}

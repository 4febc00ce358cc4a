/** istio_request_messages_total and istio_response_messages_total: of open gRPC streams every five seconds, and at their end. */
import type { FilterContext } from '../http/filter.ts';
import { Deadline, type DeadlineList, type Deadlines } from '../net/deadlines.ts';
import type { Labels, Statistics } from './statistics.ts';

interface Report {
  readonly timer: Deadline;
  request: number;
  response: number;
}

export interface MessageLabels {
  /** undefined: the metric is dropped. */
  readonly request: Labels | undefined;
  readonly response: Labels | undefined;
}

/** Of one configuration and thread. What is counted is what grpc_stats has seen (StreamInfo.grpcMessages). */
export class GrpcMessageReports {
  readonly #statistics: Statistics;
  readonly #timers: DeadlineList;
  readonly #labels: (ctx: FilterContext) => MessageLabels;
  readonly #open = new Map<FilterContext, Report>();

  constructor(
    deps: { readonly statistics: Statistics; readonly deadlines: Deadlines },
    intervalMs: number,
    labels: (ctx: FilterContext) => MessageLabels,
  ) {
    this.#statistics = deps.statistics;
    this.#timers = deps.deadlines.list(intervalMs);
    this.#labels = labels;
  }

  begin(ctx: FilterContext): void {
    const timer = new Deadline(() => {
      const report = this.#open.get(ctx);
      if (report === undefined) return;
      this.#report(ctx, report);
      this.#timers.arm(timer);
    });
    this.#open.set(ctx, { timer, request: 0, response: 0 });
    this.#timers.arm(timer);
  }

  end(ctx: FilterContext): void {
    const report = this.#open.size === 0 ? undefined : this.#open.get(ctx);
    if (report === undefined) return;
    this.#open.delete(ctx);
    report.timer.cancel();
    this.#report(ctx, report);
  }

  #report(ctx: FilterContext, report: Report): void {
    const { grpcMessages } = ctx.info;
    if (grpcMessages === undefined) return;
    const { request, response } = grpcMessages;
    if (request.count === report.request && response.count === report.response) return;
    const labels = this.#labels(ctx);
    // Looked up each time: a series that stood still for long may have expired.
    if (labels.request !== undefined) {
      this.#statistics.counter('istio_request_messages_total', labels.request).add(request.count - report.request);
    }
    if (labels.response !== undefined) {
      this.#statistics.counter('istio_response_messages_total', labels.response).add(response.count - report.response);
    }
    report.request = request.count;
    report.response = response.count;
  }
}

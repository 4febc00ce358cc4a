/** envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit: the question and its answer, as bytes. */
import { grpcFrame, grpcHead, grpcMessage } from '../../http/grpc_message.ts';
import type { InternalRequest, InternalResponse } from '../../http/filter.ts';
import type { Descriptor } from '../../router/rate_limit_actions.ts';
import { integerOf, isMessage, type ProtoField, readFields } from '../../telemetry/protobuf_reader.ts';
import { message } from '../../telemetry/protobuf_writer.ts';

export interface LimitAnswer {
  readonly overLimit: boolean;
  readonly responseHeaders: readonly (readonly [string, string])[];
  readonly requestHeaders: readonly (readonly [string, string])[];
  /** The tightest limit that applied; undefined: none was named. */
  readonly tightest:
    | { readonly perUnit: number; readonly remaining: number; readonly resetSeconds: number }
    | undefined;
  readonly rawBody: string;
}

export function rateLimitRequest(
  domain: string,
  descriptors: readonly Descriptor[],
  authority: string,
  timeoutMs: number,
): InternalRequest {
  const headers = grpcHead(authority, '/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit');
  const request = Buffer.concat([
    message(1, Buffer.from(domain)),
    ...descriptors.map((descriptor) =>
      message(
        2,
        Buffer.concat(
          descriptor.map(({ key, value }) =>
            message(1, Buffer.concat([message(1, Buffer.from(key)), message(2, Buffer.from(value))])),
          ),
        ),
      ),
    ),
  ]);
  return { headers, body: grpcFrame(request), timeoutMs };
}

/** undefined: that was no answer. */
export function rateLimitAnswer({ headers, body, trailers }: InternalResponse): LimitAnswer | undefined {
  const status = trailers?.get('grpc-status') ?? headers.get('grpc-status');
  if (headers.status !== 200 || status !== '0') return undefined;
  const answer = grpcMessage(body);
  const fields = answer === undefined ? undefined : readFields(answer);
  if (fields === undefined) return undefined;
  const code = integerIn(fields, 1);
  if (code !== 1 && code !== 2) return undefined;
  let tightest: LimitAnswer['tightest'];
  for (const { body: bytes } of fields.filter(isMessage(2))) {
    const parts = readFields(bytes) ?? [];
    const limit = parts.find(isMessage(2));
    if (limit === undefined) continue;
    const found = {
      perUnit: integerIn(readFields(limit.body) ?? [], 1),
      remaining: integerIn(parts, 3),
      resetSeconds: integerIn(readFields(parts.find(isMessage(4))?.body ?? EMPTY) ?? [], 1),
    };
    if (tightest === undefined || found.remaining < tightest.remaining) tightest = found;
  }
  return {
    overLimit: code === 2,
    responseHeaders: headersIn(fields, 3),
    requestHeaders: headersIn(fields, 4),
    tightest,
    rawBody: fields.find(isMessage(5))?.body.toString('utf8') ?? '',
  };
}

const EMPTY = Buffer.alloc(0);

function integerIn(fields: readonly ProtoField[], number: number): number {
  return integerOf(fields.findLast((one) => one.number === number && one.wire === 0));
}

/** envoy.config.core.v3.HeaderValue: key 1, value 2. What could split a head is left out. */
function headersIn(fields: readonly ProtoField[], number: number): (readonly [string, string])[] {
  return fields.filter(isMessage(number)).flatMap(({ body }) => {
    const parts = readFields(body) ?? [];
    const text = (of: number): string => parts.findLast(isMessage(of))?.body.toString('latin1') ?? '';
    const name = text(1).toLowerCase();
    return name === '' || /[\r\n\0]/.test(name + text(2)) ? [] : [[name, text(2)] as const];
  });
}

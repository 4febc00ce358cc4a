/** envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit: the question and its answer, as bytes. */
import { RequestHeaders } from '../../http/headers.ts';
import type { InternalRequest, InternalResponse } from '../../http/filter.ts';
import type { Descriptor } from '../../router/rate_limit_actions.ts';
import { message } from '../../telemetry/peer_metadata.ts';
import { type ProtoField, readFields } from '../../telemetry/protobuf_reader.ts';

const PREFIX_BYTES = 5;

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
  const headers = new RequestHeaders();
  headers.method = 'POST';
  headers.path = '/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit';
  headers.authority = authority;
  headers.append('content-type', 'application/grpc');
  headers.append('te', 'trailers');
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
  const body = Buffer.alloc(PREFIX_BYTES + request.length);
  body.writeUInt32BE(request.length, 1);
  request.copy(body, PREFIX_BYTES);
  return { headers, body, timeoutMs };
}

/** undefined: that was no answer. */
export function rateLimitAnswer({ headers, body, trailers }: InternalResponse): LimitAnswer | undefined {
  const status = trailers?.get('grpc-status') ?? headers.get('grpc-status');
  if (headers.status !== 200 || status !== '0') return undefined;
  if (body.length < PREFIX_BYTES || body[0] !== 0 || body.readUInt32BE(1) !== body.length - PREFIX_BYTES)
    return undefined;
  const fields = readFields(body.subarray(PREFIX_BYTES));
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

function isMessage(number: number): (field: ProtoField) => boolean {
  return (field) => field.number === number && field.wire === 2;
}

function integerIn(fields: readonly ProtoField[], number: number): number {
  const field = fields.findLast((one) => one.number === number && one.wire === 0);
  let value = 0;
  for (const [index, byte] of (field?.body ?? EMPTY).entries()) value += (byte & 0x7f) * 2 ** (7 * index);
  return value;
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

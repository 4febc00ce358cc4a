/** gRPC status in format strings. Source: envoy docs, "Access logging", GRPC_STATUS. */
import { ConfigError } from '../config_error.ts';
import type { Command } from './format_commands.ts';
import type { FormatInput } from './formatter.ts';
import { grpcStatusOfHttp } from './local_reply.ts';

const CAMEL = (
  'OK Canceled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists PermissionDenied ResourceExhausted ' +
  'FailedPrecondition Aborted OutOfRange Unimplemented Internal Unavailable DataLoss Unauthenticated'
).split(' ');
const SNAKE = (
  'OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED ' +
  'RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED'
).split(' ');

/**
 * From trailers, else headers, else the HTTP status. undefined: no gRPC, or no answer.
 * `any`: of a request that does not say that it is gRPC too.
 */
export function grpcStatusOf(
  { info, requestHeaders, responseHeaders, responseTrailers }: FormatInput,
  any = false,
): number | undefined {
  if (!any && requestHeaders?.get('content-type')?.startsWith('application/grpc') !== true) return undefined;
  const text = responseTrailers?.get('grpc-status') ?? responseHeaders?.get('grpc-status');
  if (text !== undefined) return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
  return info.responseCode === 0 ? undefined : grpcStatusOfHttp(info.responseCode);
}

/** `CAMEL_STRING` (default), `SNAKE_STRING`, `NUMBER`; unknown codes print as numbers. */
export function grpcStatus(argument: string): Command {
  switch (argument) {
    case '':
    case 'CAMEL_STRING':
      return named(CAMEL);
    case 'SNAKE_STRING':
      return named(SNAKE);
    case 'NUMBER':
      return (input) => grpcStatusOf(input);
    default:
      throw new ConfigError('', `"GRPC_STATUS(${argument})": CAMEL_STRING, SNAKE_STRING or NUMBER is wanted`);
  }
}

function named(names: readonly string[]): Command {
  return (input) => {
    const status = grpcStatusOf(input);
    return status === undefined ? undefined : (names[status] ?? String(status));
  };
}

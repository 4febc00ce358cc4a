/**
 * How a connection manager words the replies that the proxy makes itself.
 * Envoy: envoy.extensions.filters.network.http_connection_manager.v3.LocalReplyConfig, source/common/local_reply.
 */
import { ConfigError } from '../config_error.ts';
import type { Fields } from '../resource_fields.ts';
import { applyAddition, type HeaderAddition, parseHeaderAddition } from '../router/header_mutations.ts';
import { type AccessLogFilter, parseAccessLogFilter } from '../telemetry/access_log_filter.ts';
import { compileFormat, compileJson, type FormatInput } from './formatter.ts';
import { type RequestHeaders, ResponseHeaders } from './headers.ts';
import { inlineText } from './inline_text.ts';
import { isGrpc, type LocalReply, localReply } from './local_reply.ts';
import type { StreamInfo } from './stream_info.ts';

const MIN_STATUS = 200;
const MAX_STATUS = 599;

/** What the proxy would answer as it is. */
export interface PlainReply {
  readonly status: number;
  readonly body: string;
  /** undefined: from the status. */
  readonly grpcStatus?: number | undefined;
  readonly modifyHeaders?: ((headers: ResponseHeaders) => void) | undefined;
}

interface BodyFormat {
  readonly contentType: string;
  readonly text: (input: FormatInput) => string;
}

/** All of it applies when `filter` is the first to match. */
interface Mapper {
  readonly filter: AccessLogFilter;
  readonly status: number | undefined;
  readonly body: string | undefined;
  readonly added: readonly HeaderAddition[];
  readonly format: BodyFormat | undefined;
}

/** A reply as it stands or, where it is configured, as the connection manager words it. */
export function replyOf(
  rewriter: LocalReplyRewriter | undefined,
  info: StreamInfo,
  requestHeaders: RequestHeaders | undefined,
  plain: PlainReply,
): LocalReply {
  if (rewriter !== undefined) return rewriter.reply(info, requestHeaders, plain);
  const reply = localReply(requestHeaders, plain.status, plain.body, plain.grpcStatus);
  plain.modifyHeaders?.(reply.headers);
  return reply;
}

/** Read once for each connection manager; asked for each reply of the proxy's own, and for no other. */
export class LocalReplyRewriter {
  readonly #mappers: readonly Mapper[];
  readonly #format: BodyFormat | undefined;

  constructor(mappers: readonly Mapper[], format: BodyFormat | undefined) {
    this.#mappers = mappers;
    this.#format = format;
  }

  /** `info` gets the status and, for formats, the body. */
  reply(info: StreamInfo, requestHeaders: RequestHeaders | undefined, plain: PlainReply): LocalReply {
    const own = new ResponseHeaders();
    own.status = plain.status;
    plain.modifyHeaders?.(own);
    const input: FormatInput = { info, requestHeaders, responseHeaders: own, responseTrailers: undefined };
    let body = plain.body;
    let grpcStatus = plain.grpcStatus;
    let format = this.#format;
    info.responseCode = own.status;
    const mapper = this.#mappers.find(({ filter }) => filter(input));
    if (mapper !== undefined) {
      if (mapper.body !== undefined) body = mapper.body;
      info.localReplyBody = body;
      for (const addition of mapper.added) applyAddition(own, addition, input);
      if (mapper.status !== undefined && mapper.status !== own.status) {
        own.status = mapper.status;
        info.responseCode = mapper.status;
        grpcStatus = undefined;
      }
      format = mapper.format ?? format;
    }
    const text = format === undefined ? body : format.text(input);
    const reply = localReply(requestHeaders, own.status, text, grpcStatus);
    const typed = format !== undefined || (requestHeaders !== undefined && isGrpc(requestHeaders));
    if (format !== undefined && reply.headers.has('content-length')) {
      reply.headers.set('content-type', format.contentType);
    }
    merge(reply.headers, own, typed);
    return reply;
  }
}

/** What filters and mappers set goes over what stands in every reply, but for the type of a body that was made anew. */
function merge(headers: ResponseHeaders, own: ResponseHeaders, typed: boolean): void {
  const seen = new Set<string>();
  for (let i = 0; i < own.fields.length; i += 2) {
    const name = own.fields[i] as string;
    const value = own.fields[i + 1] as string;
    if (name === 'content-length' || (name === 'content-type' && typed)) continue;
    if (seen.has(name)) headers.append(name, value);
    else headers.set(name, value);
    seen.add(name);
  }
}

/** undefined: replies stay as they are. @throws {ConfigError} */
export function parseLocalReplyConfig(fields: Fields | undefined): LocalReplyRewriter | undefined {
  if (fields === undefined) return undefined;
  const mappers = fields.messages('mappers').map(parseMapper);
  const format = fields.message('body_format');
  if (mappers.length === 0 && format === undefined) return undefined;
  return new LocalReplyRewriter(mappers, format && parseBodyFormat(format));
}

function parseMapper(fields: Fields): Mapper {
  const format = fields.message('body_format_override');
  return {
    filter: parseAccessLogFilter(fields.requiredMessage('filter')),
    status: fields.integer('status_code', MIN_STATUS, MAX_STATUS),
    body: inlineText(fields.message('body'), 'texts'),
    added: fields.messages('headers_to_add').map(parseHeaderAddition),
    format: format && parseBodyFormat(format),
  };
}

/** envoy.config.core.v3.SubstitutionFormatString. */
function parseBodyFormat(fields: Fields): BodyFormat {
  const contentType = fields.string('content_type') ?? '';
  const omitEmpty = fields.boolean('omit_empty_values') ?? false;
  if (fields.list('formatters').length > 0) fields.fail('formatters', 'extensions of formats are not supported');
  if (fields.message('json_format_options')?.boolean('sort_properties')) {
    fields.fail('json_format_options.sort_properties', 'is not supported: fields stand in the order they are written');
  }
  const json = fields.message('json_format');
  if (json !== undefined) {
    const value = named(json.path, () => compileJson(json.json, omitEmpty));
    return { contentType: contentType || 'application/json', text: (input) => `${JSON.stringify(value(input))}\n` };
  }
  const format = fields.string('text_format') ?? inlineText(fields.message('text_format_source'), 'texts');
  if (format === undefined) return fields.fail('text_format_source', 'this or json_format is required');
  const absent = omitEmpty ? 'empty' : 'dash';
  const filled = named(fields.path, () => compileFormat(format, { absent }));
  // The reply's body is never absent in Envoy, an empty one is no dash.
  const bodiless = compileFormat(withoutBody(format), { absent });
  return {
    contentType: contentType || 'text/plain',
    text: (input) => (input.info.localReplyBody === '' ? bodiless : filled).format(input),
  };
}

/** The format of a reply without a body. `%%` stands for a percent sign and begins no command. */
function withoutBody(format: string): string {
  return format.replace(/%%|%LOCAL_REPLY_BODY(?:\(\))?(?::\d+)?%/g, (found) => (found === '%%' ? found : ''));
}

function named<T>(path: string, compile: () => T): T {
  try {
    return compile();
  } catch (error) {
    if (error instanceof ConfigError && error.path === '') throw new ConfigError(path, error.message, { cause: error });
    throw error;
  }
}

/** envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat: the spelling of names is always kept, so that is all that can be asked for. */
import type { Fields } from '../resource_fields.ts';
import { refuseUnexecuted } from '../unexecuted_fields.ts';

const PRESERVE_CASE =
  'type.googleapis.com/envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig';

/** `http1`: of either side. @throws {ConfigError} */
export function checkHeaderCase(http1: Fields | undefined): void {
  const format = http1?.message('header_key_format');
  refuseUnexecuted(format, 'HeaderKeyFormat');
  const config = format?.message('stateful_formatter')?.message('typed_config');
  const type = config?.string('@type');
  if (type !== undefined && type !== PRESERVE_CASE) config?.fail('@type', `${type} is not supported: preserve_case is`);
}

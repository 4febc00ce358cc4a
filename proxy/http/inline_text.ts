/** envoy.config.core.v3.DataSource with the text in it. */
import type { Fields } from '../resource_fields.ts';

/** `what` is asked for, of which there is no other source. undefined: the field is not there. @throws {ConfigError} */
export function inlineText(source: Fields | undefined, what: 'bodies' | 'texts'): string | undefined {
  if (source === undefined) return undefined;
  for (const other of ['filename', 'environment_variable']) {
    if (source.has(other)) source.fail(other, `${what} from elsewhere are not supported: use inline_string`);
  }
  const bytes = source.string('inline_bytes');
  return bytes !== undefined ? Buffer.from(bytes, 'base64').toString() : (source.string('inline_string') ?? '');
}

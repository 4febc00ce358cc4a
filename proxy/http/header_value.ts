/** envoy.config.core.v3.HeaderValue, of requests that the proxy itself makes. */
import type { Fields } from '../resource_fields.ts';
import { refuseUnexecuted } from '../unexecuted_fields.ts';

/** The name is in lower case; the value '' where none is given. @throws {ConfigError} */
export function parseHeaderValue(fields: Fields): readonly [name: string, value: string] {
  refuseUnexecuted(fields, 'HeaderValue');
  return [fields.requiredString('key').toLowerCase(), fields.string('value') ?? ''];
}

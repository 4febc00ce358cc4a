/** envoy.config.core.v3.DataSource of secrets, and the refusal of fields that are not executed. */
import type { DataSource } from '../../proxy/net/tls/tls_config.ts';
import type { Fields } from '../../proxy/resource_fields.ts';

/** Never quotes what it holds. @throws {ConfigError} */
export function dataSource(fields: Fields): DataSource {
  const path = fields.string('filename');
  if (path !== undefined) {
    return path === '' ? fields.fail('filename', 'is required and must not be empty') : { kind: 'file', path };
  }
  const base64 = fields.raw('inline_bytes');
  if (typeof base64 === 'string') return { kind: 'inline', bytes: Buffer.from(base64, 'base64') };
  const text = fields.raw('inline_string');
  if (typeof text === 'string') return { kind: 'inline', bytes: Buffer.from(text) };
  const variable = fields.string('environment_variable');
  if (variable !== undefined) {
    const value = process.env[variable];
    if (value === undefined) fields.fail('environment_variable', `${variable} is not set`);
    return { kind: 'inline', bytes: Buffer.from(value ?? '') };
  }
  return fields.fail('filename', 'one of filename, inline_bytes, inline_string, environment_variable is required');
}

/** undefined: the field is not there. */
export function optionalSource(fields: Fields, name: string): DataSource | undefined {
  return fields.has(name) ? dataSource(fields.requiredMessage(name)) : undefined;
}

/** What is not executed is refused by name. */
export function refuse(fields: Fields, names: readonly string[]): void {
  for (const name of names) {
    const value = fields.raw(name);
    if (value === undefined || value === false || (Array.isArray(value) && value.length === 0)) continue;
    fields.fail(name, 'is not supported');
  }
}

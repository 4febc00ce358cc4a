/** envoy.config.core.v3.ProxyProtocolConfig → ProxyHeaderConfig. */
import { parsePassThrough, type ProxyHeaderConfig, type Tlv } from '../../proxy/net/proxy_header.ts';
import type { Fields } from '../../proxy/resource_fields.ts';

const MAX_TLV_BYTES = 65_535;

/** @throws {ConfigError} with the field's path. */
export function buildProxyHeaderConfig(fields: Fields): ProxyHeaderConfig {
  const version = fields.oneOf('version', ['V1', 'V2'], 'V1') === 'V1' ? 1 : 2;
  return {
    version,
    passThrough: parsePassThrough(fields.message('pass_through_tlvs')),
    added: fields.messages('added_tlvs').map(buildTlv),
  };
}

/** envoy.config.core.v3.TlvEntry. */
function buildTlv(fields: Fields): Tlv {
  if (fields.has('format_string')) fields.fail('format_string', 'is not supported: give the value itself');
  const value = Buffer.from(fields.requiredString('value'), 'base64');
  if (value.length > MAX_TLV_BYTES) fields.fail('value', `has ${value.length} bytes, ${MAX_TLV_BYTES} are the most`);
  return { type: fields.integer('type', 0, 255) ?? 0, value };
}

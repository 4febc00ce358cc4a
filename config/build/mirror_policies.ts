/** envoy.config.route.v3.RouteAction.RequestMirrorPolicy → MirrorPolicy. */
import { ALWAYS, parseRuntimeFraction } from '../../proxy/fractional_percent.ts';
import type { Fields } from '../../proxy/resource_fields.ts';
import type { MirrorPolicy } from '../../proxy/router/mirror.ts';

/** Of the most specific level that has any. @throws {ConfigError} */
export function parseMirrorPolicies(levels: readonly Fields[]): readonly MirrorPolicy[] {
  const level = levels.find((fields) => fields.messages('request_mirror_policies').length > 0);
  return level?.messages('request_mirror_policies').map(parsePolicy) ?? [];
}

function parsePolicy(fields: Fields): MirrorPolicy {
  const cluster = fields.string('cluster') ?? '';
  const header = fields.string('cluster_header')?.toLowerCase() ?? '';
  if ((cluster === '') === (header === '')) fields.fail('cluster', 'one of cluster, cluster_header is required');
  for (const name of ['request_headers_mutations', 'host_rewrite_literal']) {
    if (fields.has(name)) fields.fail(name, 'is not supported');
  }
  return {
    clusterName: cluster === '' ? (headers) => headers.get(header) : () => cluster,
    share: parseRuntimeFraction(fields.message('runtime_fraction'), ALWAYS),
    addsShadowSuffix: fields.boolean('disable_shadow_host_suffix_append') !== true,
  };
}

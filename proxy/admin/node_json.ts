/** envoy.config.core.v3.Node as dumps and /server_info show it. */
import type { Json } from '../../config/resources.ts';
import type { ProxyOptions } from '../proxy_options.ts';
import { redactJson } from '../telemetry/redaction.ts';
import { VERSION } from '../version.ts';

export function nodeJson({ node }: ProxyOptions): Json {
  const [major = 0, minor = 0, patch = 0] = VERSION.split('.').map(Number);
  return {
    id: node.id,
    cluster: node.cluster,
    ...(Object.keys(node.metadata).length > 0 && { metadata: redactJson(node.metadata) }),
    user_agent_name: 'pillion',
    user_agent_build_version: {
      version: { major_number: major, minor_number: minor, patch },
      metadata: {
        'build.type': 'RELEASE',
        'node.version': process.versions.node,
        'ssl.version': process.versions.openssl,
      },
    },
  };
}

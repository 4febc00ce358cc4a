/** Tags that a configuration adds to spans and log entries. Envoy: envoy.type.tracing.v3.CustomTag. */
import { compileFormat, type FormatInput } from '../../http/formatter.ts';
import type { StreamInfo } from '../../http/stream_info.ts';
import type { CustomTag } from './tracing_config.ts';

/** undefined: the stream has no such value. */
export type TagReader = (stream: FormatInput) => string | undefined;

/** Made once a configuration. */
export function tagReader(value: CustomTag['value']): TagReader {
  switch (value.kind) {
    case 'literal':
      return () => value.text;
    case 'environment': {
      const text = process.env[value.name] ?? value.defaultValue;
      return () => (text === '' ? undefined : text);
    }
    case 'request_header':
      return ({ requestHeaders }) => requestHeaders?.get(value.name) ?? (value.defaultValue || undefined);
    case 'metadata':
      return ({ info }) =>
        metadataText(metadataOf(info, value.source, value.namespace), value.path) ?? (value.defaultValue || undefined);
    case 'format': {
      const { format } = compileFormat(value.format, { absent: 'empty' });
      return (stream) => format(stream) || undefined;
    }
    default:
      return value satisfies never;
  }
}

function metadataOf(info: StreamInfo, source: 'request' | 'route' | 'cluster' | 'host', namespace: string): unknown {
  switch (source) {
    case 'request':
      return info.dynamicMetadata?.get(namespace);
    case 'route':
      return info.routeMetadata?.[namespace];
    case 'cluster':
      return info.upstreamClusterMetadata?.[namespace];
    case 'host':
      return info.upstreamHostMetadata?.[namespace];
    default:
      return source satisfies never;
  }
}

function metadataText(value: unknown, path: readonly string[]): string | undefined {
  let found = value;
  for (const key of path) {
    if (found === null || typeof found !== 'object' || !Object.hasOwn(found, key)) return undefined;
    found = (found as Readonly<Record<string, unknown>>)[key];
  }
  if (found === undefined || found === null) return undefined;
  return typeof found === 'object' ? JSON.stringify(found) : String(found);
}

/**
 * /config_dump: what is configured, in the shapes that istioctl decodes, written a slice at a time.
 * Source: envoy.admin.v3 config_dump.proto and config_dump_shared.proto.
 */
import type { Json } from '../../config/resources.ts';
import { compileRe2 } from '../re2.ts';
import { redactJson } from '../telemetry/redaction.ts';
import { Slices } from '../telemetry/slices.ts';
import { type Section, sectionsOf } from './config_dump_sections.ts';
import { trim } from './field_mask.ts';
import { joined, PackedAny, writeJson } from './json_writer.ts';
import type { AdminAnswer, AdminEndpoint } from './state.ts';

const ANY = 'type.googleapis.com/';
/** The repeated fields of each dump, and the message each element is. */
const ELEMENTS: Readonly<Record<string, string>> = {
  static_clusters: 'ClustersConfigDump.StaticCluster',
  dynamic_active_clusters: 'ClustersConfigDump.DynamicCluster',
  dynamic_warming_clusters: 'ClustersConfigDump.DynamicCluster',
  static_endpoint_configs: 'EndpointsConfigDump.StaticEndpointConfig',
  dynamic_endpoint_configs: 'EndpointsConfigDump.DynamicEndpointConfig',
  static_listeners: 'ListenersConfigDump.StaticListener',
  dynamic_listeners: 'ListenersConfigDump.DynamicListener',
  static_route_configs: 'RoutesConfigDump.StaticRouteConfig',
  dynamic_route_configs: 'RoutesConfigDump.DynamicRouteConfig',
  inline_scoped_route_configs: 'ScopedRoutesConfigDump.InlineScopedRouteConfigs',
  dynamic_scoped_route_configs: 'ScopedRoutesConfigDump.DynamicScopedRouteConfigs',
  static_secrets: 'SecretsConfigDump.StaticSecret',
  dynamic_active_secrets: 'SecretsConfigDump.DynamicSecret',
  dynamic_warming_secrets: 'SecretsConfigDump.DynamicSecret',
  ecds_filters: 'EcdsConfigDump.EcdsFilterConfig',
};
const SINGULAR = ['bootstrap', 'last_updated', 'version_info'];
const MAX_REGEX_LENGTH = 1024;

export const configDump: AdminEndpoint = {
  path: '/config_dump',
  help: 'dump current Envoy configs',
  parameters: {
    resource: 'The resource to dump',
    mask: 'The mask to apply. When both resource and mask are specified, the mask is applied to every element in the desired repeated field',
    name_regex: 'Dump only the currently loaded configurations whose names match the specified regex',
    include_eds: 'Dump currently loaded configuration including EDS',
  },
  mutates: false,
  async answer(state, query) {
    const pattern = query.get('name_regex');
    let matches: (name: string) => boolean = () => true;
    if (pattern !== null && pattern !== '') {
      if (pattern.length > MAX_REGEX_LENGTH) return plain('name_regex is too long', 400);
      try {
        const regex = compileRe2(pattern);
        matches = (name) => regex.testExact(name);
      } catch (error) {
        return plain(
          `INVALID_ARGUMENT: Error while parsing name_regex from ${pattern}: ${(error as Error).message}`,
          400,
        );
      }
    }
    const mask = query.get('mask')?.split(',').filter(Boolean) ?? [];
    const sections = await sectionsOf(state, matches, query.has('include_eds'));
    const field = query.get('resource');
    if (field !== null && field !== '') return oneField(sections, field, mask);
    if (mask.length > 0) return masked(sections, mask);
    return { status: 200, type: 'application/json', body: joined(written(sections)) };
  },
};

const plain = (body: string, status: number): AdminAnswer => ({ status, type: 'text/plain', body });

/** ?resource=: the elements of one repeated field, typed one by one. */
function oneField(sections: readonly Section[], field: string, mask: readonly string[]): AdminAnswer {
  if (SINGULAR.includes(field)) {
    return plain(`${field} is not a repeated field. Use ?mask=${field} to get only this field`, 400);
  }
  const message = Object.hasOwn(ELEMENTS, field) ? ELEMENTS[field] : undefined;
  if (message === undefined) return plain(`${field.slice(0, 200)} not found in config dump`, 404);
  const elements = sections.flatMap(({ lists }) => lists.filter(([name]) => name === field));
  function* configs(): Generator<Json> {
    for (const [, make] of elements) {
      for (const element of make()) {
        const kept = mask.length === 0 ? element : trim(unpacked(element), mask);
        if (kept !== undefined) yield { '@type': `${ANY}envoy.admin.v3.${message}`, ...kept };
      }
    }
  }
  return { status: 200, type: 'application/json', body: joined(listed(configs())) };
}

/** ?mask=: of each dump that has all these fields, only these. */
async function masked(sections: readonly Section[], mask: readonly string[]): Promise<AdminAnswer> {
  const slices = new Slices();
  const configs: Json[] = [];
  for (const { type, fields, lists } of sections) {
    const known = [...Object.keys(fields), ...lists.map(([name]) => name), 'version_info'];
    if (!mask.every((path) => known.includes(path.split('.', 1)[0] as string))) continue;
    const whole: Record<string, unknown> = { ...fields };
    for (const [name, make] of lists) {
      if (!mask.some((path) => path.split('.', 1)[0] === name)) continue;
      const elements: Json[] = [];
      for (const element of make()) {
        elements.push(unpacked(element));
        if (slices.over) await slices.next();
      }
      whole[name] = elements;
    }
    const kept = trim(whole, mask);
    if (kept !== undefined) configs.push({ '@type': type, ...kept });
  }
  if (configs.length === 0) {
    return plain(`FieldMask ${mask.join().slice(0, 200)} could not be successfully applied to any configs.`, 400);
  }
  return { status: 200, type: 'application/json', body: joined(listed(configs)) };
}

/** `{"configs": […]}` with the items a slice at a time. */
async function* listed(items: Iterable<Json>): AsyncGenerator<string> {
  const slices = new Slices();
  let separator = '{\n "configs": [\n';
  let any = false;
  for (const item of items) {
    yield separator;
    yield* writeJson(item, 2, slices);
    separator = ',\n';
    any = true;
  }
  yield any ? '\n ]\n}\n' : '{}\n';
}

async function* written(sections: readonly Section[]): AsyncGenerator<string> {
  const slices = new Slices();
  let before = '{\n "configs": [\n';
  for (const { type, fields, lists } of sections) {
    yield `${before}  {\n   "@type": ${JSON.stringify(type)}`;
    for (const [name, value] of Object.entries(fields)) {
      yield `,\n   ${JSON.stringify(name)}:\n`;
      yield* writeJson(value, 4, slices);
    }
    for (const [name, make] of lists) {
      let separator = `,\n   ${JSON.stringify(name)}: [\n`;
      let any = false;
      for (const element of make()) {
        yield separator;
        yield* writeJson(element, 4, slices);
        separator = ',\n';
        any = true;
      }
      if (any) yield '\n   ]';
    }
    yield '\n  }';
    before = ',\n';
  }
  yield '\n ]\n}\n';
}

/** For masks, which look into what is packed: decoded, and without secrets before anything is taken out of its place. */
function unpacked(element: Json): Json {
  return Object.fromEntries(
    Object.entries(element).map(([key, value]) => [
      key,
      value instanceof PackedAny
        ? value.toJSON()
        : value !== null && typeof value === 'object' && !Array.isArray(value)
          ? unpacked(value as Json)
          : redactJson(value),
    ]),
  );
}

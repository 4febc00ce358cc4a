/** Aggregate clusters that contain each other in a circle: nobody could say which member comes first. */
import type { Json } from '../resources.ts';

const AGGREGATE = 'type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig';

/** Names of the members of an aggregate cluster; undefined: it is none. Its fields are checked elsewhere. */
export function membersOf({ cluster_type: custom }: Json): readonly string[] | undefined {
  const config = (custom as Json | undefined)?.['typed_config'] as Json | undefined;
  if (config === undefined) return undefined;
  const isStruct = config['type_url'] === AGGREGATE;
  if (config['@type'] !== AGGREGATE && !isStruct) return undefined;
  const members = ((isStruct ? config['value'] : config) as Json | undefined)?.['clusters'];
  return Array.isArray(members) ? members.map(String) : undefined;
}

/** @returns the names on the way from `name` back to itself, `name` last; undefined: there is no such way. */
export function circleOf(name: string, graph: ReadonlyMap<string, readonly string[]>): readonly string[] | undefined {
  const seen = new Set<string>();
  const open: (readonly string[])[] = (graph.get(name) ?? []).map((member) => [member]);
  for (let way = open.pop(); way !== undefined; way = open.pop()) {
    const last = way.at(-1) as string;
    if (last === name) return way;
    if (seen.has(last)) continue;
    seen.add(last);
    for (const member of graph.get(last) ?? []) open.push([...way, member]);
  }
  return undefined;
}

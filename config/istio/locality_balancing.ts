/**
 * Which endpoints come first for a client where it stands: priorities and weights of localities, as istiod gives them
 * (istio/istio: pilot/pkg/networking/core/loadbalancer).
 *
 *   distribute         weights by locality; localities that no `to` names get nothing
 *   failover           0 same sub-zone, 1 same zone, 2 same region, 3 elsewhere (4 where `failover` names another region)
 *   failoverPriority   by how many labels, from the first on, are the client's
 */
import type { Endpoint, Locality, MeshService } from './model.ts';
import type { LocalitySetting } from './locality_setting.ts';

const REGION = 'topology.kubernetes.io/region';
const ZONE = 'topology.kubernetes.io/zone';
const SUB_ZONE = 'topology.istio.io/subzone';
const NETWORK = 'topology.istio.io/network';
const HOSTNAME = 'kubernetes.io/hostname';

/** What a service's `trafficDistribution` stands for. */
const DISTRIBUTIONS: Readonly<Record<MeshService['trafficDistribution'] & string, readonly string[]>> = {
  PreferClose: [NETWORK, REGION, ZONE, SUB_ZONE],
  PreferSameZone: [NETWORK, REGION, ZONE, SUB_ZONE],
  PreferSameNode: [NETWORK, REGION, ZONE, SUB_ZONE, HOSTNAME],
};

export interface LocalityPlan {
  readonly setting: LocalitySetting;
  /** Without outlier detection nobody ever fails over, so nothing is preferred. */
  readonly failsOver: boolean;
  readonly client: { readonly locality: Locality; readonly labels: Readonly<Record<string, string>> };
}

/** Endpoints of one locality and priority. */
export interface LocalityGroup {
  readonly locality: Locality;
  readonly items: readonly Endpoint[];
  priority: number;
  /** Of the group among its likes. */
  weight: number;
}

/** undefined: where endpoints are changes nothing. The rule's setting, else the service's wish, else the mesh's. */
export function localityPlan(
  rule: LocalitySetting | undefined,
  service: Pick<MeshService, 'trafficDistribution'>,
  mesh: LocalitySetting | undefined,
  hasOutlierDetection: boolean,
  client: LocalityPlan['client'],
): LocalityPlan | undefined {
  if (rule !== undefined) {
    return rule.enabled === false ? undefined : { setting: rule, failsOver: hasOutlierDetection, client };
  }
  const { trafficDistribution } = service;
  if (trafficDistribution !== undefined) {
    return { setting: { failoverPriority: DISTRIBUTIONS[trafficDistribution] }, failsOver: true, client };
  }
  return mesh?.enabled === false ? undefined : { setting: mesh ?? {}, failsOver: hasOutlierDetection, client };
}

/** Groups in which nothing is left are gone. */
export function balanced(groups: readonly LocalityGroup[], plan: LocalityPlan | undefined): readonly LocalityGroup[] {
  if (plan === undefined) return groups;
  const { setting, client } = plan;
  if (setting.distribute !== undefined && setting.distribute.length > 0) return distributed(groups, plan);
  if (!plan.failsOver) return groups;
  const { failoverPriority = [], failover = [] } = setting;
  const split = failoverPriority.length > 0 ? byLabels(groups, failoverPriority, plan) : [...groups];
  if (failoverPriority.length === 0 || failover.length > 0) {
    // What labels have told apart stays apart: five steps fit between two of them.
    for (const group of split)
      group.priority = group.priority * 5 + distance(client.locality, group.locality, failover);
  }
  return renumbered(split);
}

function distributed(groups: readonly LocalityGroup[], { setting, client }: LocalityPlan): readonly LocalityGroup[] {
  const rule = setting.distribute?.find(({ from }) => matches(client.locality, from ?? ''));
  if (rule === undefined) return groups;
  const left = new Set(groups);
  const out: LocalityGroup[] = [];
  for (const [to, share] of rule.to ?? []) {
    const found = [...left].filter(({ locality }) => matches(locality, to));
    const total = found.reduce((sum, { weight }) => sum + weight, 0);
    for (const group of found) {
      left.delete(group);
      const weight = Math.ceil((group.weight * share) / total);
      out.push({ ...group, weight: weight > 0 ? weight : group.weight });
    }
  }
  return out;
}

/** `region/zone/subzone`, each of which may be `*` or, from the right, missing. */
function matches({ region, zone, subZone }: Locality, pattern: string): boolean {
  const [wantedRegion = '', wantedZone = '', wantedSubZone = ''] = pattern.split('/');
  const fits = (wanted: string, found: string): boolean => wanted === '*' || wanted === '' || wanted === found;
  return (wantedRegion === '*' || wantedRegion === region) && fits(wantedZone, zone) && fits(wantedSubZone, subZone);
}

function distance(
  client: Locality,
  { region, zone, subZone }: Locality,
  failover: NonNullable<LocalitySetting['failover']>,
): number {
  if (region === client.region) {
    if (zone !== client.zone) return 2;
    return subZone === client.subZone ? 0 : 1;
  }
  const wanted = failover.find(({ from }) => from === client.region);
  return wanted === undefined || wanted.to === region ? 3 : 4;
}

/** `key`: the client's own value is wanted; `key=value`: that one. */
function byLabels(
  groups: readonly LocalityGroup[],
  priorities: readonly string[],
  { client }: LocalityPlan,
): LocalityGroup[] {
  const own = withTopology(client.labels, client.locality);
  const wanted = priorities.map((text): readonly [name: string, value: string | undefined] => {
    const equals = text.indexOf('=');
    const name = equals < 0 ? text : text.slice(0, equals);
    return [name, equals < 0 ? own[name] : text.slice(equals + 1)];
  });
  return groups.flatMap(({ locality, items }) => {
    const byPriority = new Map<number, Endpoint[]>();
    for (const item of items) {
      const { labels } = item.instance.workload;
      const found = withTopology(labels, locality);
      const agreed = wanted.findIndex(([name, value]) => found[name] !== value);
      const priority = agreed < 0 ? 0 : wanted.length - agreed;
      const list = byPriority.get(priority);
      if (list === undefined) byPriority.set(priority, [item]);
      else list.push(item);
    }
    return [...byPriority].map(([priority, list]) => ({ locality, items: list, priority, weight: weightOf(list) }));
  });
}

function withTopology(
  labels: Readonly<Record<string, string>>,
  { region, zone, subZone }: Locality,
): Readonly<Record<string, string>> {
  return {
    ...labels,
    ...(region !== '' && { [REGION]: region }),
    ...(zone !== '' && { [ZONE]: zone }),
    ...(subZone !== '' && { [SUB_ZONE]: subZone }),
  };
}

/** From 0 on without a gap. */
function renumbered(groups: readonly LocalityGroup[]): readonly LocalityGroup[] {
  const order = [...new Set(groups.map(({ priority }) => priority))].sort((a, b) => a - b);
  for (const group of groups) group.priority = order.indexOf(group.priority);
  return groups;
}

/** 1 where none is given. */
export function weightOf(endpoints: readonly Endpoint[]): number {
  return endpoints.reduce((sum, { instance }) => sum + Math.max(1, instance.weight), 0);
}

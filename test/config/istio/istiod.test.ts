/** Our compiler against istiod: the same YAML for the same sidecars must give the same clusters, endpoints, routes and outbound listeners. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { parse } from 'yaml';
import { compile } from '../../../config/istio/compile.ts';
import { kubeObjects } from '../../support/kube_objects.ts';
import { type Difference, differences, fits, normalise } from './comparison.ts';
import { KNOWN_DIFFERENCES } from './differences.ts';

const DATA = join(import.meta.dirname, '../../../../shared/data/istiod-xds');

interface Sidecar {
  readonly Name: string;
  readonly Namespace: string;
  readonly IP: string;
  readonly ServiceAccount: string;
  readonly Labels: Readonly<Record<string, string>>;
}

interface Dump {
  readonly clusters: readonly { readonly name: string }[];
  readonly endpoints: readonly { readonly cluster_name: string }[];
  readonly routes: readonly { readonly name: string }[];
  readonly listeners: readonly { readonly name: string }[];
}

/** Resources as `TYPE NAME`. */
type Resources = ReadonlyMap<string, unknown>;

function istiods(file: string): Resources {
  const dump = JSON.parse(readFileSync(file, 'utf8')) as Dump;
  return new Map<string, unknown>([
    ...dump.clusters.map((item) => [`cluster ${item.name}`, item] as const),
    ...dump.endpoints.map((item) => [`endpoint ${item.cluster_name}`, item] as const),
    ...dump.routes.map((item) => [`route ${item.name}`, item] as const),
    ...dump.listeners.map((item) => [`listener ${item.name}`, item] as const),
  ]);
}

function ours(folder: string, sidecar: Sidecar): Resources {
  const meshFile = join(folder, 'mesh.yaml');
  const { resources } = compile({
    objects: kubeObjects(readFileSync(join(folder, 'input.yaml'), 'utf8'), 'input.yaml'),
    // The istiod that made the dumps had no provider of metrics, unlike a mesh's default.
    mesh: {
      defaultProviders: { metrics: [] },
      ...(existsSync(meshFile) ? (parse(readFileSync(meshFile, 'utf8')) as Record<string, unknown>) : {}),
    },
    proxy: {
      name: sidecar.Name,
      namespace: sidecar.Namespace,
      labels: sidecar.Labels,
      serviceAccount: sidecar.ServiceAccount,
      ips: [sidecar.IP],
    },
    domain: 'cluster.local',
    mode: { kind: 'sidecar' },
  });
  return new Map(resources.map((item) => [`${item.type} ${item.name}`, item.json]));
}

function compare(expected: Resources, actual: Resources): (Difference & { readonly resource: string })[] {
  const names = [...new Set([...expected.keys(), ...actual.keys()])].sort();
  return names.flatMap((resource) => {
    const theirs = expected.get(resource);
    const own = actual.get(resource);
    const found =
      theirs === undefined || own === undefined
        ? [
            {
              path: '',
              expected: theirs === undefined ? 'none' : 'there',
              actual: own === undefined ? 'none' : 'there',
            },
          ]
        : differences(normalise(theirs), normalise(own));
    return found.map((difference) => ({ resource, ...difference }));
  });
}

describe('compile', { skip: existsSync(DATA) ? false : `no data at ${DATA}` }, () => {
  const used = new Set<unknown>();
  for (const name of existsSync(DATA) ? readdirSync(DATA).sort() : []) {
    const folder = join(DATA, name);
    const sidecars = JSON.parse(readFileSync(join(folder, 'proxies.json'), 'utf8')) as Sidecar[];
    for (const sidecar of sidecars) {
      const proxy = `${name}/${sidecar.Name}`;
      it(`compile gives istiod's resources when the sidecar is ${proxy}`, () => {
        const found = compare(istiods(join(folder, `${sidecar.Name}.xds.json`)), ours(folder, sidecar));
        const unknown = found.filter((difference) => {
          const known = KNOWN_DIFFERENCES.filter(
            (entry) =>
              fits(entry.proxy, proxy) &&
              fits(entry.resource, difference.resource) &&
              fits(entry.path, difference.path),
          );
          for (const entry of known) used.add(entry);
          return known.length === 0;
        });
        assert.deepEqual(unknown, []);
      });
    }
  }

  it('the table of differences names nothing that is equal by now', () => {
    assert.deepEqual(
      KNOWN_DIFFERENCES.filter((entry) => !used.has(entry)),
      [],
    );
  });
});

/** The names and labels that we make of Envoy's statistics, against those that Envoy itself makes of them. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { DEFAULT_TAGS, StatTags } from '../../proxy/telemetry/stat_tags.ts';
import { ask } from '../support/admin_client.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { fileScope } from '../support/scope.ts';
import { prometheusText } from '../../proxy/telemetry/prometheus_text.ts';

const skip = withoutEnvoy();
const scope = fileScope();
let names: string[];
let histograms: Set<string>;
let scrape: string;

before(async () => {
  if (skip !== false) return;
  const upstream = await RawUpstream.start(scope, answering());
  const routes = routeConfig([{ match: { prefix: '/' }, route: { cluster: 'outbound|80||web.default.svc' } }]);
  const envoy = await startEnvoy(scope, [
    httpListener({ routes }),
    staticCluster('outbound|80||web.default.svc', [upstream.port]),
    staticCluster('plain', [upstream.port]),
  ]);
  await (await fetch(`http://127.0.0.1:${envoy.port('test')}/`)).text();
  const lines = (await ask(envoy.adminPort, '/stats')).body.split('\n').filter(Boolean);
  names = lines.map((line) => line.slice(0, line.lastIndexOf(': ')));
  histograms = new Set(
    lines.flatMap((line) => (/: (?:P0\(|No recorded)/.test(line) ? [line.slice(0, line.lastIndexOf(': '))] : [])),
  );
  for (const name of histograms) if (!names.includes(name)) names.push(name);
  names = names.map((name) => name.replace(/: P0\(.*$/, ''));
  scrape = (await ask(envoy.adminPort, '/stats/prometheus')).body;
});

/** Name and sorted labels of each sample but buckets, sums and counts. */
function series(text: string): string[] {
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#') && !/_(?:bucket|sum|count)\{/.test(line))
    .map((line) => {
      const [, name, labels = ''] = /^([^{]+)\{(.*)\} \S+$/.exec(line) ?? [];
      return `${name}{${labels
        .split(/,(?=\w+=")/)
        .sort()
        .join()}}`;
    })
    .sort();
}

test("Envoy's statistics get from our tags the Prometheus names and labels that Envoy gives them", {
  skip,
}, async () => {
  const values = names
    .filter((name) => !histograms.has(name))
    .map((name) => ({
      type: 'counter' as const,
      name,
      labels: undefined,
      notes: {},
      labelNotes: undefined,
      read: () => ({ value: 0, histogram: undefined }),
    }));
  let ours = '';
  for await (const piece of prometheusText(values, new StatTags(DEFAULT_TAGS))) ours += piece;
  const theirs = series(scrape);
  assert.ok(theirs.length > 300, `Envoy has ${theirs.length} series`);
  const known = new Set(theirs);
  const found = new Set(series(ours));
  // The admin connection's own statistics come and go between the two questions.
  const stray = (name: string): boolean => /admin/.test(name);
  assert.deepEqual(
    [...found].filter((name) => !known.has(name) && !stray(name)),
    [],
  );
  assert.deepEqual(
    theirs.filter((name) => !found.has(name) && !stray(name)),
    [],
  );
});

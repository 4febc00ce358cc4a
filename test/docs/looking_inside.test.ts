/**
 * proxy/admin/README.md against the code: paths, response flags, commands, statistics.
 * After a change that is meant: PILLION_UPDATE_DOCS=1 npm test docs/looking_inside, then biome format --write.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { ENDPOINTS } from '../../proxy/admin/endpoints.ts';
import { UNANSWERED } from '../../proxy/http/format_commands.ts';
import { LONG_FLAGS } from '../../proxy/response_flags.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { statisticNames } from '../support/statistic_names.ts';

const file = new URL('../../proxy/admin/README.md', import.meta.url);
const update = process.env['PILLION_UPDATE_DOCS'] === '1';

function section(title: string): string {
  const text = readFileSync(file, 'utf8');
  const start = text.indexOf(`## ${title}\n`);
  assert.ok(start >= 0, `there is no section "${title}"`);
  const end = text.indexOf('\n## ', start + 1);
  return text.slice(start, end < 0 ? undefined : end);
}

function replace(before: string, after: string): void {
  writeFileSync(
    file,
    readFileSync(file, 'utf8').replace(before, () => after),
  );
}

test('every admin path stands in the table, with its method and what it does', () => {
  const rows = ENDPOINTS.map(({ path, help, mutates }) => `| \`${path}\` | ${mutates ? 'POST' : 'GET'} | ${help} |`);
  const found = section('Paths')
    .split('\n')
    .filter((line) => /^\| `\/[a-z]/.test(line) && !line.startsWith('| `/help`'));
  if (update) {
    replace(found.join('\n') || 'PATHS', rows.join('\n'));
    return;
  }
  assert.deepEqual(found.map(cells), rows.map(cells));
});

/** Of a row of a table, however it is aligned. */
function cells(row: string): string[] {
  return row.split('|').map((cell) => cell.trim());
}

test('every response flag stands in the table, with its long name', () => {
  const found = [...section('Response flags').matchAll(/^\| `(\w+)` +\| `(\w+)` +\| (.+?) +\|$/gm)];
  const flags = Object.entries(LONG_FLAGS).filter(([flag]) => flag !== '');
  assert.deepEqual(Object.fromEntries(found.map(([, short, long]) => [short, long])), Object.fromEntries(flags));
  for (const [, flag, , says] of found) assert.ok(says !== undefined && says.trim() !== '', `${flag} is explained`);
});

test('commands that print as absent are named', () => {
  const text = section('Access logs');
  const wanted = [...UNANSWERED].sort().map((name) => `\`${name}\``);
  const line = /print as absent[^:]*:\s+([^.]*)\./.exec(text)?.[1] ?? '';
  if (update) {
    replace(line, wrapped(wanted.join(', ')));
    return;
  }
  assert.deepEqual(line.split(/,\s+/), wanted);
});

/** Groups by what stands before the last dot. */
function statisticLists(names: readonly string[]): string {
  const groups = new Map<string, string[]>();
  for (const name of names) {
    const place = /^(cluster\.<name>|http\.<prefix>|listener\.<address>|[a-z_0-9]+)(?:\.|$)/.exec(name)?.[1] ?? '';
    const group = place === name ? 'own names' : place;
    const list = groups.get(group) ?? [];
    list.push(group === 'own names' ? name : name.slice(group.length + 1));
    groups.set(group, list);
  }
  return [...groups]
    .map(([group, list]) => wrapped(`**${group}**: ${list.map((name) => `\`${name}\``).join(', ')}`))
    .join('\n\n');
}

/** The names that the lists say, whole. */
function listedNames(text: string): string[] {
  return text
    .split(/\n(?=\*\*)/)
    .slice(1)
    .flatMap((paragraph) => {
      const group = /^\*\*(.+?)\*\*/.exec(paragraph.replaceAll('\\', ''))?.[1] ?? '';
      return [...paragraph.matchAll(/`([^`]+)`/g)].map(([, name]) =>
        group === 'own names' ? `${name}` : `${group}.${name}`,
      );
    })
    .sort();
}

function wrapped(text: string): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line.length + word.length + 1 > 125) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line].join('\n');
}

test('every statistic of a running proxy is listed, and nothing that it does not have', async (t) => {
  const upstream = await RawUpstream.start(t, answering());
  const stats = { name: 'istio.stats', typed_config: { '@type': 'type.googleapis.com/stats.PluginConfig' } };
  const proxy = await startTestProxy(t, [
    httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'web' } }]), filters: [stats] }),
    staticCluster('web', [upstream.port]),
  ]);
  await (await fetch(`http://127.0.0.1:${proxy.port()}/`)).text();
  await (await fetch(`http://127.0.0.1:${proxy.port('admin')}/stats`)).text();
  await eventually('the control thread has read the breakers', () =>
    proxy.running.statistics.has('cluster.web.circuit_breakers.high.rq_open'),
  );
  const text = section('Statistics');
  const listed = text.slice(text.indexOf('\n**') < 0 ? text.indexOf('STATS') : text.indexOf('\n**') + 1).trimEnd();
  const wanted = statisticLists(statisticNames(proxy.running));
  if (update) {
    replace(listed, wanted);
    return;
  }
  assert.deepEqual(
    listedNames(text),
    statisticNames(proxy.running),
    'PILLION_UPDATE_DOCS=1 npm test docs/looking_inside',
  );
});

/** The first minute: `dev` with mocks, the lines that it prints, and an edit. */
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { PillionProcess, root } from '../support/pillion_process.ts';

const FREE = [
  '--outbound',
  '127.0.0.1:0',
  '--admin',
  '127.0.0.1:0',
  '--status',
  '127.0.0.1:0',
  '--metrics',
  '127.0.0.1:0',
];
const skip = spawnSync('curl', ['--version']).status === 0 ? false : 'curl is not installed: apt-get install curl';

test('dev prints what it found, curl lines that work as printed, the access log, and what an edit changes', {
  skip,
}, async (t) => {
  const shop = mkdtempSync(join(tmpdir(), 'pillion-shop-'));
  t.after(() => rmSync(shop, { recursive: true, force: true }));
  cpSync(join(root, 'examples/shop'), shop, { recursive: true });
  const dev = new PillionProcess(t, ['dev', shop, '--mock', ...FREE]);
  await dev.until(/curl 'http:\/\/127\.0\.0\.1:\d+\/stats\?usedonly'\n/);
  assert.match(
    dev.stdout,
    /Found\n.*cart\.yaml: Service cart, Deployment cart, DestinationRule cart, VirtualService cart\n/,
  );
  assert.match(
    dev.stdout,
    / {2}reviews {2}9080 http {2}mocks of reviews-v1, reviews-v2, reviews-v3 {2}\(VirtualService\/reviews, DestinationRule\/reviews\)\n/,
  );
  const lines = dev.stdout.split('\n').filter((line) => /^ {2}(?:curl|http_proxy=)/.test(line));
  assert.equal(lines.length, 6);
  for (const line of lines) {
    const { stdout } = await promisify(execFile)('sh', ['-c', line.replace('curl', 'curl -sS')]);
    if (line.includes('stats')) assert.match(stdout, /^[\w.|;:-]+: \d+$/m);
    else assert.match(stdout, /^\{"workload":"/);
  }
  await dev.until(/^\[\S+Z\] "GET \/ HTTP\/1\.1" 200 - via_upstream .* canary$/m);

  const file = join(shop, 'reviews.yaml');
  const text = readFileSync(file, 'utf8');
  writeFileSync(file, text.replace('weight: 90', 'weight: 0').replace('weight: 10', 'weight: 100'));
  await dev.until(/config: \d routes? changed\n/);
  const ask = lines.find((line) => line.includes('reviews:9080')) as string;
  const { stdout } = await promisify(execFile)('sh', ['-c', ask.replace('curl', 'curl -sS')]);
  assert.match(stdout, /"workload":"reviews-v2"/);

  writeFileSync(file, text.replace('hosts:', 'hosts: ['));
  await dev.until(/pillion: .*reviews\.yaml:\d+:\d+: .*what was served before goes on\n/);
  const again = await promisify(execFile)('sh', ['-c', ask.replace('curl', 'curl -sS')]);
  assert.match(again.stdout, /"workload":"reviews-v2"/);

  dev.signal('SIGINT');
  assert.equal((await dev.ended).code, 0);
});

test('the commands of package.json are those that the README names', () => {
  const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  assert.equal(scripts['start'], 'sh bin/pillion dev examples/shop --mock');
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  for (const command of ['npm ci && npm start', 'npm ci && npm test']) assert.ok(readme.includes(command), command);
});

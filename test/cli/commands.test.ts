/** Commands, exit codes and messages, as a shell sees them. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { pillion, PillionProcess, root, runPillion } from '../support/pillion_process.ts';
import type { Scope } from '../support/scope.ts';
import { eventually } from '../support/eventually.ts';

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

function folder(scope: Scope): string {
  const path = mkdtempSync(join(tmpdir(), 'pillion-cli-'));
  scope.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

const usage: readonly (readonly [parameters: string[], stderr: RegExp])[] = [
  [['--no-such-flag'], /unknown option '--no-such-flag'/],
  [['run', '--concurrancy', '2'], /Did you mean --concurrency\?/],
  [[], /No configuration was given: name a file or folder with -c PATH/],
  [['-c', 'examples/shop', '--concurrency', 'many'], /--concurrency wants a whole number from 1 to 256, got "many"/],
  [
    ['-c', 'examples/shop', '--outbound', 'nowhere'],
    /--outbound wants ADDRESS:PORT such as 127\.0\.0\.1:15001, got "nowhere"/,
  ],
  [['-c', 'examples/shop', '--outbound', '127.0.0.1:99999'], /--outbound wants ADDRESS:PORT/],
  [['-c', 'examples/shop', '--inbound', '127.0.0.1:1'], /--inbound wants ADDRESS:PORT=WORKLOADPORT/],
  [['-c', 'examples/shop', '--labels', 'x'], /--labels wants KEY=VALUE/],
  [['-c', 'examples/shop', '-l', 'loud'], /--log-level wants trace, debug/],
  [['-c', 'examples/shop', '--component-log-level', 'x'], /--component-log-level wants COMPONENT:LEVEL/],
  [['-c', 'examples/shop', '--access-log', 'xml'], /--access-log wants text, json or off, got "xml"/],
  [['-c', 'examples/shop', '--mode', 'dance'], /--mode wants serve or validate, got "dance"/],
  [['healthcheck', '--url', 'ftp://x'], /--url wants an http:\/\/ URL/],
  [['wait', '--timeout', 'soon'], /--timeout wants a duration such as 60s, got "soon"/],
  [['version', '-o', 'xml'], /-o wants text or json, got "xml"/],
  [['echo', '--listen', 'x'], /--listen wants ADDRESS:PORT/],
];

for (const [parameters, complaint] of usage) {
  test(`pillion ${parameters.join(' ')} exits 2 and says what is wanted`, async (t) => {
    const { code, stdout, stderr } = await runPillion(t, parameters);
    assert.equal(code, 2);
    assert.match(stderr, complaint);
    assert.doesNotMatch(stderr, /\n\s+at /);
    assert.equal(stdout, '');
  });
}

const invalid: readonly (readonly [says: string, yaml: string, stderr: RegExp])[] = [
  ['YAML that does not parse', 'a: [1', /mesh\.yaml:1:\d+/],
  ['a kind that is no object', 'a: 1', /mesh\.yaml:1:1: neither a Kubernetes or Istio object/],
  [
    'an unknown field',
    'apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: { name: a }\nspec:\n  hosts: [a]\n  htpp: []\n',
    /mesh\.yaml:6:3: .*htpp.*http/s,
  ],
  [
    'a bootstrap with an unknown field',
    'static_resources:\n  listners: []\n',
    /mesh\.yaml:2:3: .*listners.*listeners/s,
  ],
  ['a key that objects have by nature', '__proto__: { polluted: 1 }\n', /mesh\.yaml:1:1/],
];

for (const [says, yaml, complaint] of invalid) {
  test(`pillion exits 3 with the place of ${says}`, async (t) => {
    const path = join(folder(t), 'mesh.yaml');
    writeFileSync(path, yaml);
    for (const command of [
      ['validate', '-c', path],
      ['run', '-c', path, ...FREE],
    ]) {
      const { code, stderr } = await runPillion(t, command);
      assert.equal(code, 3, stderr);
      assert.match(stderr, complaint);
      assert.doesNotMatch(stderr, /\n\s+at /);
    }
  });
}

test('pillion exits 3 when a file is missing', async (t) => {
  const { code, stderr } = await runPillion(t, ['validate', '-c', '/no/such/file.yaml']);
  assert.equal(code, 3);
  assert.match(stderr, /Cannot read \/no\/such\/file\.yaml: there is no such file or folder/);
});

test('pillion exits 4 and names port and flag when a port is taken', async (t) => {
  const taken = createServer().listen(0, '127.0.0.1');
  await once(taken, 'listening');
  t.after(() => taken.close());
  const { port } = taken.address() as { port: number };
  for (const flag of ['--outbound', '--admin', '--status', '--metrics']) {
    const { code, stderr } = await runPillion(t, ['run', '-c', 'examples/shop', ...FREE, flag, `127.0.0.1:${port}`]);
    assert.equal(code, 4);
    assert.match(
      stderr,
      new RegExp(
        `Cannot listen on 127\\.0\\.0\\.1:${port}: another process listens there; choose another with ${flag}, port 0 for any`,
      ),
    );
  }
  const echo = await runPillion(t, ['echo', '--listen', `127.0.0.1:${port}`]);
  assert.equal(echo.code, 4);
});

test('pillion validate opens no port, reads stdin for -, and exits 0', async (t) => {
  const yaml = 'apiVersion: v1\nkind: Service\nmetadata: { name: a }\nspec: { ports: [{ port: 80 }] }\n';
  const { code, stdout, stderr } = await runPillion(
    t,
    ['validate', '-c', '-', '--admin', '256.0.0.1:1'.replace('256', '127')],
    { input: yaml },
  );
  assert.equal(stderr, '');
  assert.equal(code, 0);
  assert.match(stdout, /^OK: /);
});

test('pillion validate warns of a host that another namespace claims, with the place', async (t) => {
  const path = join(folder(t), 'mesh.yaml');
  writeFileSync(
    path,
    `apiVersion: v1
kind: Service
metadata: { name: pay, namespace: team-a }
spec: { ports: [{ name: http, port: 80 }] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: steal, namespace: team-b }
spec:
  hosts:
    - pay.team-a.svc.cluster.local
  http: [{ directResponse: { status: 299 } }]
`,
  );
  const { code, stderr } = await runPillion(t, ['validate', '-c', path]);
  assert.equal(code, 0);
  assert.match(stderr, /warning: \S*mesh\.yaml:11:7: VirtualService "steal" of namespace "team-b" routes pay\.team-a/);
});

test('flags come before environment, and environment before files', async (t) => {
  const bootstrap = (port: number) =>
    `admin: { address: { socket_address: { address: 127.0.0.1, port_value: ${port} } } }\nstatic_resources: {}\n`;
  const path = join(folder(t), 'envoy.yaml');
  writeFileSync(path, bootstrap(0));
  const admin = async (parameters: string[], env: Record<string, string>): Promise<string> => {
    const process_ = new PillionProcess(t, ['-c', path, ...parameters], { env });
    const [, address = ''] = await process_.until(/admin listens on (\S+?)"/);
    process_.signal('SIGTERM');
    await process_.ended;
    return address;
  };
  assert.match(await admin([], {}), /^127\.0\.0\.1:/);
  assert.match(await admin([], { PILLION_ADMIN: '127.0.0.2:0' }), /^127\.0\.0\.2:/);
  assert.match(await admin(['--admin', '127.0.0.3:0'], { PILLION_ADMIN: '127.0.0.2:0' }), /^127\.0\.0\.3:/);
});

test('SIGTERM drains and exits 0; healthcheck and wait say whether it is ready', async (t) => {
  const running = new PillionProcess(t, ['run', '-c', 'examples/shop', ...FREE]);
  const [, status = ''] = await running.until(/status listens on (\S+?)"/);
  const url = `http://${status}/healthz/ready`;
  assert.equal((await runPillion(t, ['wait', '--url', url, '--timeout', '5s'])).code, 0);
  assert.equal((await runPillion(t, ['healthcheck', '--url', url])).code, 0);
  running.signal('SIGTERM');
  assert.equal((await running.ended).code, 0);
  const gone = await runPillion(t, ['healthcheck', '--url', url]);
  assert.equal(gone.code, 1);
  assert.match(gone.stderr, /nobody listens there/);
  assert.equal((await runPillion(t, ['wait', '--url', url, '--timeout', '200ms'])).code, 1);
});

test('a second SIGINT ends at once with 130, and a drain that takes too long exits 6', async (t) => {
  for (const [signals, drain, code] of [
    [2, '30', 130],
    [1, '1', 6],
  ] as const) {
    const echo = new PillionProcess(t, ['echo', '--listen', '127.0.0.1:0']);
    const [, backend = ''] = await echo.until(/listens on http:\/\/(\S+)/);
    const running = new PillionProcess(t, ['run', '-c', 'examples/shop', ...FREE, '--drain-time-s', drain]);
    const [, outbound = ''] = await running.until(/outbound listens on (\S+?)"/);
    // The request must be under way: it goes through the forward proxy to the echo.
    const slow = new PillionProcess(t, ['-s', '-x', `http://${outbound}`, `http://${backend}/delay/20000`], {
      program: 'curl',
    });
    const [, admin = ''] = await running.until(/admin listens on (\S+?)"/);
    for (let attempt = 0; attempt < 1500; attempt++) {
      const stats = await (await fetch(`http://${admin}/stats?filter=downstream_rq_active`)).text();
      if (/rq_active: [1-9]/.test(stats)) break;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    for (let i = 0; i < signals; i++) {
      running.signal('SIGINT');
      if (i === 0) await new Promise((resolve) => setTimeout(resolve, 200));
    }
    const ended = await running.ended;
    assert.equal(ended.code, code);
    if (code === 6) assert.match(ended.stderr, /drain time of 1 s has passed: cut 1 open: GET \/delay\/20000 from /);
    slow.signal('SIGKILL');
  }
});

test('SIGHUP reads the files again; SIGUSR2 opens the log file again', async (t) => {
  const base = folder(t);
  const log = join(base, 'own.log');
  const running = new PillionProcess(t, [
    'run',
    '-c',
    'examples/shop',
    ...FREE,
    '--log-path',
    log,
    '--admin-address-path',
    join(base, 'admin'),
  ]);
  const { existsSync, readFileSync, renameSync } = await import('node:fs');
  await eventually('it is up', () => existsSync(log) && readFileSync(log, 'utf8').includes('outbound listens'));
  assert.match(readFileSync(join(base, 'admin'), 'utf8'), /^127\.0\.0\.1:\d+$/);
  renameSync(log, `${log}.1`);
  running.signal('SIGUSR2');
  await eventually('the log is opened again', () => existsSync(log));
  running.signal('SIGHUP');
  running.signal('SIGTERM');
  assert.equal((await running.ended).code, 0);
});

test('version says what runs, also as JSON', async (t) => {
  assert.match((await runPillion(t, ['--version'])).stdout, /^pillion \d+\.\d+\.\d+ \(Node \d+\.\d+\.\d+\)\n$/);
  const json = JSON.parse((await runPillion(t, ['version', '-o', 'json'])).stdout) as Record<string, unknown>;
  assert.deepEqual(Object.keys(json), ['version', 'node', 'openssl', 'istio']);
});

test('help shows examples first and fits 80 columns of its own text', async (t) => {
  const { code, stdout } = await runPillion(t, ['--help']);
  assert.equal(code, 0);
  assert.match(stdout, /^\nExamples:\n/);
  assert.match(stdout, /Exit codes: 0 fine/);
});

test('bin/pillion works through a symlink and from any folder', async (t) => {
  const link = join(folder(t), 'pillion');
  symlinkSync(pillion, link);
  const { code, stdout } = await runPillion(t, ['validate', '-c', `${root}examples/shop`], { program: link, cwd: '/' });
  assert.equal(code, 0);
  assert.match(stdout, /^OK: /);
});

test('echo answers what it was asked, and refuses what it cannot do', async (t) => {
  const echo = new PillionProcess(t, [
    'echo',
    '--listen',
    '127.0.0.1:0',
    '--workload',
    'w',
    '--workload-version',
    'v9',
  ]);
  const [, base = ''] = await echo.until(/listens on (http:\/\/\S+)/);
  const get = async (path: string, init?: RequestInit): Promise<string> => {
    const response = await fetch(`${base}${path}`, init);
    return `${response.status} ${await response.text()}`;
  };
  const described = JSON.parse((await get('/a?b', { method: 'POST', body: 'xyz' })).slice(4)) as Record<
    string,
    unknown
  >;
  assert.equal(described['workload'], 'w');
  assert.equal(described['version'], 'v9');
  assert.equal(described['method'], 'POST');
  assert.equal(described['path'], '/a?b');
  assert.equal(described['bodyBytes'], 3);
  assert.equal((await get('/status/418')).slice(0, 3), '418');
  assert.equal((await get('/bytes/100000')).length, 100_004);
  assert.equal((await get('/stream/3')).split('\n').length, 4);
  assert.equal((await get('/delay/1')).slice(0, 3), '200');
  assert.match(await get('/status/x'), /^400 \/status\/N wants a status from 200 to 599/);
  assert.match(await get('/bytes/99999999999'), /^400 \/bytes\/N wants/);
});

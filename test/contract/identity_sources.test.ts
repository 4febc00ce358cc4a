/** One contract for all that gives a workload its certificate: Istio's CA, SDS, files, the development CA. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { ConfigSource } from '../../config/resources.ts';
import { socketSecrets } from '../../config/xds/socket_secrets.ts';
import { openDevelopmentCa } from '../../proxy/identity/development_ca.ts';
import { FileSecrets, type IdentityFiles } from '../../proxy/identity/file_secrets.ts';
import { requestFromIstioCa } from '../../proxy/identity/istio_ca.ts';
import { DEFAULT_KEY } from '../../proxy/identity/keys.ts';
import { RotatingIdentity } from '../../proxy/identity/rotating_identity.ts';
import { certificatesOf } from '../../proxy/net/tls/certificate.ts';
import { FakeIstioCa } from '../support/fake_istio_ca.ts';
import { FakeSds } from '../support/fake_sds.ts';
import { type KeyPair, MeshCa } from '../support/mesh_ca.ts';
import type { Scope } from '../support/scope.ts';
import { type HeldIdentity, keyFits, SecretSink } from '../support/secret_sink.ts';

const ID = 'spiffe://cluster.local/ns/shop/sa/web';

interface Subject {
  readonly source: ConfigSource;
  /** Makes the next certificate come. */
  rotate(): void | Promise<void>;
}
type Make = (t: Scope, log: (level: string, message: string) => void) => Promise<Subject>;

/** Timers that a test fires. */
class Timers {
  readonly delays: number[] = [];
  #callback: () => void = () => {};
  readonly set = (delayMs: number, callback: () => void): (() => void) => {
    this.delays.push(delayMs);
    this.#callback = callback;
    return () => {};
  };
  fire(): void {
    this.#callback();
  }
}

function temporaryFolder(t: Scope): string {
  const folder = mkdtempSync(join(tmpdir(), 'pillion-identity-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const caOptions = {
  rootPath: undefined,
  serverName: undefined,
  tokenPath: undefined,
  provisioned: undefined,
  clusterId: 'Kubernetes',
  spiffeId: ID,
  lifetimeMs: 3_600_000,
  key: DEFAULT_KEY,
  pkcs8: false,
  certSigner: undefined,
  headers: [],
  outputFolder: undefined,
} satisfies Partial<Parameters<typeof requestFromIstioCa>[0]>;

function writePair(folder: string, { chain, key }: KeyPair, roots: string, names: IdentityFiles): void {
  for (const [name, text] of [
    [names.key, key],
    [names.chain, chain],
    [names.roots, roots],
  ] as const) {
    writeFileSync(join(folder, `${name}.new`), text, { mode: 0o600 });
    renameSync(join(folder, `${name}.new`), join(folder, name));
  }
}

const files =
  (names: IdentityFiles): Make =>
  async (t, log) => {
    const folder = temporaryFolder(t);
    const ca = new MeshCa();
    const at = (name: string): string => join(folder, name);
    const write = (): void => writePair(folder, ca.issue(ID), ca.pem, names);
    write();
    const identity = { chain: at(names.chain), key: at(names.key), roots: at(names.roots) };
    return { source: new FileSecrets({ identity, log, debounceMs: 20 }), rotate: write };
  };

const makers: Readonly<Record<string, Make>> = {
  "Istio's CA": async (t, log) => {
    const fake = await FakeIstioCa.start(t);
    fake.token = '';
    const timers = new Timers();
    const options = { ...caOptions, address: `127.0.0.1:${fake.port}` };
    const issue = (signal: AbortSignal) => requestFromIstioCa(options, signal);
    return {
      source: new RotatingIdentity({ issue, origin: 'istiod', log, setTimer: timers.set }),
      rotate: () => timers.fire(),
    };
  },
  'the development CA': async (t, log) => {
    const ca = await openDevelopmentCa(join(temporaryFolder(t), 'ca'));
    const timers = new Timers();
    const issue = () => ca.issue(ID);
    return {
      source: new RotatingIdentity({ issue, origin: 'development', log, setTimer: timers.set }),
      rotate: () => timers.fire(),
    };
  },
  'SDS on a unix socket': async (t, log) => {
    const socket = join(temporaryFolder(t), 'socket');
    const fake = await FakeSds.start(t, socket);
    const ca = new MeshCa();
    const give = (): void => fake.set(ca.issue(ID), ca.pem);
    give();
    return { source: socketSecrets(socket, { id: 'n', cluster: 'c', metadata: {} }, log), rotate: give };
  },
  'files as Istio mounts them': files({ chain: 'cert-chain.pem', key: 'key.pem', roots: 'root-cert.pem' }),
  'files as a workload gets them on GKE': files({
    chain: 'certificates.pem',
    key: 'private_key.pem',
    roots: 'ca_certificates.pem',
  }),
  'a Kubernetes secret': async (t, log) => {
    const folder = temporaryFolder(t);
    const ca = new MeshCa();
    let generation = 0;
    const names = { chain: 'tls.crt', key: 'tls.key', roots: 'ca.crt' };
    // The kubelet writes a folder and swaps the link ..data to it.
    const write = (): void => {
      const name = `..${++generation}`;
      mkdirSync(join(folder, name));
      writePair(join(folder, name), ca.issue(ID), ca.pem, names);
      symlinkSync(name, join(folder, '..data_tmp'));
      renameSync(join(folder, '..data_tmp'), join(folder, '..data'));
    };
    write();
    for (const name of Object.values(names)) symlinkSync(join('..data', name), join(folder, name));
    const identity = {
      chain: join(folder, names.chain),
      key: join(folder, names.key),
      roots: join(folder, names.roots),
    };
    return { source: new FileSecrets({ identity, log, debounceMs: 20 }), rotate: write };
  },
};

function start(t: Scope, { source }: Subject): SecretSink {
  const sink = new SecretSink();
  t.after(() => source.stop());
  const configSource = {
    api_config_source: {
      api_type: 'GRPC',
      transport_api_version: 'V3',
      grpc_services: [{ envoy_grpc: { cluster_name: 'sds-grpc' } }],
    },
  };
  source.start(sink);
  for (const name of ['default', 'ROOTCA']) {
    assert.equal(source.subscribe?.({ type: 'secret', name, configSource, initialFetchTimeoutMs: 0 }), true);
  }
  return sink;
}

function openssl(t: Scope, { chain, roots }: HeldIdentity): string {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'roots.pem'), roots);
  writeFileSync(join(folder, 'chain.pem'), chain);
  const verified = spawnSync(
    'openssl',
    ['verify', '-x509_strict', '-CAfile', join(folder, 'roots.pem'), join(folder, 'chain.pem')],
    { encoding: 'utf8' },
  );
  assert.equal(verified.status, 0, verified.stderr);
  return spawnSync('openssl', ['x509', '-in', join(folder, 'chain.pem'), '-noout', '-text'], { encoding: 'utf8' })
    .stdout;
}

for (const [name, make] of Object.entries(makers)) {
  describe(name, () => {
    test('gives key, chain and roots that fit and that openssl accepts', async (t) => {
      const lines: string[] = [];
      const subject = await make(t, (_level, message) => lines.push(message));
      const held = await start(t, subject).identity();
      assert.ok(keyFits(held));
      assert.deepEqual(certificatesOf(held.chain)[0]?.uris, [ID]);
      const text = openssl(t, held);
      assert.match(text, /Subject Alternative Name: critical\s+URI:spiffe:\/\/cluster\.local\/ns\/shop\/sa\/web/);
      assert.match(text, /TLS Web Server Authentication, TLS Web Client Authentication/);
      const body = held.key.replace(/-----[^-]+-----|\s/g, '');
      for (const line of lines) assert.ok(!line.includes(body.slice(0, 30)), 'a key in the log');
    });

    test('gives the next one', async (t) => {
      const subject = await make(t, () => {});
      const sink = start(t, subject);
      const first = await sink.identity();
      await subject.rotate();
      const second = await sink.identity(first);
      assert.ok(keyFits(second));
      assert.notEqual(second.key, first.key);
      openssl(t, second);
    });
  });
}

test('a certificate is replaced when half of its life is over, give or take', async (t) => {
  const ca = await openDevelopmentCa(join(temporaryFolder(t), 'ca'));
  const timers = new Timers();
  const source = new RotatingIdentity({
    issue: () => ca.issue(ID),
    origin: 'development',
    log() {},
    setTimer: timers.set,
    random: () => 1,
  });
  const sink = new SecretSink();
  source.start(sink);
  t.after(() => source.stop());
  const { chain } = await sink.identity();
  await sink.until(() => timers.delays[0]);
  const [leaf] = certificatesOf(chain);
  const lifeMs = (leaf?.validToMs ?? 0) - (leaf?.validFromMs ?? 0);
  const expected = (leaf?.validToMs ?? 0) - 0.51 * lifeMs - Date.now();
  assert.ok(Math.abs((timers.delays[0] ?? 0) - expected) < 5000, `${timers.delays[0]} for ${expected}`);
});

test('a CA that fails is asked again, later and later, and the token is read for each call', async (t) => {
  const fake = await FakeIstioCa.start(t);
  const folder = temporaryFolder(t);
  const tokenPath = join(folder, 'token');
  const timers = new Timers();
  const lines: string[] = [];
  let answered = (): void => {};
  const options = { ...caOptions, address: `127.0.0.1:${fake.port}`, tokenPath };
  const source = new RotatingIdentity({
    issue: (signal) => requestFromIstioCa(options, signal),
    origin: 'istiod',
    log: (_level, message) => {
      lines.push(message);
      answered();
    },
    setTimer: timers.set,
    random: () => 1,
  });
  const sink = new SecretSink();
  const next = async (work: () => void): Promise<string> => {
    const said = new Promise<void>((resolve) => {
      answered = resolve;
    });
    work();
    await said;
    return lines.at(-1) ?? '';
  };
  t.after(() => source.stop());
  assert.match(await next(() => source.start(sink)), /the token .* cannot be read \(ENOENT\); trying again in 1\.0 s/);
  writeFileSync(tokenPath, 'token-0\n');
  assert.match(
    await next(() => timers.fire()),
    /UNAUTHENTICATED: request authenticate failure; trying again in 2\.0 s/,
  );
  fake.failures = 1;
  assert.match(await next(() => timers.fire()), /UNAVAILABLE: the CA is away; trying again in 4\.0 s/);
  writeFileSync(tokenPath, 'token-1\n');
  assert.match(await next(() => timers.fire()), /certificate from istiod, good until/);
  assert.ok(keyFits(await sink.identity()));
  assert.deepEqual(
    fake.calls.map(({ token }) => token),
    ['token-0', 'token-0', 'token-1'],
  );
  assert.ok(
    lines.every((line) => !line.includes('token-')),
    'a token in the log',
  );
  const last = fake.calls.at(-1);
  assert.deepEqual(
    { ...last, token: '' },
    {
      token: '',
      clusterId: 'Kubernetes',
      spiffeId: ID,
      subjectLength: 0,
      sanCritical: true,
      lifetimeS: 3600,
      keyType: 'ec',
    },
  );
  assert.equal(sink.counts.get('identity.failures'), 3);
  assert.equal(sink.counts.get('identity.rotations'), 1);
});

test("Istio's CA is trusted by its root only, and RSA keys are made where wanted", async (t) => {
  const ca = new MeshCa('istiod');
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'good.pem'), ca.pem);
  writeFileSync(join(folder, 'bad.pem'), new MeshCa().pem);
  const fake = await FakeIstioCa.start(
    t,
    ca.issue(undefined, { dnsNames: ['istiod.istio-system.svc'], commonName: 'istiod' }),
  );
  fake.token = '';
  const options = {
    ...caOptions,
    address: `127.0.0.1:${fake.port}`,
    serverName: 'istiod.istio-system.svc',
    key: { kind: 'rsa', bits: 2048 } as const,
    outputFolder: join(folder, 'out'),
  };
  const { signal } = new AbortController();
  await assert.rejects(requestFromIstioCa({ ...options, rootPath: join(folder, 'bad.pem') }, signal), /UNAVAILABLE/);
  assert.equal(fake.calls.length, 0);
  const identity = await requestFromIstioCa({ ...options, rootPath: join(folder, 'good.pem') }, signal);
  assert.ok(keyFits(identity));
  assert.match(identity.key, /BEGIN RSA PRIVATE KEY/);
  assert.equal(fake.calls[0]?.keyType, 'rsa');
  const { statSync } = await import('node:fs');
  assert.equal(statSync(join(folder, 'out', 'key.pem')).mode & 0o777, 0o600);
});

test('the development CA is one for all of a user, and nobody else reads it', async (t) => {
  const folder = join(temporaryFolder(t), 'pillion', 'ca');
  const [first, second] = await Promise.all([openDevelopmentCa(folder), openDevelopmentCa(folder)]);
  const [a, b] = await Promise.all([first.issue(ID), second.issue(ID)]);
  assert.equal(a.roots, b.roots);
  const { chmodSync, readdirSync, statSync } = await import('node:fs');
  assert.deepEqual(readdirSync(folder), ['ca.pem']);
  assert.equal(statSync(join(folder, 'ca.pem')).mode & 0o777, 0o600);
  assert.equal(statSync(folder).mode & 0o777, 0o700);
  chmodSync(join(folder, 'ca.pem'), 0o644);
  assert.equal((await (await openDevelopmentCa(folder)).issue(ID)).roots, a.roots);
  assert.equal(statSync(join(folder, 'ca.pem')).mode & 0o777, 0o600);
  writeFileSync(join(folder, 'ca.pem'), 'nothing');
  await assert.rejects(openDevelopmentCa(folder), /is no development CA/);
});

test('a pair that does not fit replaces nothing, and is told once', async (t) => {
  const folder = temporaryFolder(t);
  const ca = new MeshCa();
  const names = { chain: 'cert-chain.pem', key: 'key.pem', roots: 'root-cert.pem' };
  const good = ca.issue(ID);
  writePair(folder, good, ca.pem, names);
  const lines: string[] = [];
  let said = (): void => {};
  const source = new FileSecrets({
    identity: { chain: join(folder, names.chain), key: join(folder, names.key), roots: join(folder, names.roots) },
    log: (_level, message) => {
      lines.push(message);
      said();
    },
    debounceMs: 20,
  });
  const sink = start(t, { source, rotate() {} });
  const first = await sink.identity();
  const told = new Promise<void>((resolve) => {
    said = resolve;
  });
  const other = ca.issue(ID);
  writeFileSync(join(folder, names.key), other.key);
  await told;
  assert.match(lines[0] ?? '', /private_key does not belong to certificate_chain.*what was served before stays/);
  assert.equal((await sink.identity()).chain, first.chain);
  writeFileSync(join(folder, names.chain), other.chain);
  assert.ok(keyFits(await sink.identity(first)));
  // Several roots at once: both CAs of a migration are trusted.
  const both = `${ca.pem}${new MeshCa('next').pem}`;
  writeFileSync(join(folder, names.roots), both);
  await sink.until(() => (JSON.stringify(sink.secrets.get('ROOTCA')).length > both.length ? true : undefined));
});

test('files that rules name are secrets', async (t) => {
  const folder = temporaryFolder(t);
  const ca = new MeshCa();
  const pair = ca.issue(ID);
  for (const [name, text] of [
    ['a.pem', pair.chain],
    ['a.key', pair.key],
    ['ca.pem', ca.pem],
  ] as const)
    writeFileSync(join(folder, name), text);
  const source = new FileSecrets({ log() {} });
  const sink = new SecretSink();
  source.start(sink);
  t.after(() => source.stop());
  const names = [
    `file-cert:${folder}/a.pem~${folder}/a.key`,
    `file-root:${folder}/ca.pem`,
    'file-root:system',
    `file:${folder}/a.pem`,
    `file:${folder}/missing`,
  ];
  for (const name of names)
    assert.equal(source.subscribe({ type: 'secret', name, configSource: {}, initialFetchTimeoutMs: 0 }), true);
  assert.equal(
    source.subscribe({ type: 'secret', name: 'default', configSource: {}, initialFetchTimeoutMs: 0 }),
    false,
  );
  await sink.until(() => (sink.removed.length > 0 ? true : undefined));
  assert.deepEqual([...sink.secrets.keys()], names.slice(0, 4));
  assert.deepEqual(sink.removed, [`file:${folder}/missing`]);
});

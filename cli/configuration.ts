/** From flags and documents to resources: the Istio compiler and the bootstrap reader behind one source of files. */
import { networkInterfaces } from 'node:os';
import { type Bootstrap, readBootstrap } from '../config/bootstrap.ts';
import { FileSource } from '../config/file_source.ts';
import type { Inputs } from '../config/inputs.ts';
import type { compile } from '../config/istio/compile.ts';
import type {
  CompileInput,
  CompileMode,
  CompileResult,
  PortMapping,
  ProxyIdentity,
  Workload,
} from '../config/istio/target.ts';
import { JwksFetcher } from '../config/jwks_fetcher.ts';
import type { ConfigSource, Resource } from '../config/resources.ts';
import { type NameTableData, readNameTable } from '../proxy/dns/name_table.ts';
import { ConfigError } from '../proxy/config_error.ts';
import type { NodeIdentity } from '../proxy/proxy_options.ts';
import { VERSION } from '../proxy/version.ts';
import type { Logger } from '../proxy/telemetry/log.ts';
import type { Mapping } from './addresses.ts';
import { CommandError, exitCodes } from './exit_codes.ts';
import { chooseIdentity, type IdentityChoice, identitySources } from './identity.ts';
import { type IstiodDiscovery, istiodDiscovery } from './istiod.ts';
import type { Mocks } from './mocks.ts';
import type { ProxyFlags } from './proxy_flags.ts';

/** How long a start or a reload waits for signing keys. */
const KEYS_WAIT_MS = 3000;

export class Configuration {
  readonly #flags: ProxyFlags;
  readonly #mocks: Mocks | undefined;
  readonly #dev: boolean;
  readonly source: FileSource;
  readonly identityChoice: IdentityChoice;
  /** undefined: the configuration comes from files, or from the control plane of a bootstrap. */
  readonly istiod: IstiodDiscovery | undefined;
  /** undefined: nothing is fetched (`validate`). */
  readonly #jwks: JwksFetcher | undefined;
  /** Of the last reading that succeeded. */
  inputs: Inputs | undefined = undefined;
  /** undefined: no Kubernetes or Istio object was there. */
  compiled: CompileResult | undefined = undefined;
  bootstrap: Bootstrap | undefined = undefined;
  identity: ProxyIdentity | undefined = undefined;
  /** Told of the names that the mesh has, with each reading that succeeds. */
  onNames: ((names: NameTableData) => void) | undefined = undefined;
  /** Of the last reading: sentences. */
  warnings: readonly string[] = [];

  constructor(flags: ProxyFlags, options: { readonly dev: boolean; readonly mocks?: Mocks; readonly watch: boolean }) {
    this.istiod = options.dev ? undefined : istiodDiscovery(flags);
    if (flags.paths.length === 0 && flags.configYaml === undefined && this.istiod === undefined) {
      throw new CommandError(
        exitCodes.usage,
        'No configuration was given: name a file or folder with -c PATH (or PILLION_CONFIG_PATH), text with --config-yaml, or istiod with --discovery',
      );
    }
    this.#flags = flags;
    this.#mocks = options.mocks;
    this.#dev = options.dev;
    // Mocks speak plain text.
    const wanted = flags.identity ?? (options.mocks === undefined ? undefined : 'none');
    const chosen = chooseIdentity(wanted, options.dev, process.env, process.cwd());
    // istiod is the CA too, unless somebody else is named.
    this.identityChoice =
      this.istiod !== undefined && wanted === undefined && chosen.kind === 'none'
        ? { kind: 'istio-ca', address: this.istiod.address }
        : chosen;
    this.#jwks = options.watch
      ? new JwksFetcher({ allowLocal: flags.allowLocalJwks, onChange: () => void this.source.recompile() })
      : undefined;
    this.source = new FileSource({
      paths: flags.paths,
      inline: [
        ...(flags.configYaml === undefined ? [] : [{ name: '--config-yaml', text: flags.configYaml }]),
        ...(this.istiod === undefined ? [] : [{ name: '--discovery', text: this.istiod.bootstrap }]),
      ],
      meshPath: flags.meshPath,
      compile: (inputs) => this.#compile(inputs),
      watch: options.watch,
    });
  }

  async #compile(inputs: Inputs): Promise<readonly Resource[]> {
    const { allowUnknownFields } = this.#flags;
    const bootstraps = await Promise.all(
      inputs.bootstraps.map((document) => readBootstrap(document, { allowUnknownFields })),
    );
    const resources = bootstraps.flatMap((bootstrap) => bootstrap.resources);
    const warnings: string[] = [];
    let compiled: CompileResult | undefined;
    let identity: ProxyIdentity | undefined;
    // A bootstrap alone opens what it says and nothing else.
    if (inputs.objects.length > 0 || bootstraps.length === 0) {
      // The compiler is a hundred modules that a bootstrap does not need.
      const istio = await import('../config/istio/compile.ts');
      const workloads = istio.readWorkloads({ objects: inputs.objects, allowUnknownFields });
      if (this.#mocks !== undefined) await this.#mocks.follow(workloads);
      identity = this.#identityIn(workloads, warnings);
      const input: CompileInput = {
        objects: inputs.objects,
        mesh: this.#mesh(inputs),
        proxy: identity,
        domain: 'cluster.local',
        mode: this.#mode(workloads, identity),
        endpointAddress: this.#endpointAddress(),
        dnsCapture: this.#flags.dns !== undefined,
        allowUnknownFields,
        keys: (wanted) => this.#jwks?.get(wanted),
      };
      compiled = await this.#compileWithKeys(istio.compile, input, warnings);
      resources.push(...compiled.resources);
      warnings.push(...compiled.warnings);
    }
    refuseDuplicates(resources);
    this.inputs = inputs;
    this.compiled = compiled;
    if (compiled !== undefined) this.onNames?.(compiled.names);
    this.bootstrap = bootstraps[0];
    this.identity = identity;
    this.warnings = warnings;
    return resources;
  }

  /** Keys that are new are waited for a while, so that no token is refused at the start for want of them. */
  async #compileWithKeys(run: typeof compile, input: CompileInput, warnings: string[]): Promise<CompileResult> {
    const compiled = run(input);
    const { wantedKeys } = compiled;
    const jwks = this.#jwks;
    if (jwks === undefined) return compiled;
    const isNew = wantedKeys.some((wanted) => jwks.get(wanted) === undefined && jwks.problem(wanted) === '');
    const tried = jwks.follow(wantedKeys);
    if (isNew) await Promise.race([tried, new Promise((resolve) => setTimeout(resolve, KEYS_WAIT_MS).unref())]);
    for (const wanted of wantedKeys) {
      if (jwks.get(wanted) !== undefined) continue;
      const reason = jwks.problem(wanted) || 'they have not come yet';
      warnings.push(
        `${wanted.origin}: the keys of issuer "${wanted.issuer}" are not known: ${reason}; its tokens are refused until they are.`,
      );
    }
    return isNew ? run(input) : compiled;
  }

  /** Certificates: of the workload, and those that rules name. @throws {CommandError} */
  identitySources(log: Logger, node: NodeIdentity): Promise<ConfigSource[]> {
    const { identity, inputs, identityChoice: choice } = this;
    // Whoever wrote the bootstrap gives certificates too, unless the flag says otherwise.
    const ofBootstrap = this.compiled === undefined && this.istiod === undefined && this.#flags.identity === undefined;
    const trustDomain = inputs?.mesh?.['trustDomain'] ?? process.env['TRUST_DOMAIN'];
    return identitySources({
      choice: ofBootstrap ? { kind: 'none' } : choice,
      trustDomain: typeof trustDomain === 'string' && trustDomain !== '' ? trustDomain : 'cluster.local',
      namespace: identity?.namespace ?? (process.env['POD_NAMESPACE'] || 'default'),
      serviceAccount: identity?.serviceAccount ?? (process.env['SERVICE_ACCOUNT'] || 'default'),
      environment: process.env,
      node,
      log,
    });
  }

  /** What comes from control planes. @throws {ConfigError} when the bootstrap names one that cannot be used. */
  async dynamicSources(log: Logger): Promise<ConfigSource[]> {
    const { bootstrap } = this;
    if (bootstrap === undefined) return [];
    const { xdsSource } = await import('../config/xds/bootstrap_source.ts');
    const overrides = { ...this.#flags.node, version: VERSION };
    return [
      xdsSource(bootstrap.json, overrides, {
        log: (level, message) => log.log(level, 'config', message),
        headers: this.istiod?.headers,
        ...(this.#flags.dns !== undefined && { onNameTable: (table) => this.onNames?.(readNameTable(table)) }),
      }),
    ];
  }

  #identityIn(workloads: readonly Workload[], warnings: string[]): ProxyIdentity | undefined {
    const { workload: wanted, labels } = this.#flags;
    if (wanted === undefined) {
      if (Object.keys(labels).length === 0) return undefined;
      return { name: '', namespace: 'default', labels, serviceAccount: 'default', ips: [] };
    }
    const found = findWorkload(workloads, wanted);
    if (found === undefined) {
      warnings.push(
        `No Pod, Deployment or WorkloadEntry is named "${wanted.name}" in namespace "${wanted.namespace}"; the proxy stands there without labels or ports`,
      );
    }
    return {
      name: wanted.name,
      namespace: wanted.namespace,
      labels: { ...found?.labels, ...labels },
      serviceAccount: found?.serviceAccount ?? 'default',
      ips: found !== undefined && found.ips.length > 0 ? found.ips : this.#flags.intercept ? machineAddresses() : [],
    };
  }

  /** Listeners of a sidecar log as the mesh says: a flag is put there. */
  #mesh({ mesh = {} }: Inputs): Readonly<Record<string, unknown>> {
    const { accessLog, intercept } = this.#flags;
    if (!intercept || accessLog === undefined) return mesh;
    if (accessLog === 'off') return { ...mesh, accessLogFile: '' };
    return { ...mesh, accessLogFile: '/dev/stdout', accessLogEncoding: accessLog };
  }

  #mode(workloads: readonly Workload[], identity: ProxyIdentity | undefined): CompileMode {
    const hasIdentity = this.identityChoice.kind !== 'none';
    if (this.#flags.intercept) return { kind: 'sidecar', hasIdentity };
    return {
      kind: 'explicit',
      hasIdentity,
      outbound: this.#flags.outbound,
      inbound: this.#inbound(workloads, identity),
      maps: numbered(this.#flags.maps),
      accessLog: this.#accessLog(),
    };
  }

  #inbound(workloads: readonly Workload[], identity: ProxyIdentity | undefined) {
    const { inbound, app } = this.#flags;
    const own = identity === undefined ? undefined : findWorkload(workloads, identity);
    const mock = own === undefined ? undefined : this.#mocks?.address(own);
    return inbound.map(({ ip, port, workloadPort }) => ({
      ip,
      port,
      workloadPort,
      app:
        app === undefined
          ? (mock ?? { ip: '127.0.0.1', port: workloadPort })
          : { ip: app.ip, port: app.port ?? workloadPort },
    }));
  }

  /** On by default for somebody who watches. */
  #accessLog(): 'TEXT' | 'JSON' | undefined {
    const { accessLog } = this.#flags;
    if (accessLog === 'off') return undefined;
    return accessLog ?? (this.#dev ? 'TEXT' : undefined);
  }

  /** Mocks stand in for all workloads; in `dev` without them what has no address is on this machine. */
  #endpointAddress() {
    if (this.#mocks !== undefined) return this.#mocks.address;
    if (!this.#dev) return undefined;
    return (workload: Workload, port: number) => (workload.ips.length === 0 ? { ip: '127.0.0.1', port } : undefined);
  }
}

/** Two local ports for one service port have names of their own. */
function numbered(maps: readonly Mapping[]): PortMapping[] {
  const seen = new Map<string, number>();
  return maps.map((mapping) => {
    const key = `${mapping.host}:${mapping.servicePort}`;
    const index = seen.get(key) ?? 0;
    seen.set(key, index + 1);
    return { ...mapping, index };
  });
}

/** Pods are named after their Deployment: `reviews-v1-6d4f8b7c9d-x2x4z`. */
function findWorkload(
  workloads: readonly Workload[],
  { name, namespace }: { readonly name: string; readonly namespace: string },
): Workload | undefined {
  const near = workloads.filter((workload) => workload.namespace === namespace);
  const deployment = name.replace(/-[a-z0-9]{5,10}-[a-z0-9]{5}$/, '');
  return near.find((workload) => workload.name === name) ?? near.find((workload) => workload.name === deployment);
}

/** Global addresses of this machine: a pod's own. */
function machineAddresses(): string[] {
  const all = Object.values(networkInterfaces()).flatMap((list) => list ?? []);
  return all.filter(({ internal, scopeid }) => !internal && (scopeid ?? 0) === 0).map(({ address }) => address);
}

function refuseDuplicates(resources: readonly Resource[]): void {
  const seen = new Map<string, Resource>();
  for (const resource of resources) {
    const key = `${resource.type} ${resource.name}`;
    const other = seen.get(key);
    if (other !== undefined) {
      throw new ConfigError(
        '',
        `Cannot use ${resource.origin}: the ${resource.type} "${resource.name}" is also in ${other.origin}`,
        { origin: resource.origin },
      );
    }
    seen.set(key, resource);
  }
}

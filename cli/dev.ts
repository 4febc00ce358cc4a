/** `pillion dev`: the mesh's YAML on a laptop, and what happens in it for somebody who watches. */
import { relative } from 'node:path';
import type { ServiceSummary } from '../config/istio/target.ts';
import type { ListenAddress, RunningProxy } from '../proxy/proxy_options.ts';
import { showAddress } from './addresses.ts';
import { Configuration } from './configuration.ts';
import { Mocks } from './mocks.ts';
import { palette, say, wantsColor, warn } from './print.ts';
import type { ProxyFlags } from './proxy_flags.ts';
import { openLog, serve } from './serve.ts';

/** Services that get a curl line of their own. */
const MAX_EXAMPLES = 6;

/** Runs until Ctrl-C. @throws {CommandError} {ConfigError} when it cannot start. */
export async function dev(given: ProxyFlags): Promise<number> {
  const flags = given.paths.length === 0 && given.configYaml === undefined ? { ...given, paths: ['.'] } : given;
  const mocks = flags.mock ? new Mocks() : undefined;
  const configuration = new Configuration(flags, { dev: true, watch: true, ...(mocks !== undefined && { mocks }) });
  try {
    await configuration.source.prepare();
    const { log, reopen } = openLog(flags, 'warning');
    const colors = palette(wantsColor(process.stdout));
    let ready = false;
    let warned = '';
    const tellWarnings = (): void => {
      const text = configuration.warnings.join('\n');
      if (text !== warned) for (const warning of configuration.warnings) warn(`warning: ${warning}`);
      warned = text;
    };
    return await serve(
      {
        flags,
        configuration,
        log,
        admin: flags.admin ?? configuration.bootstrap?.admin ?? { ip: '127.0.0.1', port: 15000 },
        status: flags.status ?? { ip: '127.0.0.1', port: 15021 },
        metrics: flags.metrics ?? { ip: '127.0.0.1', port: 15090 },
        accessLogFlushMs: 0,
        command: [],
        onReady(running) {
          ready = true;
          tellFiles(configuration);
          tellServices(configuration.compiled?.services ?? [], mocks !== undefined);
          tellWarnings();
          tellAddresses(running, configuration);
        },
        onUpdate({ summary, errors }) {
          for (const error of errors) warn(colors.red(`${error}; what was served before goes on`));
          if (summary === '' || !ready) return;
          say(colors.green(`config: ${summary}`));
          tellWarnings();
        },
      },
      reopen,
    );
  } finally {
    mocks?.close();
  }
}

function tellFiles({ inputs }: Configuration): void {
  say('Found');
  for (const [file, what] of inputs?.found ?? []) {
    say(
      `  ${file.startsWith('/') ? relative(process.cwd(), file) : file}: ${what.length === 0 ? 'nothing' : what.join(', ')}`,
    );
  }
}

function tellServices(services: readonly ServiceSummary[], mocked: boolean): void {
  say('');
  say(services.length === 0 ? 'No services' : 'Services');
  const width = Math.max(...services.map(({ shortName }) => shortName.length), 0);
  for (const { shortName, ports, workloads, shapedBy } of services) {
    const where = ports.map(({ number, protocol }) => `${number} ${protocol.toLowerCase()}`).join(', ');
    const behind = workloads.length === 0 ? 'no workloads' : `${mocked ? 'mocks of ' : ''}${workloads.join(', ')}`;
    say(
      `  ${shortName.padEnd(width)}  ${where}  ${behind}${shapedBy.length === 0 ? '' : `  (${shapedBy.join(', ')})`}`,
    );
  }
}

function tellAddresses(running: RunningProxy, { compiled }: Configuration): void {
  say('');
  const outbound = running.addresses.get('outbound');
  for (const [name, address] of running.addresses) {
    if (!name.startsWith('map_')) say(`${name.padEnd(9)} http://${showAddress(address)}`);
  }
  for (const [name, address] of running.addresses) {
    const mapped = /^map_(.+?)_(\d+)(?:_\d+)?$/.exec(name);
    if (mapped !== null) say(`map       ${showAddress(address)} → ${mapped[1]}:${mapped[2]}`);
  }
  if (outbound === undefined || compiled === undefined) return;
  const services = compiled.services.filter(({ ports }) => ports.some(isHttp)).slice(0, MAX_EXAMPLES);
  const hint = mapHint(compiled.services, [...running.addresses.keys()]);
  if (services.length === 0 && hint === undefined) return;
  say('');
  say('Try');
  if (services.length > 0) {
    for (const line of curlLines(outbound, running.addresses.get('admin'), services)) say(`  ${line}`);
  }
  if (hint !== undefined) say(`  ${hint}`);
  say('');
}

const isHttp = ({ protocol }: { protocol: string }): boolean => /^http2?$/i.test(protocol);
const isBytes = ({ protocol }: { protocol: string }): boolean => /^(tcp|tls|https|mongo|redis|mysql)$/i.test(protocol);

/** How to reach the first service that does not speak HTTP and has no local port yet. */
function mapHint(services: readonly ServiceSummary[], names: readonly string[]): string | undefined {
  for (const { host, namespace, shortName, ports } of services) {
    const port = ports.find(isBytes);
    if (port === undefined || names.some((name) => name.startsWith(`map_${host}_${port.number}`))) continue;
    const name = shortName.includes('.') ? shortName : `${shortName}.${namespace}`;
    const local = port.number < 1024 ? port.number + 10_000 : port.number;
    return `--map 127.0.0.1:${local}=${name}:${port.number} opens a local port for ${shortName} (${port.protocol})`;
  }
  return undefined;
}

/** The first service in both ways of asking, the others in one. */
function curlLines(
  outbound: ListenAddress,
  admin: ListenAddress | undefined,
  services: readonly ServiceSummary[],
): string[] {
  const proxy = `http://${showAddress(outbound)}`;
  const urls = services.map(({ shortName, ports }) => `http://${shortName}:${ports.find(isHttp)?.number}/`);
  return [
    ...services.map(({ shortName, ports }) => `curl -H 'Host: ${shortName}:${ports.find(isHttp)?.number}' ${proxy}/`),
    `http_proxy=${proxy} curl ${urls[0]}`,
    ...(admin === undefined ? [] : [`curl 'http://${showAddress(admin)}/stats?usedonly'`]),
  ];
}

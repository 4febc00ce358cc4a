/** Whether this proxy is to talk to istiod itself: --discovery, or ProxyConfig's discoveryAddress where no file is given. */
import { parse } from 'yaml';
import { istiodBootstrap, istiodHeaders } from '../config/xds/istiod_bootstrap.ts';
import type { Json } from '../config/resources.ts';
import { CommandError, exitCodes } from './exit_codes.ts';
import type { ProxyFlags } from './proxy_flags.ts';

export interface IstiodDiscovery {
  readonly address: string;
  readonly proxyConfig: Json;
  /** An Envoy bootstrap, as text. */
  readonly bootstrap: string;
  readonly headers: () => readonly (readonly [name: string, value: string])[];
}

/** @throws {CommandError} {ConfigError} for an environment that cannot be read. */
export function istiodDiscovery(
  { paths, configYaml, discovery }: Pick<ProxyFlags, 'paths' | 'configYaml' | 'discovery'>,
  environment: NodeJS.ProcessEnv = process.env,
): IstiodDiscovery | undefined {
  if (paths.length > 0 || configYaml !== undefined) {
    if (discovery === undefined) return undefined;
    throw new CommandError(
      exitCodes.usage,
      '--discovery stands alone: istiod gives the configuration that -c PATH would; name its bootstrap with -c, or leave one out',
    );
  }
  const proxyConfig = readProxyConfig(environment['PROXY_CONFIG']);
  const address = discovery ?? proxyConfig['discoveryAddress'];
  if (typeof address !== 'string' || address === '') return undefined;
  return {
    address,
    proxyConfig,
    bootstrap: JSON.stringify(istiodBootstrap({ address, environment, proxyConfig })),
    headers: istiodHeaders(environment),
  };
}

/** JSON or YAML, as the injector writes it. */
function readProxyConfig(text: string | undefined): Json {
  if (text === undefined || text.trim() === '') return {};
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    const [complaint] = (error as Error).message.split('\n');
    throw new CommandError(exitCodes.usage, `Cannot read PROXY_CONFIG: ${complaint}`, { cause: error });
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw new CommandError(exitCodes.usage, 'Cannot use PROXY_CONFIG: the fields of a ProxyConfig are wanted');
  }
  return value as Json;
}

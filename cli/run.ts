/** `pillion run`: the sidecar, or a static proxy from an Envoy bootstrap. */
import { showAddress } from './addresses.ts';
import { Configuration } from './configuration.ts';
import type { ProxyFlags } from './proxy_flags.ts';
import { openLog, serve } from './serve.ts';
import { validate } from './validate.ts';

/** Runs until it is stopped. @throws {CommandError} {ConfigError} when it cannot start. */
export async function run(flags: ProxyFlags, command: readonly string[] = []): Promise<number> {
  if (flags.validateOnly) return validate(flags);
  const configuration = new Configuration(flags, { dev: false, watch: true });
  await configuration.source.prepare();
  const { log, reopen } = openLog(flags, 'info');
  const mesh = configuration.compiled !== undefined || configuration.istiod !== undefined;
  const warn = (): void => {
    for (const warning of configuration.warnings) log.log('warning', 'config', warning);
  };
  warn();
  return serve(
    {
      flags,
      configuration,
      log,
      admin: flags.admin ?? configuration.bootstrap?.admin ?? (mesh ? { ip: '127.0.0.1', port: 15000 } : undefined),
      status: flags.status ?? (mesh ? { ip: '0.0.0.0', port: 15021 } : undefined),
      metrics: flags.metrics ?? (mesh ? { ip: '0.0.0.0', port: 15090 } : undefined),
      accessLogFlushMs: 1000,
      command,
      onReady(running) {
        for (const [name, address] of running.addresses) {
          log.log('info', 'main', `${name} listens on ${showAddress(address)}`);
        }
      },
      onUpdate({ summary, errors }) {
        for (const error of errors) log.log('error', 'config', `${error}; what was served before goes on`);
        if (summary === '') return;
        // A control plane may change endpoints a thousand times a second.
        const isQuiet = summary.split(', ').every((part) => part.includes('endpoint list'));
        log.log(isQuiet ? 'debug' : 'info', 'config', summary);
        warn();
      },
    },
    reopen,
  );
}

/** The command line: which command, with which flags. Each command is a file beside this one, loaded when it is wanted. */
import { Command, CommanderError } from 'commander';
import { addCaptureFlags } from './capture_flags.ts';
import { ConfigError } from '../proxy/config_error.ts';
import { CommandError, exitCodes } from './exit_codes.ts';
import { warn } from './print.ts';
import { addProxyFlags, readProxyFlags } from './proxy_flags.ts';

const EXAMPLES = `
Examples:
  pillion dev examples/shop --mock      a mesh on this machine, with mock backends
  pillion run -c mesh/ --workload web.default --inbound 0.0.0.0:15006=8080
  pillion -c envoy.yaml                 an Envoy bootstrap; "run" may be left out
  pillion run -c mesh/ -- node app.js   the application too, once the proxy serves
  pillion validate -c mesh/             check, open no port
`;
const EXIT_CODES = `
Exit codes: 0 fine or stopped, 1 failed, 2 wrong usage, 3 invalid configuration,
4 cannot listen, 6 drain time passed, 130 second Ctrl-C; of "run -- CMD": CMD's.
Every flag has an environment variable: PILLION_ and its name in capitals.
Signals: SIGTERM and SIGINT drain and stop, SIGQUIT stops at once, SIGHUP reads the
files again, SIGUSR2 opens the logs again; SIGUSR1 is the application's.
`;

type Values = Readonly<Record<string, string>>;

/** `command`: what stands behind `--`. */
function program(command: readonly string[] | undefined, end: (code: number) => void): Command {
  const root = new Command('pillion')
    .description('A service-mesh sidecar proxy: Istio and Envoy configuration, no cluster needed.')
    .addHelpText('before', EXAMPLES)
    .addHelpText('after', EXIT_CODES)
    .helpCommand(true)
    .showSuggestionAfterError(true)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'pillion: ')) });
  root.hook('preAction', (_root, action) => {
    if (command === undefined) return;
    if (action.name() !== 'run')
      throw new CommandError(exitCodes.usage, `"-- COMMAND" belongs to "run", not to "${action.name()}"`);
    if (command.length === 0)
      throw new CommandError(exitCodes.usage, 'After "--" a command is wanted: run -c mesh/ -- node server.js');
  });
  const proxyCommand = (name: string, says: string, options = {}): Command =>
    addProxyFlags(root.command(name, options).description(says).argument('[path...]', 'as -c'));
  proxyCommand('run', 'run the sidecar or a static proxy', { isDefault: true })
    .option('--version', 'print the version')
    .action(async (paths: string[], values: Values & { version?: true }) => {
      if (values.version) return end((await import('./version.ts')).version('text'));
      end(await (await import('./run.ts')).run(readProxyFlags(values, paths), command ?? []));
    });
  proxyCommand('dev', 'run YAML on this machine, print what happens (default: this folder)')
    .option('--mock', 'start an echo backend for every workload')
    .action(async (paths: string[], values: Values) =>
      end(await (await import('./dev.ts')).dev(readProxyFlags(values, paths))),
    );
  proxyCommand('validate', 'build the whole configuration, open no port').action(
    async (paths: string[], values: Values) =>
      end(await (await import('./validate.ts')).validate(readProxyFlags(values, paths))),
  );
  addCaptureFlags(
    root.command('capture').description("write the iptables rules that lead a pod's connections through the proxy"),
  ).action(async (values) => end((await import('./capture.ts')).capture(values)));
  root
    .command('echo')
    .description('an HTTP backend that answers what it was asked; /status/N /delay/MS /bytes/N /stream/N')
    .option('--listen <address:port>', 'where', '127.0.0.1:8080')
    .option('--workload <name>', 'its name in answers', 'echo')
    .option('--workload-version <version>', 'its version in answers', 'v1')
    .action(async (values) => end(await (await import('./echo.ts')).echo(values)));
  root
    .command('healthcheck')
    .description('exit 0 if the proxy is ready, else 1')
    .option('--url <url>', 'what to ask', 'http://127.0.0.1:15021/healthz/ready')
    .action(async ({ url }: Values) => end(await (await import('./readiness.ts')).healthcheck(url as string)));
  root
    .command('wait')
    .description('wait until the proxy is ready: exit 0, or 1 after the time')
    .option('--url <url>', 'what to ask', 'http://127.0.0.1:15021/healthz/ready')
    .option('--timeout <duration>', 'how long', '60s')
    .action(async ({ url, timeout }: Values) =>
      end(await (await import('./readiness.ts')).wait(url as string, timeout as string)),
    );
  root
    .command('version')
    .description('print the version')
    .option('-o, --output <format>', 'text or json', 'text')
    .action(async ({ output }: Values) => end((await import('./version.ts')).version(output as string)));
  return root;
}

/** @returns the exit code. */
async function main(all: readonly string[]): Promise<number> {
  let code: number = exitCodes.fine;
  const cut = all.indexOf('--');
  const parameters = cut < 0 ? all : all.slice(0, cut);
  const command = cut < 0 ? undefined : all.slice(cut + 1);
  try {
    await program(command, (ended) => {
      code = ended;
    }).parseAsync(parameters, { from: 'user' });
    return code;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.fine : exitCodes.usage;
    if (error instanceof CommandError) {
      warn(error.message);
      return error.exitCode;
    }
    if (error instanceof ConfigError) {
      const { configSentence } = await import('../config/file_source.ts');
      warn(configSentence(error));
      return exitCodes.config;
    }
    throw error;
  }
}

process.exitCode = await main(process.argv.slice(2));
// Sockets and threads that are still closing have nothing more to say.
process.stdout.write('', () => process.exit());

/** Envoy 1.40's command-line flags beside our own of the same name: which are used, and which only accepted. */

export interface EnvoyFlag {
  /** As commander wants it. */
  readonly flags: string;
  readonly says: string;
  /** Accepted with one warning: it means nothing here. */
  readonly ignored?: true;
}

const used = (flags: string, says: string): EnvoyFlag => ({ flags, says });
const ignored = (flags: string): EnvoyFlag => ({ flags, says: 'as in Envoy; without effect here', ignored: true });

/** `-c/--config-path`, `--concurrency`, `-l/--log-level` and `--version` are in proxy_flags.ts and main.ts. */
export const envoyFlags: readonly EnvoyFlag[] = [
  used('--config-yaml <text>', 'configuration as text, read after the files'),
  used('--mode <mode>', 'serve, or validate: check the configuration and exit'),
  used('--component-log-level <list>', 'log levels by component: admin:debug,dns:trace'),
  used('--log-path <file>', "Pillion's own log goes to a file instead of stderr"),
  used('--log-format <format>', "lines of Pillion's own log, with spdlog's placeholders: '[%T][%l][%n] %v'"),
  used('--admin-address-path <file>', 'write the real admin address there'),
  used('--drain-time-s <seconds>', 'how long draining takes, and a graceful stop may (5)'),
  used('--drain-strategy <strategy>', 'gradual, or immediate: all answers ask to close at once (immediate)'),
  used('--parent-shutdown-time-s <seconds>', 'how long a graceful stop may take, if not --drain-time-s'),
  used('--service-cluster <name>', 'node.cluster'),
  used('--service-node <id>', 'node.id'),
  used('--allow-unknown-static-fields', 'unknown fields in files are no error'),
  used('--allow-unknown-fields', 'the older name of --allow-unknown-static-fields'),
  ignored('--reject-unknown-dynamic-fields'),
  ignored('--ignore-unknown-dynamic-fields'),
  ignored('--skip-deprecated-logs'),
  ignored('--log-format-escaped'),
  ignored('--log-stacktrace-single-entry'),
  ignored('--enable-fine-grain-logging'),
  ignored('--restart-epoch <epoch>'),
  ignored('--hot-restart-version'),
  ignored('--disable-hot-restart'),
  ignored('--use-dynamic-base-id'),
  ignored('--base-id <id>'),
  ignored('--base-id-path <path>'),
  ignored('--skip-hot-restart-on-no-parent'),
  ignored('--skip-hot-restart-parent-stats'),
  ignored('--socket-path <path>'),
  ignored('--socket-mode <mode>'),
  ignored('--service-zone <zone>'),
  ignored('--local-address-ip-version <version>'),
  ignored('--file-flush-interval-msec <ms>'),
  ignored('--file-flush-min-size-kb <kb>'),
  ignored('--enable-mutex-tracing'),
  ignored('--disable-extensions <list>'),
  ignored('--cpuset-threads'),
  ignored('--enable-core-dump'),
  ignored('--stats-tag <tag>'),
];

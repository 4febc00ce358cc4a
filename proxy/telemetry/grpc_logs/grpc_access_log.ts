/** Loggers to Envoy's access log service on a data thread: one stream a service, shared by all that name it. */
import type { FormatInput } from '../../http/formatter.ts';
import type { AccessLog } from '../access_log.ts';
import { ProtobufWriter } from '../protobuf_writer.ts';
import { tagReader } from '../tracing/custom_tags.ts';
import type { GrpcLogConfig } from './grpc_log_config.ts';
import { GrpcLogger, type GrpcLoggerOptions } from './grpc_logger.ts';
import { writeEntry } from './log_entry.ts';

/** A logger that was not used for so long lets its stream go. */
const SWEEP_MS = 60_000;

export class GrpcAccessLogs {
  readonly #options: GrpcLoggerOptions;
  readonly #loggers = new Map<string, GrpcLogger>();
  readonly #writer = new ProtobufWriter();
  #isSwept = false;

  constructor(options: GrpcLoggerOptions) {
    this.#options = options;
  }

  /** @param filter undefined: every stream */
  create(config: GrpcLogConfig, filter: ((input: FormatInput) => boolean) | undefined): AccessLog {
    const { service, entries } = config;
    const key = JSON.stringify([entries, service]);
    const parts = {
      ...config,
      customTags: config.customTags.map(({ tag, value }) => [tag, tagReader(value)] as const),
    };
    const writer = this.#writer;
    return {
      log: (input) => {
        if (filter !== undefined && !filter(input)) return;
        writer.reset();
        writeEntry(writer, input, parts);
        const logger = this.#loggers.get(key) ?? this.#start(key, config);
        logger.add(writer.message);
      },
    };
  }

  /** Resolves when what was logged was sent, or could not be. */
  async end(): Promise<void> {
    const loggers = [...this.#loggers.values()];
    this.#loggers.clear();
    await Promise.all(loggers.map((logger) => logger.end()));
  }

  #start(key: string, { service, entries }: GrpcLogConfig): GrpcLogger {
    const logger = new GrpcLogger(service, entries, this.#options);
    this.#loggers.set(key, logger);
    if (!this.#isSwept) {
      this.#isSwept = true;
      setInterval(() => this.#sweep(), SWEEP_MS).unref();
    }
    return logger;
  }

  #sweep(): void {
    for (const [key, logger] of this.#loggers) {
      if (logger.isEmpty && !logger.wasUsed) {
        this.#loggers.delete(key);
        void logger.end();
      } else logger.wasUsed = false;
    }
  }
}

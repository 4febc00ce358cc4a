/** Durations in format strings. Source: envoy docs, "Access logging", COMMON_DURATION. */
import { ConfigError } from '../config_error.ts';
import type { Command } from './format_commands.ts';
import type { StreamInfo } from './stream_info.ts';

/** undefined: the end was not reached. */
export function wholeMs(fromMs: number, toMs: number): number | undefined {
  return toMs === 0 ? undefined : Math.max(0, Math.round(toMs - fromMs));
}

/** Points of a stream's life; 0: not reached, undefined: not known. */
const POINTS: Readonly<Record<string, (info: StreamInfo) => number | undefined>> = {
  DS_CX_BEG: ({ connection }) => connection.startMs,
  DS_CX_END: ({ connection }) => connection.endMs,
  DS_HS_BEG: ({ connection }) => connection.handshakeStartMs,
  DS_HS_END: ({ connection }) => connection.handshakeEndMs,
  DS_RX_BEG: (info) => info.startMs,
  DS_RX_HDR_END: (info) => info.requestHeadMs,
  DS_RX_END: (info) => info.requestCompleteMs,
  US_CX_BEG: (info) => info.upstreamConnection?.connectStartMs,
  US_CX_END: (info) => info.upstreamConnection?.startMs,
  US_HS_END: (info) => info.upstreamConnection?.handshakeEndMs,
  US_TX_BEG: (info) => info.upstreamFirstByteSentMs,
  US_TX_END: (info) => info.upstreamLastByteSentMs,
  US_RX_BEG: (info) => info.upstreamFirstByteReceivedMs,
  US_RX_BODY_BEG: (info) => info.upstreamFirstByteReceivedMs,
  US_RX_END: (info) => info.upstreamLastByteReceivedMs,
  DS_TX_BEG: (info) => info.firstByteSentMs,
  DS_TX_END: (info) => info.endMs,
};
const PER_MS: Readonly<Record<string, number>> = { ms: 1, us: 1000, ns: 1_000_000 };

/** `START:END:PRECISION` */
export function commonDuration(argument: string): Command {
  const [start = '', end = '', precision = ''] = argument.split(':');
  const factor = Object.hasOwn(PER_MS, precision) ? PER_MS[precision] : undefined;
  if (factor === undefined || start === '' || end === '') {
    throw new ConfigError(
      '',
      `"COMMON_DURATION(${argument})": START:END:PRECISION is wanted, PRECISION one of ms, us, ns`,
    );
  }
  // Other names are points that a filter may set: none does.
  const [from, to] = [start, end].map((name) => (Object.hasOwn(POINTS, name) ? POINTS[name] : undefined));
  return ({ info }) => {
    const [fromMs, toMs] = [from?.(info), to?.(info)];
    return fromMs === undefined || toMs === undefined || fromMs === 0 || toMs === 0
      ? undefined
      : Math.trunc((toMs - fromMs) * factor);
  };
}

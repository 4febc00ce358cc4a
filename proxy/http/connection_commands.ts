/** Access-log commands about the connections below a stream: how they were made, measured and cut. Source: Envoy docs "Access logging". */
import type { ConnectionInfo } from '../net/connection_info.ts';
import { roundTripMs } from '../net/round_trip.ts';
import type { Command } from './format_commands.ts';
import { wholeMs } from './format_durations.ts';
import type { StreamInfo } from './stream_info.ts';

type OfConnection = (connection: ConnectionInfo) => ReturnType<Command>;

/** Both sides have them. */
const common: Readonly<Record<string, OfConnection>> = {
  DETECTED_CLOSE_TYPE: ({ closeType }) => closeType ?? 'Normal',
  LOCAL_CLOSE_REASON: ({ localCloseReason }) => localCloseReason,
};

const downstreamOnly: Readonly<Record<string, OfConnection>> = {
  DOWNSTREAM_HANDSHAKE_DURATION: ({ startMs, handshakeEndMs }) =>
    handshakeEndMs === undefined ? undefined : wholeMs(startMs, handshakeEndMs),
  DOWNSTREAM_CX_RTT: ({ carrier }) => Math.trunc(roundTripMs(carrier?.descriptor ?? -1) ?? 0),
  TLS_JA3_FINGERPRINT: ({ fingerprints }) => fingerprints?.ja3,
  TLS_JA4_FINGERPRINT: ({ fingerprints }) => fingerprints?.ja4,
  // QUIC alone says what it had to send again.
  BYTES_RETRANSMITTED: () => 0,
  PACKETS_RETRANSMITTED: () => 0,
};

const upstreamOnly: Readonly<Record<string, OfConnection>> = {
  UPSTREAM_SERVER_NAME: ({ requestedServerName }) => requestedServerName,
};

const downstream = ({ connection }: StreamInfo): ConnectionInfo => connection;
const upstream = ({ upstreamConnection }: StreamInfo): ConnectionInfo | undefined => upstreamConnection;

/** By command name. */
export const connectionCommands: Readonly<Record<string, () => Command>> = {
  ...of(downstream, prefixed('DOWNSTREAM_', common)),
  ...of(upstream, prefixed('UPSTREAM_', common)),
  // A connection that was to be passed on had, for Envoy, an upstream that closed.
  UPSTREAM_DETECTED_CLOSE_TYPE:
    () =>
    ({ info }) =>
      info.upstreamConnection?.closeType ??
      (info.upstreamConnection !== undefined || info.protocol === '' ? 'Normal' : undefined),
  ...of(downstream, downstreamOnly),
  ...of(upstream, upstreamOnly),
};

function prefixed(prefix: string, commands: Readonly<Record<string, OfConnection>>): Record<string, OfConnection> {
  return Object.fromEntries(Object.entries(commands).map(([name, read]) => [prefix + name, read]));
}

function of(
  side: (info: StreamInfo) => ConnectionInfo | undefined,
  commands: Readonly<Record<string, OfConnection>>,
): Record<string, () => Command> {
  return Object.fromEntries(
    Object.entries(commands).map(([name, read]) => [
      name,
      () => (input) => {
        const connection = side(input.info);
        return connection === undefined ? undefined : read(connection);
      },
    ]),
  );
}

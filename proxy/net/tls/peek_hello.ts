/** Waits for a ClientHello where no listener filter has looked for it: TLS has to know what ALPN the client offers. */
import { readClientHello } from '../client_hello.ts';
import type { SocketStream } from '../socket_stream.ts';

/** Longer hellos are refused, as by the TLS inspector. */
const MAX_HELLO_BYTES = 16 * 1024;

export interface PeekedHello {
  /** All that was read; kept. */
  readonly bytes: Buffer;
  /** The client's end was read too. */
  readonly ended: boolean;
  /** Empty too where the bytes are no hello: TLS itself says so then. */
  readonly applicationProtocols: readonly string[];
}

/** `first`: read before, borrowed. One callback comes, at once or later, unless abandoned. */
export function peekHello(
  stream: SocketStream,
  first: Buffer | undefined,
  on: { peeked(hello: PeekedHello): void; left(): void },
): { abandon(): void } {
  let held: Buffer = first === undefined ? Buffer.alloc(0) : Buffer.from(first);
  let over = false;
  const end = (ended: boolean, applicationProtocols: readonly string[]): void => {
    over = true;
    on.peeked({ bytes: held, ended, applicationProtocols });
  };
  const look = (): void => {
    const result = readClientHello(held, MAX_HELLO_BYTES);
    if (typeof result !== 'number') end(false, typeof result === 'string' ? [] : result.applicationProtocols);
  };
  stream.onData = (bytes) => {
    if (over) return;
    held = Buffer.concat([held, bytes]);
    look();
  };
  stream.onEnd = () => {
    if (!over) end(true, []);
  };
  stream.onClose = () => {
    if (over) return;
    over = true;
    on.left();
  };
  if (held.length > 0) look();
  return {
    abandon() {
      over = true;
    },
  };
}

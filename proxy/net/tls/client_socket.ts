/**
 * A TLS client over a connected socket, as `tls.connect` makes it, without what that adds for those who do not judge the
 * server themselves: an error object for each session that is resumed, the chain as objects, key sizes, a copy of all
 * options. 50 µs a connection.
 */
import type { Socket } from 'node:net';
import { type SecureContext, TLSSocket, type TLSSocketOptions } from 'node:tls';

export interface ClientOptions {
  readonly context: SecureContext;
  /** '': none is sent. No address. */
  readonly serverName: string;
  readonly alpn: string[] | undefined;
  /** OpenSSL's form, or Node's. */
  readonly session: Buffer | undefined;
}

/** What Node has below; `secure` comes before anything judges the server. */
interface Inner {
  readonly _handle: InnerHandle | null;
  _releaseControl(): void;
  _start(): void;
  setServername(name: string): void;
  secureConnecting: boolean;
}

interface InnerHandle {
  verifyError(): unknown;
  enableSessionCallbacks(): void;
  onnewsession: (id: Buffer, session: Buffer) => void;
}

/** The handshake begins at once. `secure` when it is through; `error`, `end` and `close` as they come. */
export function startClient(socket: Socket, { context, serverName, alpn, session }: ClientOptions): TLSSocket {
  const options: TLSSocketOptions = {
    secureContext: context,
    isServer: false,
    requestCert: true,
    rejectUnauthorized: false,
    ...(alpn !== undefined && { ALPNProtocols: alpn }),
    ...(session !== undefined && { session }),
  };
  const tls = new TLSSocket(socket, options);
  const inner = tls as unknown as Inner;
  inner._releaseControl();
  if (serverName !== '') inner.setServername(serverName);
  tls.once('secure', () => {
    inner.secureConnecting = false;
  });
  inner._start();
  return tls;
}

/** What OpenSSL found wrong with the chain, an error with a code; undefined: nothing. Not of a resumed session. */
export function chainError(tls: TLSSocket): unknown {
  const { _handle: handle } = tls as unknown as Inner;
  if (handle === null) return 'CERT_UNTRUSTED';
  return handle.verifyError() ?? undefined;
}

/** The next session that the server gives (TLS 1.3 gives them after the handshake). */
export function onceSession(tls: TLSSocket, keep: (session: Buffer) => void): void {
  const { _handle: handle } = tls as unknown as Inner;
  if (handle === null) return;
  handle.onnewsession = (_, session) => {
    handle.onnewsession = ignore;
    keep(session);
  };
  handle.enableSessionCallbacks();
}

const ignore = (): void => {};
